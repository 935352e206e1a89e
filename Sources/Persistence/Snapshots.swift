import Glibc
import Linux
import Runtime

/// States of a writable partition or data container that can be gone back to.
///
/// Each is a file of its own in a directory beside the image: the file system without a SIF around it, with its holes. Where
/// the host's file system shares blocks (reflinks), it costs nothing; elsewhere it costs what is used.
public struct Snapshots {
    private let folder: StateFolder
    private var image: String { folder.image }

    /// A state.
    public struct Snapshot: Sendable {
        public var name: String
        /// Unix seconds.
        public var time: Int64
        /// Bytes on disk.
        public var size: UInt64
    }

    public init(_ path: String) throws {
        folder = try StateFolder(of: path, suffix: ".snapshots", ending: ".img", noun: "snapshot")
    }

    /// The oldest first.
    public func list() throws -> [Snapshot] { try folder.list() }

    /// Keeps the present state.
    /// - Parameter name: nil for the present time.
    /// - Returns: its name.
    public func take(_ name: String?) throws -> String {
        let writable = try WritableImage(image)
        // Without its key, what a crash has left can't be repaired: it is kept as it is.
        let held = try writable.hold(forWriting: true, asItIs: writable.isLocked, "snapshot")
        let (name, target) = try folder.newFile(name)
        let output = try OutputFile(target, mode: 0o600)
        try held.copyContent(to: output.descriptor, name: target)
        try output.commit()
        return name
    }

    /// Goes back to a state. What was there since is lost, and the snapshot stays.
    public func restore(_ name: String) throws {
        let source = try folder.file(name)
        let snapshot: OwnedDescriptor
        do { snapshot = try OwnedDescriptor.open(source, O_RDONLY) } catch { throw folder.unknown(name) }
        let size = UInt64(try Files.status(snapshot.rawValue, name: source).st_size)
        let writable = try WritableImage(image)
        guard size <= writable.place.size else {
            throw PersistenceError.refused(
                "the snapshot \(name) is of \(size >> 20) MiB and the partition of \(writable.place.size >> 20): make it larger first, with `overlay resize`"
            )
        }
        let held = try writable.hold(forWriting: true, asItIs: true, "restore")
        try held.replaceContent(with: snapshot.rawValue, size: size)
    }

    public func remove(_ name: String) throws { try folder.remove(name) }
}
