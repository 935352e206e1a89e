/// The image that a document is about.
public struct InventorySubject: Sendable {
    public var name: String
    /// Hexadecimal digits of SHA-256 that tell this image's content from another's.
    public var identity: String
    /// RFC 3339.
    public var created: String
    /// Name and version of this program.
    public var tool: (name: String, version: String)

    public init(name: String, identity: String, created: String, tool: (name: String, version: String)) {
        (self.name, self.identity, self.created, self.tool) = (name, identity, created, tool)
    }
}
