import Definition
import Linux

/// A program of the host that fills an empty root file system with a distribution.
struct BootstrapTool {
    /// Shell commands that work on `$ROOTFS`. Values come as variables, never as text.
    var script: String
    var environment: [String: String]
    /// Names the result in the keys of layers.
    var identity: String {
        "tool " + script + environment.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }.joined(separator: "\n")
    }

    init(_ header: Header) throws {
        func value(_ key: String) throws -> String {
            guard let value = header[key] else { throw BuildError.refused("bootstrap: \(header.agent) needs a line \"\(key): ...\"") }
            return value
        }
        environment = ["INCLUDE": header["include"] ?? ""]
        switch header.agent {
        case "debootstrap":
            environment["MIRROR"] = try value("mirrorurl")
            environment["RELEASE"] = try value("osversion")
            script = try Self.debian()
        case "busybox":
            environment["SOURCE"] = try value("mirrorurl")
            try Self.need(["busybox"], package: "busybox-static")
            script = Self.busybox
        case "dnf", "yum":
            environment["MIRROR"] = try value("mirrorurl")
            environment["RELEASE"] = header["osversion"] ?? ""
            if environment["MIRROR"]?.contains("%{OSVERSION}") == true { environment["RELEASE"] = try value("osversion") }
            environment["UPDATE"] = header["updateurl"] ?? ""
            environment["SETOPT"] = header["setopt"] ?? ""
            let tool = try Self.need(["dnf", "microdnf", "yum"], package: "dnf")
            try Self.need(["rpm"], package: "rpm")
            environment["TOOL"] = tool
            script = Self.dnf
        case "zypper":
            let registration = try SUSERegistration(header)
            environment["MIRROR"] = try registration == nil ? value("mirrorurl") : header["mirrorurl"] ?? ""
            environment["RELEASE"] = registration?.version ?? header["osversion"] ?? ""
            environment["UPDATE"] = header["updateurl"] ?? ""
            environment["OTHER"] = header.entries.filter { $0.key.hasPrefix("otherurl") }.map(\.value).joined(separator: " ")
            try Self.need(["zypper"], package: "zypper")
            try Self.need(["rpm"], package: "rpm")
            if let registration {
                try Self.need(["SUSEConnect"], package: "SUSEConnect or suseconnect-ng (of SUSE)")
                environment.merge(registration.environment) { $1 }
            }
            script = Self.zypper(registers: registration != nil)
        default:
            environment["CONFIG"] = header["confurl"] ?? ""
            try Self.need(["pacman"], package: "pacman (Debian: pacman-package-manager)")
            script = Self.arch
        }
    }

    /// The first of several programs that the host has.
    @discardableResult
    private static func need(_ names: [String], package: String) throws -> String {
        for name in names {
            for folder in ["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/local/sbin"] {
                if Files.status("\(folder)/\(name)") != nil { return "\(folder)/\(name)" }
            }
        }
        throw BuildError.refused(
            "this bootstrap agent needs the program \(names.joined(separator: " or ")), which this host lacks: install the package \(package)"
        )
    }

    private static func debian() throws -> String {
        let tool = try need(["debootstrap", "mmdebstrap"], package: "debootstrap or mmdebstrap")
        if tool.hasSuffix("mmdebstrap") {
            // It cannot mount all that it wants in a user namespace, and needs no more than the host's devices and processes.
            return """
                set -- --mode=root --variant=minbase --format=directory --skip=check/empty --skip=chroot/mount --skip=output/mknod
                [ -z "$INCLUDE" ] || set -- "$@" --include="$(echo $INCLUDE | tr ' ' ',')"
                mmdebstrap "$@" --extract-hook='mount --rbind /dev "$1/dev" && mount --rbind /proc "$1/proc"' \\
                    --customize-hook='umount -l "$1/dev" "$1/proc"' "$RELEASE" "$ROOTFS" "$MIRROR"
                """
        }
        return """
            set -- --variant=minbase
            [ -z "$INCLUDE" ] || set -- "$@" --include="$(echo $INCLUDE | tr ' ' ',')"
            debootstrap "$@" "$RELEASE" "$ROOTFS" "$MIRROR"
            rm -rf "$ROOTFS/debootstrap"
            """
    }

    private static let busybox = """
        mkdir -p "$ROOTFS/bin" "$ROOTFS/sbin" "$ROOTFS/usr/bin" "$ROOTFS/usr/sbin" "$ROOTFS/etc" "$ROOTFS/root"
        chmod 700 "$ROOTFS/root"
        case "$SOURCE" in
            http://*|https://*) busybox wget -O "$ROOTFS/bin/busybox" "$SOURCE" ;;
            file://*) cp "${SOURCE#file://}" "$ROOTFS/bin/busybox" ;;
            *) cp "$SOURCE" "$ROOTFS/bin/busybox" ;;
        esac
        chmod 755 "$ROOTFS/bin/busybox"
        [ -s "$ROOTFS/bin/busybox" ]
        for name in $("$ROOTFS/bin/busybox" --list-full); do
            [ -e "$ROOTFS/$name" ] || ln -s /bin/busybox "$ROOTFS/$name"
        done
        echo "root:x:0:0:root:/root:/bin/sh" > "$ROOTFS/etc/passwd"
        echo "root:x:0:" > "$ROOTFS/etc/group"
        """

    /// Replaces the version in addresses.
    private static let versions = """
        with_version() { echo "$1" | sed "s/%{OSVERSION}/$RELEASE/g"; }

        """

    /// Scripts of packages need devices. Those of the host are bound in one by one, so that no package changes the host's /dev;
    /// where nothing can be mounted, they are made.
    private static let devices = """
        mkdir -p "$ROOTFS/dev"
        devices="null:3 zero:5 full:7 random:8 urandom:9"
        if mount -t tmpfs -o mode=755 dev "$ROOTFS/dev"; then
            for device in $devices; do
                : > "$ROOTFS/dev/${device%:*}"
                mount --bind "/dev/${device%:*}" "$ROOTFS/dev/${device%:*}"
            done
        else
            for device in $devices; do mknod -m 666 "$ROOTFS/dev/${device%:*}" c 1 "${device#*:}"; done
        fi
        leave() {
            umount -l "$ROOTFS/dev" 2>/dev/null || for device in $devices; do rm -f "$ROOTFS/dev/${device%:*}"; done
            [ -z "$repository" ] || rm -rf "$repository"
        }
        trap leave EXIT

        """

    /// Debian's rpm looks for its database in the home of whoever runs it, as the system has none of its own.
    private static let database = """
        repository=$(mktemp -d)
        case "$(rpm --eval %_dbpath)" in
            "$HOME"/*)
                echo '%_dbpath /var/lib/rpm' > "$repository/.rpmmacros"
                export HOME="$repository" ;;
        esac

        """

    private static let dnf =
        versions + devices + database + """
            printf '[main]\\ncachedir=/var/cache/bootstrap\\nkeepcache=0\\n\\n[base]\\nname=base\\nbaseurl=%s\\nenabled=1\\ngpgcheck=0\\n' "$(with_version "$MIRROR")" > "$repository/base.repo"
            if [ -n "$UPDATE" ]; then
                printf '\\n[updates]\\nname=updates\\nbaseurl=%s\\nenabled=1\\ngpgcheck=0\\n' "$(with_version "$UPDATE")" >> "$repository/base.repo"
            fi
            mkdir -p "$ROOTFS/etc" "$ROOTFS/var/lib/rpm"
            options=""
            for setting in $SETOPT; do options="$options --setopt=$setting"; done
            "$TOOL" -y --installroot="$ROOTFS" --setopt=reposdir="$repository" --releasever="${RELEASE:-0}" --setopt=install_weak_deps=0 $options \\
                install /etc/redhat-release coreutils bash $INCLUDE
            rm -rf "$ROOTFS/var/cache/bootstrap" "$ROOTFS/var/cache/dnf"
            """

    private static func zypper(registers: Bool) -> String {
        versions + devices + database + """
            in_root() { zypper --root "$ROOTFS" ${RELEASE:+--releasever "$RELEASE"} --non-interactive --gpg-auto-import-keys "$@"; }
            [ -z "$MIRROR" ] || in_root addrepo "$(with_version "$MIRROR")" repo-oss
            [ -z "$UPDATE" ] || in_root addrepo "$(with_version "$UPDATE")" repo-update

            """ + (registers ? SUSERegistration.script : "") + """
                number=0
                for url in $OTHER; do
                    number=$((number + 1))
                    in_root addrepo "$(with_version "$url")" "repo-$number"
                done
                in_root refresh
                in_root install --no-recommends --auto-agree-with-licenses aaa_base zypper \(registers ? "SUSEConnect" : "") $INCLUDE
                rm -rf "$ROOTFS/var/cache/zypp/packages"
                """
    }

    /// What pacstrap does, but for its mounts, which need root of the host.
    private static let arch =
        devices + """
            set -- -r "$ROOTFS" --cachedir "$ROOTFS/var/cache/pacman/pkg" --hookdir "$ROOTFS/etc/pacman.d/hooks" --noconfirm
            repository=$(mktemp -d)
            case "$CONFIG" in
                http://*|https://*)
                    if command -v curl >/dev/null; then curl -fsSL -o "$repository/pacman.conf" "$CONFIG"; else wget -qO "$repository/pacman.conf" "$CONFIG"; fi
                    CONFIG=$repository/pacman.conf ;;
            esac
            [ -z "$CONFIG" ] || set -- --config "$CONFIG" "$@"
            mkdir -p "$ROOTFS/var/lib/pacman" "$ROOTFS/var/cache/pacman/pkg" "$ROOTFS/etc/pacman.d" "$ROOTFS/run" "$ROOTFS/tmp"
            chmod 1777 "$ROOTFS/tmp"
            pacman "$@" -Sy base $INCLUDE
            rm -rf "$ROOTFS/var/cache/pacman/pkg"
            mkdir "$ROOTFS/var/cache/pacman/pkg"
            """
}
