import BlockIO
import Glibc
import Linux

/// Creates or changes a SIF file. Nothing is on disk before ``commit()``, but for the payloads of new objects.
public final class SIFWriter {
    /// The file with all that has been added so far.
    public private(set) var file: SIFFile
    /// The file that is written; the caller's.
    public let descriptor: CInt
    /// Keeps ``descriptor`` open where it is not the caller's.
    private let shared: SharedDescriptor?
    private let now: Int64

    /// Starts a new SIF in an empty file.
    /// - Parameters:
    ///   - descriptor: open for reading and writing; it stays the caller's.
    ///   - time: Unix seconds that everything in it gets; nil makes a deterministic image, with neither id nor times.
    ///   - id: 16 bytes; ignored for a deterministic image.
    public init(creating descriptor: CInt, name: String, time: Int64?, id: [UInt8], launchScript: String = Header.defaultLaunchScript)
        throws(SIFError)
    {
        guard launchScript.utf8.count < Header.launchScriptSize else { throw .refused("launch script too large") }
        var header = Header()
        header.launchScript = launchScript
        file = SIFFile(name: name, header: header)
        if let time { file.stamp(id: id, created: time) }
        self.descriptor = descriptor
        shared = nil
        now = time ?? Header.noTime
    }

    /// Changes an existing SIF.
    /// - Parameter time: Unix seconds for what is changed; a deterministic image gets none.
    public init(changing descriptor: SharedDescriptor, name: String, time: Int64) throws(SIFError) {
        do { file = try SIFFile(reading: try FileSource(descriptor, name: name)) } catch let error as SIFError { throw error } catch let
            error as SystemError
        { throw .system(error) } catch {
            throw .corrupt(name: name, what: "\(error)")
        }
        self.descriptor = descriptor.rawValue
        shared = descriptor
        now = file.header.isDeterministic ? Header.noTime : time
    }

    /// Adds an object with its payload.
    public func add(_ object: NewObject, _ payload: [UInt8]) throws(SIFError) {
        let descriptor = try file.reserve(object, size: Int64(payload.count), now: now)
        do {
            try payload.span.bytes.withUnsafeBytes { bytes throws(SystemError) in
                try Files.writeAll(bytes, to: self.descriptor, at: UInt64(descriptor.offset), name: file.name)
            }
        } catch { throw .system(error) }
    }

    /// Adds an object whose payload the caller writes at the position that is handed to `write`.
    /// - Parameter write: returns the bytes that it has written.
    public func add<E: Error>(_ object: NewObject, writing write: (UInt64) throws(E) -> UInt64) throws {
        let descriptor = try file.reserve(object, size: 0, now: now)
        file.setSize(of: descriptor.id, to: Int64(try write(UInt64(descriptor.offset))))
    }

    /// Adds an object with the rest of a stream as its payload.
    public func add(_ object: NewObject, _ stream: some ByteStream) throws {
        try add(object) { position in
            let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 64)
            defer { buffer.deallocate() }
            var done: UInt64 = 0
            while true {
                let count = try stream.fill(buffer)
                if count == 0 { return done }
                try Files.writeAll(
                    UnsafeRawBufferPointer(rebasing: buffer[..<count]), to: descriptor, at: position + done,
                    name: file.name)
                done += UInt64(count)
            }
        }
    }

    /// Changes the size of the last object, whose bytes are the caller's affair.
    public func resize(id: UInt32, to size: Int64) { file.setSize(of: id, to: size) }

    /// Frees an object's slot. Its bytes stay in the file, as the peers leave them.
    public func remove(id: UInt32) throws(SIFError) { try file.remove(id: id, now: now) }

    /// Puts an object into another group.
    public func setGroup(id: UInt32, to group: UInt32) throws(SIFError) { try file.setGroup(id: id, to: group, now: now) }

    /// Makes a system partition the one that is run.
    public func setPrimary(id: UInt32) throws(SIFError) { _ = try file.setPrimary(id: id, now: now) }

    /// Writes the descriptor table and then the header.
    public func commit() throws(SIFError) {
        let head = file.headBytes
        do throws(SystemError) {
            try head.table.span.bytes.withUnsafeBytes { bytes throws(SystemError) in
                try Files.writeAll(bytes, to: descriptor, at: UInt64(file.header.descriptorsOffset), name: file.name)
            }
            try head.header.span.bytes.withUnsafeBytes { bytes throws(SystemError) in
                try Files.writeAll(bytes, to: descriptor, at: 0, name: file.name)
            }
        } catch { throw .system(error) }
    }

    /// The same, with what was added on disk before the table names it, and all when it returns: a crash leaves the old objects or
    /// the new ones.
    public func commitToDisk() throws(SIFError) {
        guard fsync(descriptor) == 0 else { throw .system(.last("write \(file.name)")) }
        try commit()
        guard fsync(descriptor) == 0 else { throw .system(.last("write \(file.name)")) }
    }
}
