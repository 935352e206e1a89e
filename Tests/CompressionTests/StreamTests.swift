import BlockIO
import Compression
import Foundation
import Testing

@Suite struct StreamTests {
    private let plain: [UInt8] = (0..<300_000).map { UInt8(truncatingIfNeeded: $0 &* $0 >> 5) }

    /// The bytes packed by a program of the system.
    private func packed(_ command: String, _ bytes: [UInt8]) throws -> [UInt8] {
        let input = NSTemporaryDirectory() + "/stream-\(UInt32.random(in: 0 ... .max))"
        try Data(bytes).write(to: URL(filePath: input))
        defer { try? FileManager.default.removeItem(atPath: input) }
        let process = Process()
        process.executableURL = URL(filePath: "/bin/sh")
        process.arguments = ["-c", "\(command) < '\(input)'"]
        let output = Pipe()
        process.standardOutput = output
        try process.run()
        let result = try output.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        return [UInt8](result)
    }

    private func unpacked(_ bytes: [UInt8]) throws -> [UInt8] {
        let stream = try DecompressingStream(MemoryStream(bytes))
        var out: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 10_007)
        while true {
            let count = try buffer.withUnsafeMutableBytes { try stream.read(into: $0) }
            if count == 0 { return out }
            out += buffer[..<count]
        }
    }

    @Test(arguments: ["gzip", "gzip -9", "xz", "bzip2", "cat"]) func everyFormatIsKnownByItsFirstBytes(_ command: String) throws {
        #expect(try unpacked(try packed(command, plain)) == plain)
    }

    @Test(arguments: ["gzip", "xz", "bzip2"]) func severalMembersAreOneStream(_ command: String) throws {
        let half = plain.count / 2
        let both = try packed(command, Array(plain[..<half])) + packed(command, Array(plain[half...]))
        #expect(try unpacked(both) == plain)
    }

    @Test(arguments: ["gzip", "xz", "bzip2"]) func aStreamThatIsCutOrDamagedIsAnError(_ command: String) throws {
        let whole = try packed(command, plain)
        for count in [whole.count - 1, whole.count / 2, 20] {
            #expect(throws: CompressionError.self) { try unpacked(Array(whole.prefix(count))) }
        }
        var damaged = whole
        damaged[whole.count / 2] ^= 0xff
        #expect(throws: CompressionError.self) { try unpacked(damaged) }
    }

    @Test func anEmptyStreamIsEmpty() throws { #expect(try unpacked([]) == []) }
}
