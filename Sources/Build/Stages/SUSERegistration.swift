import Definition

/// What a header of the agent zypper says of a product of SUSE Linux Enterprise, whose packages are given to who is registered.
///
/// The program SUSEConnect (SUSEConnect(8)) registers the tree that is being made, and leaves the registration's services and
/// credentials in it, so that `zypper` in `%post` has the same packages.
struct SUSERegistration {
    /// Variables of ``script``.
    let environment: [String: String]
    /// The version as addresses and products have it: without a service pack of zero.
    let version: String

    /// - Returns: nil where the header names no product.
    /// - Throws: `BuildError` with the line that is missing or wrong.
    init?(_ header: Header) throws {
        let named = ["product", "user", "regcode", "registerurl", "modules", "productpgp"].filter { header[$0] != nil }
        guard !named.isEmpty else { return nil }
        guard let product = header["product"] else {
            throw BuildError.refused("bootstrap: zypper has a line \"\(named[0])\" but none \"product: SLES\" that says what is registered")
        }
        // A registration server of one's own knows its machines.
        if header["registerurl"] == nil {
            for key in ["user", "regcode"] where header[key] == nil {
                throw BuildError.refused("bootstrap: zypper with a product needs a line \"\(key): ...\" (or \"registerurl: ...\")")
            }
        }
        guard let release = header["osversion"] else {
            throw BuildError.refused("bootstrap: zypper with a product needs a line \"osversion: ...\"")
        }
        let numbers = release.split(separator: ".", omittingEmptySubsequences: false).map { Int($0) }
        guard numbers.count <= 2, let first = numbers.first, let major = first, let minor = numbers.count == 2 ? numbers[1] : 0 else {
            throw BuildError.refused("osversion: \(release) is not a version of SUSE Linux Enterprise, such as 15.6")
        }
        guard header["productpgp"] != nil || header["mirrorurl"] != nil else {
            throw BuildError.refused(
                "bootstrap: zypper with a product needs a line \"productpgp: ...\" with the product's key, or \"mirrorurl: ...\"")
        }
        guard major <= 12 || header["mirrorurl"] != nil else {
            throw BuildError.refused(
                "bootstrap: zypper with a product newer than 12 needs a line \"mirrorurl: ...\" with the address of its installer")
        }
        let version = minor > 0 ? "\(major).\(minor)" : "\(major)"
        func complete(_ name: String, _ version: String) throws -> String {
            let name = name.replacing("%{OSVERSION}", with: version)
            let parts = name.split(separator: "/", omittingEmptySubsequences: false)
            guard parts.count <= 3, parts.allSatisfy({ !$0.isEmpty && !$0.contains(where: \.isWhitespace) }) else {
                throw BuildError.refused("\"\(name)\" is no product: NAME, NAME/VERSION or NAME/VERSION/ARCHITECTURE")
            }
            return parts.count == 1 ? "\(name)/\(version)" : name
        }
        // Modules of version 12 have no service packs.
        let modules = try (header["modules"] ?? "").split { $0 == "," || $0.isWhitespace }.map {
            try complete(String($0), major == 12 ? "12" : version)
        }
        self.version = version
        environment = [
            "PRODUCT": try complete(product, version), "MODULES": modules.joined(separator: " "), "ACCOUNT": header["user"] ?? "",
            "CODE": header["regcode"] ?? "", "SERVER": header["registerurl"] ?? "", "KEY": header["productpgp"] ?? "",
            "DATABASE": major <= 12 ? "var/lib/rpm" : "usr/lib/sysimage/rpm",
            "OTHER_DATABASE": major <= 12 ? "usr/lib/sysimage/rpm" : "var/lib/rpm",
            "DATABASE_LINK": major <= 12 ? "../../../var/lib/rpm" : "../../usr/lib/sysimage/rpm",
        ]
    }

    /// For a shell that has `$ROOTFS`, `in_root` and a temporary directory `$repository`.
    static let script = """
        register() {
            product=$1
            shift
            case "$product" in
                */*/*) ;;
                *) product=$product/$(uname -m) ;;
            esac
            SUSEConnect --root "$ROOTFS" --product "$product" "$@"
        }
        if [ -n "$KEY" ]; then
            # The host's rpm may have its database in the other place.
            mkdir -p "$ROOTFS/$DATABASE" "$ROOTFS/${OTHER_DATABASE%/*}"
            [ -e "$ROOTFS/$OTHER_DATABASE" ] || ln -s "$DATABASE_LINK" "$ROOTFS/$OTHER_DATABASE"
            printf '%s\\n' "$KEY" > "$repository/product.asc"
            rpmkeys --root "$ROOTFS" --import "$repository/product.asc"
        fi
        set --
        [ -z "$ACCOUNT" ] || set -- "$@" --email "$ACCOUNT"
        [ -z "$CODE" ] || set -- "$@" --regcode "$CODE"
        [ -z "$SERVER" ] || set -- "$@" --url "$SERVER"
        register "$PRODUCT" "$@"
        for module in $MODULES; do register "$module"; done
        in_root refresh --services

        """
}
