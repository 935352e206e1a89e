import Foundation

/// Writes tars with whatever is in them, right or wrong (pax format, POSIX.1-2017).
struct Tar {
    private(set) var bytes: [UInt8] = []

    enum Kind: UInt8 {
        case file = 0x30
        case hardLink, symlink, characterDevice, blockDevice, directory, fifo
    }

    mutating func add(
        _ name: String, _ kind: Kind = .file, content: [UInt8] = [], link: String = "", mode: Int = 0o644, uid: Int = 0, gid: Int = 0,
        time: Int = 1_700_000_000, device: (Int, Int) = (0, 0), size: Int? = nil, xattrs: [String: String] = [:]
    ) {
        if !xattrs.isEmpty || name.utf8.count > 99 || link.utf8.count > 99 {
            var records = xattrs.map { Self.record("SCHILY.xattr.\($0.key)", $0.value) }
            if name.utf8.count > 99 { records.append(Self.record("path", name)) }
            if link.utf8.count > 99 { records.append(Self.record("linkpath", link)) }
            let body = records.sorted().joined()
            header("pax", 0x78, size: body.utf8.count, link: "", mode: 0o644, uid: 0, gid: 0, time: 0, device: (0, 0))
            append(Array(body.utf8))
        }
        header(name, kind.rawValue, size: size ?? content.count, link: link, mode: mode, uid: uid, gid: gid, time: time, device: device)
        append(content)
    }

    mutating func directory(_ name: String, mode: Int = 0o755) { add(name, .directory, mode: mode) }

    /// The whole archive.
    var finished: [UInt8] { bytes + [UInt8](repeating: 0, count: 1024) }

    private static func record(_ key: String, _ value: String) -> String {
        let body = " \(key)=\(value)\n"
        var length = body.utf8.count + 1
        while "\(length)".count + body.utf8.count != length { length = "\(length)".count + body.utf8.count }
        return "\(length)\(body)"
    }

    private mutating func append(_ content: [UInt8]) {
        bytes += content
        bytes += [UInt8](repeating: 0, count: (512 - content.count % 512) % 512)
    }

    private mutating func header(
        _ name: String, _ type: UInt8, size: Int, link: String, mode: Int, uid: Int, gid: Int, time: Int, device: (Int, Int)
    ) {
        var block = [UInt8](repeating: 0, count: 512)
        func put(_ text: String, at offset: Int, _ width: Int) {
            for (index, byte) in text.utf8.prefix(width).enumerated() { block[offset + index] = byte }
        }
        func octal(_ value: Int, at offset: Int, _ width: Int) {
            let digits = String(value, radix: 8)
            put(String(repeating: "0", count: max(0, width - 1 - digits.count)) + digits, at: offset, width - 1)
        }
        put(name, at: 0, 100)
        octal(mode, at: 100, 8)
        octal(uid, at: 108, 8)
        octal(gid, at: 116, 8)
        octal(size, at: 124, 12)
        octal(time, at: 136, 12)
        put("        ", at: 148, 8)
        block[156] = type
        put(link, at: 157, 100)
        put("ustar", at: 257, 5)
        put("00", at: 263, 2)
        octal(device.0, at: 329, 8)
        octal(device.1, at: 337, 8)
        let sum = block.reduce(0) { $0 + Int($1) }
        put(String(format: "%06o\0 ", sum), at: 148, 8)
        bytes += block
    }
}

/// A small base image: what every test image stands on.
enum SmallImage {
    static func base() throws -> Tar {
        var tar = Tar()
        for name in ["bin", "etc", "tmp", "proc", "sys", "dev", "usr", "var", "var/tmp"] { tar.directory(name) }
        tar.add("bin/busybox", content: Array(try Data(contentsOf: URL(filePath: "/bin/busybox"))), mode: 0o755)
        for name in ["sh", "cat", "ls", "id", "env", "true"] { tar.add("bin/\(name)", .symlink, link: "busybox") }
        tar.add("etc/passwd", content: Array("root:x:0:0:root:/root:/bin/sh\n".utf8))
        tar.add("etc/group", content: Array("root:x:0:\n".utf8))
        return tar
    }
}
