import CLinux
import Glibc

/// Whole-file and path operations with typed errors.
public enum Files {
    /// Reads a file into memory.
    /// - Parameter limit: bytes; a larger file is an `EFBIG` error, so that a hostile file cannot take all memory.
    public static func read(_ path: String, limit: Int = 64 << 20) throws(SystemError) -> [UInt8] {
        try read(OwnedDescriptor.open(path), name: path, limit: limit)
    }

    /// Reads the rest of an open file into memory.
    public static func read(
        _ file: borrowing OwnedDescriptor, name: String, limit: Int = 64 << 20
    ) throws(SystemError) -> [UInt8] {
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            let raw = file.rawValue
            let count = retryingOnInterrupt { Glibc.read(raw, &chunk, chunk.count) }
            if count < 0 { throw .last("read \(name)") }
            if count == 0 { return bytes }
            guard bytes.count + count <= limit else { throw SystemError("read \(name)", errno: EFBIG) }
            bytes.append(contentsOf: chunk[..<count])
        }
    }

    /// Reads a text file; bytes that are not UTF-8 are replaced.
    public static func readText(_ path: String, limit: Int = 16 << 20) throws(SystemError) -> String {
        String(decoding: try read(path, limit: limit), as: UTF8.self)
    }

    /// Writes all bytes to an open file.
    public static func writeAll(
        _ bytes: UnsafeRawBufferPointer, to descriptor: CInt, name: String
    ) throws(SystemError) {
        var rest = bytes
        while let base = rest.baseAddress, rest.count > 0 {
            let count = retryingOnInterrupt { Glibc.write(descriptor, base, rest.count) }
            if count < 0 { throw .last("write \(name)") }
            rest = UnsafeRawBufferPointer(rebasing: rest[count...])
        }
    }

    /// Writes all bytes to an open file.
    public static func writeAll(_ bytes: [UInt8], to descriptor: CInt, name: String) throws(SystemError) {
        try bytes.span.bytes.withUnsafeBytes { bytes throws(SystemError) in
            try writeAll(bytes, to: descriptor, name: name)
        }
    }

    /// Writes all bytes at a position.
    public static func writeAll(
        _ bytes: UnsafeRawBufferPointer, to descriptor: CInt, at offset: UInt64, name: String
    ) throws(SystemError) {
        var rest = bytes
        var position = off_t(offset)
        while let base = rest.baseAddress, rest.count > 0 {
            let count = retryingOnInterrupt { pwrite(descriptor, base, rest.count, position) }
            if count < 0 { throw .last("write \(name)") }
            position += off_t(count)
            rest = UnsafeRawBufferPointer(rebasing: rest[count...])
        }
    }

    /// Lets the kernel begin to write a range of a file to the disk, so that fsync(2) has little to wait for later.
    public static func beginWriting(_ descriptor: CInt, at offset: UInt64, count: UInt64) {
        clinux_begin_writing(descriptor, offset, count)
    }

    /// Copies bytes from one file to another in the kernel (copy_file_range(2)).
    /// - Returns: bytes copied, 0 or fewer where that cannot be done.
    public static func copyRange(
        from source: CInt, at position: UInt64, to target: CInt, at targetPosition: UInt64, count: UInt64
    ) -> Int {
        Int(clinux_copy_range(source, Int64(position), target, Int64(targetPosition), min(count, 1 << 30)))
    }

    /// Copies a file; the copy appears when it is complete.
    public static func copy(_ source: String, to target: String, mode: mode_t) throws(SystemError) {
        let input = try OwnedDescriptor.open(source)
        let size = UInt64(try status(input.rawValue, name: source).st_size)
        let output = try OutputFile(target, mode: mode)
        var done: UInt64 = 0
        while done < size {
            let count = copyRange(from: input.rawValue, at: done, to: output.descriptor, at: done, count: size - done)
            if count <= 0 { break }
            done += UInt64(count)
        }
        var buffer = [UInt8](repeating: 0, count: 1 << 20)
        while done < size {
            let raw = input.rawValue
            let count = pread(raw, &buffer, buffer.count, off_t(done))
            if count < 0 { throw .last("read \(source)") }
            if count == 0 { throw SystemError("read \(source), which has become shorter", errno: EIO) }
            try buffer.span.bytes.withUnsafeBytes { bytes throws(SystemError) in
                try writeAll(UnsafeRawBufferPointer(rebasing: bytes[..<count]), to: output.descriptor, at: done, name: target)
            }
            done += UInt64(count)
        }
        try output.commit()
    }

    /// Creates or replaces a small file in one step: a new file beside it is renamed into place.
    public static func replace(_ path: String, with bytes: [UInt8], mode: mode_t = 0o644) throws(SystemError) {
        let temporary = "\(path).\(getpid()).\(UInt32.random(in: 0 ... .max)).tmp"
        do throws(SystemError) {
            let file = try OwnedDescriptor.open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode: mode)
            try bytes.span.bytes.withUnsafeBytes { bytes throws(SystemError) in
                try writeAll(bytes, to: file.rawValue, name: path)
            }
            if rename(temporary, path) != 0 { throw SystemError.last("rename to \(path)") }
        } catch {
            unlink(temporary)
            throw error
        }
    }

    /// `stat` of a path, nil where there is none.
    public static func status(_ path: String, followLinks: Bool = true) -> stat? {
        var status = stat()
        let result = followLinks ? stat(path, &status) : lstat(path, &status)
        return result == 0 ? status : nil
    }

    /// `fstat` of an open file.
    public static func status(_ descriptor: CInt, name: String) throws(SystemError) -> stat {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw .last("stat \(name)") }
        return status
    }

    public static func isDirectory(_ path: String) -> Bool {
        status(path).map { $0.st_mode & S_IFMT == S_IFDIR } ?? false
    }

    /// Whether what is written to a directory takes memory: tmpfs or ramfs.
    public static func isOnMemory(_ path: String) -> Bool { [0x0102_1994, 0x8584_58f6].contains(fileSystemType(path)) }

    /// The number of the kind of file system that a path is on, see statfs(2); nil where there is no such path.
    public static func fileSystemType(_ path: String) -> UInt32? {
        var status = statfs()
        return statfs(path, &status) == 0 ? UInt32(truncatingIfNeeded: status.f_type) : nil
    }

    /// Makes a directory and its missing parents.
    public static func makeDirectories(_ path: String, mode: mode_t = 0o755) throws(SystemError) {
        if mkdir(path, mode) == 0 || errno == EEXIST && isDirectory(path) { return }
        guard errno == ENOENT, let slash = path.lastIndex(of: "/"), slash != path.startIndex else {
            throw .last("mkdir \(path)")
        }
        try makeDirectories(String(path[..<slash]), mode: mode)
        if mkdir(path, mode) != 0 && errno != EEXIST { throw .last("mkdir \(path)") }
    }

    /// Names in a directory without `.` and `..`, in no order.
    public static func entries(_ path: String) throws(SystemError) -> [String] {
        guard let stream = opendir(path) else { throw .last("open directory \(path)") }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != "." && name != ".." { names.append(name) }
        }
        return names
    }

    /// Removes a tree without following links; what cannot be removed is left.
    public static func removeTree(_ path: String) {
        if unlink(path) == 0 || errno == ENOENT { return }
        if rmdir(path) == 0 { return }
        // A directory may forbid its owner to change it.
        if !isLink(path) { chmod(path, 0o700) }
        if let names = try? entries(path) {
            for name in names { removeTree(path + "/" + name) }
        }
        rmdir(path)
    }

    private static func isLink(_ path: String) -> Bool {
        status(path, followLinks: false).map { $0.st_mode & S_IFMT == S_IFLNK } ?? true
    }

    /// Target of a symbolic link.
    public static func readLink(_ path: String) -> String? {
        var buffer = [CChar](repeating: 0, count: 4097)
        let count = readlink(path, &buffer, 4096)
        return text(buffer, count: count)
    }

    /// Target of a symbolic link that is open with O_PATH.
    public static func readLink(_ descriptor: CInt) -> String? {
        var buffer = [CChar](repeating: 0, count: 4097)
        let count = readlinkat(descriptor, "", &buffer, 4096)
        return text(buffer, count: count)
    }

    private static func text(_ buffer: [CChar], count: Int) -> String? {
        guard count >= 0 else { return nil }
        return buffer.withUnsafeBytes { String(decoding: UnsafeRawBufferPointer(rebasing: $0[..<count]), as: UTF8.self) }
    }

    /// The path without links, nil where it does not exist.
    public static func resolved(_ path: String) -> String? {
        guard let real = realpath(path, nil) else { return nil }
        defer { free(real) }
        return String(cString: real)
    }

    public static var workingDirectory: String? {
        guard let name = getcwd(nil, 0) else { return nil }
        defer { free(name) }
        return String(cString: name)
    }

    /// Opens `path` as a process whose root is `directory` would see it: links and `..` cannot leave the tree.
    /// Falls back to nothing: openat2(2) has been there since Linux 5.6.
    public static func open(
        inRoot directory: CInt, _ path: String, _ flags: CInt
    ) throws(SystemError) -> OwnedDescriptor {
        let resolveInRoot: UInt64 = 0x10
        let raw = retryingOnInterrupt {
            clinux_openat2(directory, path, UInt64(UInt32(bitPattern: flags | O_CLOEXEC)), 0, resolveInRoot)
        }
        guard raw >= 0 else { throw .last("open \(path) in the container") }
        return OwnedDescriptor(raw)
    }

    /// Opens what is below a directory itself: a link or a mount on the way is an error.
    public static func open(
        beneath directory: CInt, _ path: String, _ flags: CInt
    ) throws(SystemError) -> OwnedDescriptor {
        let resolveNoMounts: UInt64 = 0x1
        let resolveNoLinks: UInt64 = 0x4
        let resolveBeneath: UInt64 = 0x8
        let raw = retryingOnInterrupt {
            clinux_openat2(
                directory, path, UInt64(UInt32(bitPattern: flags | O_CLOEXEC)), 0, resolveNoMounts | resolveNoLinks | resolveBeneath)
        }
        guard raw >= 0 else { throw .last("open \(path)") }
        return OwnedDescriptor(raw)
    }
}
