/// The name of an image in a registry: `[registry/]name[:tag][@digest]`.
public struct ImageReference: Hashable, Sendable, CustomStringConvertible {
    /// Host with port; `index.docker.io` for Docker Hub.
    public let registry: String
    /// Repository, such as `library/debian`.
    public let repository: String
    public let tag: String
    public let digest: Digest?
    /// As it was written.
    public let text: String

    public static let dockerHub = "index.docker.io"

    /// Whether a registry's name is one of Docker Hub's.
    static func isDockerHub(_ registry: String) -> Bool { registry == dockerHub || registry == "docker.io" }

    /// - Throws: ``RegistryError/badReference(_:why:)``
    public init(_ text: String) throws(RegistryError) {
        self.text = text
        var rest = Substring(text)
        if rest.hasPrefix("//") { rest = rest.dropFirst(2) }
        var digest: Digest?
        if let at = rest.firstIndex(of: "@") {
            digest = Digest(rest[rest.index(after: at)...])
            guard digest != nil else {
                throw .badReference(text, why: "the digest is not of the form sha256:<64 lower-case hexadecimal digits>")
            }
            rest = rest[..<at]
        }
        var registry = Self.dockerHub
        if let slash = rest.firstIndex(of: "/") {
            let first = rest[..<slash]
            if first.contains(".") || first.contains(":") || first == "localhost" {
                registry = first == "docker.io" ? Self.dockerHub : String(first)
                rest = rest[rest.index(after: slash)...]
            }
        }
        var tag = "latest"
        if let colon = rest.lastIndex(of: ":") {
            tag = String(rest[rest.index(after: colon)...])
            rest = rest[..<colon]
        }
        try Self.check(tag: tag, repository: rest, registry: registry, text: text)
        self.registry = registry
        self.tag = tag
        self.digest = digest
        repository = registry == Self.dockerHub && !rest.contains("/") ? "library/\(rest)" : String(rest)
    }

    private static func check(
        tag: String, repository: Substring, registry: String, text: String
    ) throws(RegistryError) {
        func isWord(_ character: Character) -> Bool { character.isASCII && (character.isLetter || character.isNumber) }
        guard repository.allSatisfy({ !$0.isUppercase }) else {
            throw .badReference(text, why: "repository name must be lowercase")
        }
        let parts = repository.split(separator: "/", omittingEmptySubsequences: false)
        let valid = parts.allSatisfy { part in
            guard let first = part.first, let last = part.last else { return false }
            return isWord(first) && isWord(last) && part.allSatisfy { isWord($0) || "._-".contains($0) }
        }
        guard valid, repository.utf8.count <= 255 else {
            throw .badReference(text, why: "a repository name has small letters, digits and single . _ - between them")
        }
        guard let first = tag.first, tag.utf8.count <= 128, isWord(first) || first == "_",
            tag.allSatisfy({ isWord($0) || "._-".contains($0) })
        else { throw .badReference(text, why: "\"\(tag)\" is not a tag") }
        guard !registry.isEmpty, registry.allSatisfy({ isWord($0) || ".-:[]".contains($0) }) else {
            throw .badReference(text, why: "\"\(registry)\" is not a host name")
        }
    }

    /// What a manifest is asked for with: the digest where there is one.
    public var manifestReference: String { digest?.description ?? tag }

    /// The host that serves the registry's interface.
    var host: String { registry == Self.dockerHub ? "registry-1.docker.io" : registry }

    public var description: String {
        "\(registry)/\(repository)" + (digest.map { "@\($0)" } ?? ":\(tag)")
    }

    /// File name that `pull` gives the image: last part of the name and the tag.
    public var defaultFileName: String {
        let name = repository.split(separator: "/").last.map(String.init) ?? repository
        if let digest { return "\(name)_\(digest.algorithm).\(digest.hex).sif" }
        return "\(name)_\(tag).sif"
    }
}
