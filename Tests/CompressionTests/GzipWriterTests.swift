import BlockIO
import Compression
import Foundation
import Testing

/// gzip on several threads.
@Suite struct GzipWriterTests {
    private func packed(_ bytes: [UInt8], threads: Int, pieces: Int = 70_001) throws -> [UInt8] {
        var out: [UInt8] = []
        let writer = try GzipWriter(threads: threads) { out += $0 }
        for start in stride(from: 0, to: bytes.count, by: pieces) {
            try bytes[start..<min(bytes.count, start + pieces)].withUnsafeBytes { try writer.write($0) }
        }
        try writer.finish()
        return out
    }

    private func unpacked(_ bytes: [UInt8]) throws -> [UInt8] {
        let stream = try DecompressingStream(MemoryStream(bytes))
        var out: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = try buffer.withUnsafeMutableBytes { try stream.read(into: $0) }
            if count == 0 { return out }
            out += buffer[..<count]
        }
    }

    @Test(arguments: [0, 1, 1 << 20, 1 << 20 + 1, 7_654_321])
    func whatGoesInComesOut(_ size: Int) throws {
        let plain = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* $0 >> 7) }
        let one = try packed(plain, threads: 1)
        #expect(try unpacked(one) == plain)
        // Neither the threads nor the sizes in which it is handed over change the bytes.
        #expect(try packed(plain, threads: 4, pieces: 1 << 21) == one)
        let process = Process()
        let input = Pipe()
        process.executableURL = URL(filePath: "/bin/sh")
        process.arguments = ["-c", "gzip -dc | wc -c"]
        let output = Pipe()
        (process.standardInput, process.standardOutput) = (input, output)
        try process.run()
        try input.fileHandleForWriting.write(contentsOf: Data(one))
        try input.fileHandleForWriting.close()
        let text = String(decoding: try output.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self)
        #expect(Int(text.trimmingCharacters(in: .whitespacesAndNewlines)) == size)
    }

    @Test func aFullDiskEndsIt() throws {
        struct Full: Error {}
        let writer = try GzipWriter(threads: 2) { _ in throw Full() }
        let bytes = [UInt8](repeating: 7, count: 1 << 20)
        #expect(throws: Full.self) { for _ in 0..<20 { try bytes.withUnsafeBytes { try writer.write($0) } } }
    }
}
