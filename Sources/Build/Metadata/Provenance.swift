import Messages

/// How an image was made: a statement of in-toto ("in-toto Attestation Framework", Statement v1) with a predicate of SLSA ("SLSA
/// Provenance v1").
public struct Provenance {
    /// Something that went into the image.
    public struct Dependency {
        public var uri: String
        public var name: String
        /// `sha256:…`; nil where it has no digest, such as what a bootstrap tool fetches.
        public var digest: String?

        public init(uri: String, name: String, digest: String?) { (self.uri, self.name, self.digest) = (uri, name, digest) }
    }

    /// The definition file, or a generated one.
    public var definition: String
    /// Values of build arguments.
    public var arguments: [String: String]
    /// There is no time in it: it would make two builds differ.
    public var dependencies: [Dependency]

    public init(definition: String, arguments: [String: String] = [:], dependencies: [Dependency]) {
        (self.definition, self.arguments, self.dependencies) = (definition, arguments, dependencies)
    }

    /// The object's name in a SIF.
    public static let objectName = "provenance.json"
    static let buildType = "urn:singularity:build:v1"

    /// - Parameters:
    ///   - subject: name of the image's file system.
    ///   - digest: SHA-256 of its bytes, hexadecimal digits.
    func statement(subject: String, digest: String) -> JSONValue {
        let resolved = dependencies.map { dependency -> JSONValue in
            var members: [(key: String, value: JSONValue)] = [("name", .string(dependency.name)), ("uri", .string(dependency.uri))]
            if let text = dependency.digest, let colon = text.firstIndex(of: ":") {
                members.append(
                    ("digest", .object([(String(text[..<colon]), .string(String(text[text.index(after: colon)...])))])))
            }
            return .object(members)
        }
        return .object([
            ("_type", .string("https://in-toto.io/Statement/v1")),
            ("subject", .array([.object([("name", .string(subject)), ("digest", .object([("sha256", .string(digest))]))])])),
            ("predicateType", .string("https://slsa.dev/provenance/v1")),
            (
                "predicate",
                .object([
                    (
                        "buildDefinition",
                        .object([
                            ("buildType", .string(Self.buildType)),
                            (
                                "externalParameters",
                                .object([("definition", .string(definition)), ("arguments", .object(sorted: arguments))])
                            ), ("resolvedDependencies", .array(resolved)),
                        ])
                    ),
                    (
                        "runDetails",
                        .object([
                            (
                                "builder",
                                .object([
                                    ("id", .string("urn:singularity")),
                                    ("version", .object([("singularity", .string(ProgramVersion.text))])),
                                ])
                            ), ("metadata", .object([])),
                        ])
                    ),
                ])
            ),
        ])
    }
}
