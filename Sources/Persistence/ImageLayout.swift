import BlockIO
import Encryption
import Glibc
import Linux
import Runtime
import SIF

/// An image file with a file system in it that can be written to: a SIF with such a partition, or a file that is nothing else.
public struct WritableImage {
    public enum Kind: String, Sendable {
        /// Changes of the image that they are in.
        case overlay
        /// A data container.
        case data
        /// A file system without a SIF around it.
        case bare
    }

    /// Absolute.
    public let path: String
    public let kind: Kind
    public let place: ExtPlace
    /// In a SIF: number of the object.
    public let object: UInt32?
    /// Nothing is behind it in the file: it can grow.
    public let isLast: Bool
    /// Bytes that it may grow to.
    public var size: UInt64 { place.volumeSize }
    public var isEncrypted: Bool { place.encryption != .none }
    /// It is encrypted, and nobody has given a key.
    public var isLocked: Bool { place.encryption == .locked }

    /// Finds the writable part of a file.
    /// - Parameter keys: for an encrypted one; nil where it need not be opened.
    /// - Throws: ``PersistenceError`` where there is none.
    public init(_ given: String, keys: ImageKeys? = nil) throws {
        guard let path = Files.resolved(given) else { throw PersistenceError.refused("\(given): \(SystemError.last("open").reason)") }
        self.path = path
        let source = try FileSource(path: path)
        guard SIFFile.isSIF(source) else {
            let file = try OwnedDescriptor.open(path, O_RDONLY)
            (kind, object, isLast) = (.bare, nil, true)
            let encryption = try ExtPlace.Encryption(of: source, keys)
            if encryption != .none {
                place = ExtPlace(path: path, offset: 0, size: source.size, encryption: encryption)
                return
            }
            guard ExtFormat.isExt(file.rawValue, at: 0) else {
                throw PersistenceError.refused("\(path) is neither a SIF nor an ext file system")
            }
            place = ExtPlace(path: path, offset: 0, size: source.size)
            return
        }
        let sif = try SIFFile(reading: source)
        guard let found = sif.writablePartition, let partition = found.partition else {
            throw PersistenceError.refused(
                sif.descriptors.contains { $0.partition?.type == .data }
                    ? "\(path) is an immutable data container"
                    : "\(path) has no writable partition; `singularity overlay create \(path)` adds one")
        }
        kind = partition.type == .data ? .data : .overlay
        object = found.id
        isLast = found.end == sif.dataEnd
        let slice = try SliceSource(source, offset: UInt64(found.offset), size: UInt64(found.size))
        var encryption = try ExtPlace.Encryption(of: slice, keys)
        if encryption == .none, partition.fileSystem == .raw {
            guard keys == nil else {
                throw PersistenceError.refused(
                    "\(path): object \(found.id) is no encrypted file system of this program, or its restoring was interrupted: restore it again"
                )
            }
            encryption = .locked
        }
        place = ExtPlace(path: path, offset: slice.offset, size: slice.size, encryption: encryption)
    }

    /// The lease of somebody who is about to change it, or to read all of it. It ends with the value.
    /// - Parameter asItIs: also where a crash has left something to be repaired.
    public func hold(forWriting: Bool, asItIs: Bool = false, _ what: String) throws -> HeldImage {
        try HeldImage(self, forWriting: forWriting, asItIs: asItIs, what)
    }

    /// Who writes to it at the moment; nil for nobody.
    public var holder: Lease.Holder? {
        Lease.holder(ImageLease.path(of: path)).flatMap { $0.isAlive ? $0 : nil }
    }

    /// Bytes that it takes on disk.
    public var usedSize: UInt64 {
        guard let file = try? OwnedDescriptor.open(path, O_RDONLY) else { return 0 }
        return SparseCopy.extents(file.rawValue, from: place.offset, count: place.size).reduce(0) { $0 + $1.count }
    }
}

extension SIFFile {
    /// The partition that programs may write to: an overlay of the image, or the data of a data container.
    public var writablePartition: Descriptor? { descriptors.last(where: \.isWritablePartition) }
}

/// A writable image that nobody else changes meanwhile.
public final class HeldImage {
    public let image: WritableImage
    let file: OwnedDescriptor
    private let lease: ImageLease

    init(_ image: WritableImage, forWriting: Bool, asItIs: Bool, _ what: String) throws {
        self.image = image
        do { file = try OwnedDescriptor.open(image.path, forWriting ? O_RDWR : O_RDONLY) } catch {
            throw PersistenceError.refused("\(image.path): \(error.reason)")
        }
        let note = "singularity \(what)"
        lease =
            asItIs
            ? try ImageLease.take(image.path, file: file.rawValue, forWriting: forWriting, note: note)
            : try ExtCheck.lease(image.place, file: file.rawValue, forWriting: forWriting, note: note)
    }

    deinit { lease.release() }
}
