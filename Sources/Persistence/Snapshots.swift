import Glibc
import Linux
import Runtime

/// States of a writable partition or data container that can be gone back to.
///
/// Each is a file of its own in a directory beside the image: the file system without a SIF around it, with its holes. Where
/// the host's file system shares blocks (reflinks), it costs nothing; elsewhere it costs what is used.
public struct Snapshots {
    private let image: String

    /// A state.
    public struct Snapshot: Sendable {
        public var name: String
        /// Unix seconds.
        public var time: Int64
        /// Bytes on disk.
        public var size: UInt64
    }

    public init(_ path: String) throws {
        guard let image = Files.resolved(path) else { throw PersistenceError.refused("\(path): \(SystemError.last("open").reason)") }
        self.image = image
    }

    private var folder: String { image + ".snapshots" }

    private func path(_ name: String) throws -> String {
        guard !name.isEmpty, !name.hasPrefix("."), !name.contains("/"), name.utf8.count < 200 else {
            throw PersistenceError.refused("\(name) is no name for a snapshot: no slash, and no dot in front")
        }
        return "\(folder)/\(name).img"
    }

    /// The oldest first.
    public func list() throws -> [Snapshot] {
        guard Files.isDirectory(folder) else { return [] }
        return try Files.entries(folder).filter { $0.hasSuffix(".img") }.compactMap { name in
            guard let status = Files.status("\(folder)/\(name)") else { return nil }
            return Snapshot(
                name: String(name.dropLast(4)), time: Int64(status.st_mtim.tv_sec), size: UInt64(status.st_blocks) * 512)
        }.sorted { ($0.time, $0.name) < ($1.time, $1.name) }
    }

    /// Keeps the present state.
    /// - Parameter name: nil for the present time.
    /// - Returns: its name.
    public func take(_ name: String?) throws -> String {
        let writable = try WritableImage(image)
        let name = name ?? CivilTime(Int64(time(nil))).rfc3339.replacing(":", with: "-")
        let target = try path(name)
        guard Files.status(target, followLinks: false) == nil else {
            throw PersistenceError.refused("there is a snapshot \(name) of \(image) already; choose another name")
        }
        // Without its key, what a crash has left can't be repaired: it is kept as it is.
        let held = try writable.hold(forWriting: true, asItIs: writable.isLocked, "snapshot")
        try Files.makeDirectories(folder, mode: 0o700)
        let output = try OutputFile(target, mode: 0o600)
        try held.copyContent(to: output.descriptor, name: target)
        try output.commit()
        return name
    }

    /// Goes back to a state. What was there since is lost, and the snapshot stays.
    public func restore(_ name: String) throws {
        let source = try path(name)
        let snapshot: OwnedDescriptor
        do { snapshot = try OwnedDescriptor.open(source, O_RDONLY) } catch {
            let known = try list().map(\.name).joined(separator: ", ")
            throw PersistenceError.refused("there is no snapshot \(name) of \(image)" + (known.isEmpty ? "" : "; there are \(known)"))
        }
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

    public func remove(_ name: String) throws {
        guard unlink(try path(name)) == 0 else { throw PersistenceError.refused("there is no snapshot \(name) of \(image)") }
        rmdir(folder)
    }
}
