import Build
import CommandSyntax
import Glibc
import Linux
import Messages

/// The image file behind what the user names: the file itself, or one in the cache that is made of an address.
enum RunnableImage {
    /// Images that were made of addresses.
    static var folder: String { UserFolders.cache + "/oci-tmp" }

    static func path(of name: String, _ parsed: ParsedArguments, _ log: Log) throws -> String {
        let source = ImageSource(name)
        if case .path = source { return name }
        // Fetching needs threads, and what starts a container must have none: another process fetches.
        var ends: [CInt] = [0, 0]
        guard pipe(&ends) == 0 else { throw SystemError.last("pipe") }
        let result = OwnedDescriptor(ends[0])
        let child = try Process.fork {
            close(ends[0])
            do {
                let path = try ImageConversion(parsed, log).cached(source, in: folder)
                try Files.writeAll(Array(path.utf8), to: ends[1], name: "pipe")
                exit(0)
            } catch {
                log.fatal("\(error)")
                exit(255)
            }
        }
        close(ends[1])
        let bytes = try Files.read(result, name: "pipe")
        let status = Process.wait(for: child)
        if status != 0 || bytes.isEmpty { exit(255) }
        return String(decoding: bytes, as: UTF8.self)
    }
}
