import Linux
import Messages

/// Work that needs threads or a user namespace of its own, done in a child of the process that builds.
enum BuildChild {
    /// - Parameter task: before the message of an error, such as `while creating the image: `.
    /// - Returns: what `body` returned.
    /// - Throws: ``BuildError/told`` where it has failed, which has been said then.
    @discardableResult
    static func run(_ log: Log, task: String = "", _ body: () throws -> [UInt8]) throws -> [UInt8] {
        guard let result = try Process.inChild(body, failed: { log.fatal("\(task)\($0)") }) else { throw BuildError.told }
        return result
    }
}
