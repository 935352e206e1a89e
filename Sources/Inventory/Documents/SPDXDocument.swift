import Messages

/// A bill of materials in the form of SPDX 2.3, as JSON.
public enum SPDXDocument {
    public static func json(_ inventory: ImageInventory, of subject: InventorySubject) -> JSONValue {
        let none = JSONValue.string("NOASSERTION")
        let image = "SPDXRef-Image"
        let packages = inventory.packages.enumerated().map { index, package -> JSONValue in
            .object([
                ("name", .string(package.name)), ("SPDXID", .string(identifier(package, index))), ("versionInfo", .string(package.version)),
                ("supplier", package.supplier.map { .string("Organization: \($0)") } ?? none), ("downloadLocation", none),
                ("filesAnalyzed", .bool(false)), ("homepage", package.homepage.flatMap { $0.contains("://") ? .string($0) : nil } ?? none),
                ("sourceInfo", .string("found in \(package.source)")), ("licenseConcluded", none),
                // Only what is surely an expression may stand here; the rest is a comment.
                ("licenseDeclared", none), ("licenseComments", .string(package.license ?? "")), ("copyrightText", none),
                (
                    "externalRefs",
                    .array([
                        .object([
                            ("referenceCategory", .string("PACKAGE-MANAGER")), ("referenceType", .string("purl")),
                            ("referenceLocator", .string(package.url(inventory.distribution))),
                        ])
                    ])
                ),
            ])
        }
        let root = JSONValue.object([
            ("name", .string(subject.name)), ("SPDXID", .string(image)), ("downloadLocation", none), ("filesAnalyzed", .bool(false)),
            ("licenseConcluded", none), ("licenseDeclared", none), ("copyrightText", none), ("primaryPackagePurpose", .string("CONTAINER")),
            ("comment", .string(inventory.distribution.name)),
        ])
        func relation(_ from: String, _ kind: String, _ to: String) -> JSONValue {
            .object([("spdxElementId", .string(from)), ("relationshipType", .string(kind)), ("relatedSpdxElement", .string(to))])
        }
        let contained = inventory.packages.enumerated().map { relation(image, "CONTAINS", identifier($1, $0)) }
        return .object([
            ("spdxVersion", .string("SPDX-2.3")), ("dataLicense", .string("CC0-1.0")), ("SPDXID", .string("SPDXRef-DOCUMENT")),
            ("name", .string(subject.name)), ("documentNamespace", .string("https://spdx.org/spdxdocs/singularity-\(subject.identity)")),
            (
                "creationInfo",
                .object([
                    ("created", .string(subject.created)),
                    ("creators", .array([.string("Tool: \(subject.tool.name)-\(subject.tool.version)")])),
                ])
            ),
            ("packages", .array([root] + packages)),
            ("relationships", .array([relation("SPDXRef-DOCUMENT", "DESCRIBES", image)] + contained)),
        ])
    }

    private static func identifier(_ package: InstalledPackage, _ index: Int) -> String {
        let name = package.name.map { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "." || $0 == "-") ? $0 : "-" }
        return "SPDXRef-Package-\(package.ecosystem.rawValue)-\(String(name))-\(index)"
    }
}
