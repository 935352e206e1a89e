import BlockIO
import FoundationEssentials
import Linux
import Messages
import SIF

/// Where an image comes from: an object of a SIF that `commit` writes, with one entry for each commit.
public struct ImageHistory: Codable, Sendable {
    /// One commit.
    public struct Entry: Codable, Sendable {
        /// SHA-256 of the root file system that the changes were laid over, hexadecimal.
        public var parent: String
        /// Name of the image file at that time, without its directory.
        public var name: String
        /// Who has committed: account and host.
        public var author: String
        /// RFC 3339.
        public var time: String
        public var message: String
        /// Numbers of paths.
        public var added: Int
        public var changed: Int
        public var removed: Int
        public var tool: String
    }

    /// The oldest first.
    public var commits: [Entry] = []

    /// Name of the object.
    static let objectName = "history.json"

    public init() {}

    /// What a SIF says of itself; nothing where it says nothing.
    public init(_ path: String) throws {
        let source = try FileSource(path: path)
        guard SIFFile.isSIF(source) else { throw PersistenceError.refused("\(path) is not a SIF") }
        let sif = try SIFFile(reading: source)
        guard let object = sif.first(.genericJSON, named: Self.objectName) else { return }
        guard object.size < 64 << 20,
            let decoded = try? JSONDecoder().decode(
                ImageHistory.self, from: Data(try source.bytes(at: UInt64(object.offset), count: Int(object.size))))
        else { throw PersistenceError.refused("\(path): its object \(Self.objectName) makes no sense") }
        self = decoded
    }

    public var json: JSONValue {
        .object([
            (
                "commits",
                .array(
                    commits.map { entry in
                        .object([
                            ("parent", .string(entry.parent)), ("name", .string(entry.name)), ("author", .string(entry.author)),
                            ("time", .string(entry.time)), ("message", .string(entry.message)), ("added", .number(entry.added)),
                            ("changed", .number(entry.changed)), ("removed", .number(entry.removed)), ("tool", .string(entry.tool)),
                        ])
                    })
            )
        ])
    }
}
