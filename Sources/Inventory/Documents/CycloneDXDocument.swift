import Messages

/// A bill of materials in the form of CycloneDX 1.5, as JSON.
public enum CycloneDXDocument {
    public static func json(_ inventory: ImageInventory, of subject: InventorySubject) -> JSONValue {
        let components = inventory.packages.enumerated().map { index, package -> JSONValue in
            let url = package.url(inventory.distribution)
            var members: [(key: String, value: JSONValue)] = [
                ("type", .string("library")), ("bom-ref", .string("\(url)#\(index)")), ("name", .string(package.name)),
                ("version", .string(package.version)),
            ]
            if let supplier = package.supplier { members.append(("publisher", .string(supplier))) }
            if let license = package.license, !license.isEmpty {
                members.append(("licenses", .array([.object([("license", .object([("name", .string(license))]))])])))
            }
            members.append(("purl", .string(url)))
            if let homepage = package.homepage, homepage.contains("://") {
                members.append(
                    ("externalReferences", .array([.object([("type", .string("website")), ("url", .string(homepage))])])))
            }
            members.append(
                ("properties", .array([.object([("name", .string("singularity:source")), ("value", .string(package.source))])])))
            return .object(members)
        }
        return .object([
            ("bomFormat", .string("CycloneDX")), ("specVersion", .string("1.5")),
            ("serialNumber", .string("urn:uuid:\(uuid(subject.identity))")),
            ("version", .number(1)),
            (
                "metadata",
                .object([
                    ("timestamp", .string(subject.created)),
                    (
                        "tools",
                        .object([
                            (
                                "components",
                                .array([
                                    .object([
                                        ("type", .string("application")), ("name", .string(subject.tool.name)),
                                        ("version", .string(subject.tool.version)),
                                    ])
                                ])
                            )
                        ])
                    ), ("component", .object([("type", .string("container")), ("name", .string(subject.name))])),
                ])
            ), ("components", .array(components)),
        ])
    }

    /// A UUID of version 8 (RFC 9562): made of the content, so that the same image has the same.
    private static func uuid(_ digits: String) -> String {
        var text = Array(digits.prefix(32))
        guard text.count == 32 else { return digits }
        text[12] = "8"
        text[16] = "a"
        return [0..<8, 8..<12, 12..<16, 16..<20, 20..<32].map { String(text[$0]) }.joined(separator: "-")
    }
}
