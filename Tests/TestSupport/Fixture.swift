import Foundation

/// Files that other programs have made.
public enum Fixture {
    public static let folder =
        URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().path + "/Fixtures/"
    public static func bytes(_ name: String) throws -> [UInt8] { [UInt8](try Data(contentsOf: URL(filePath: folder + name))) }
    public static func text(_ name: String) throws -> String { try String(contentsOfFile: folder + name, encoding: .utf8) }
}
