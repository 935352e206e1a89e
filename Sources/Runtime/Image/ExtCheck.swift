import ExtFS
import Glibc
import Linux

/// Repairs by e2fsck of what a crash has left.
public enum ExtCheck {
    /// Replays the journal and checks the file system where it was not left cleanly. The lease has been taken.
    public static func afterCrash(_ place: ExtPlace, file: CInt, isReadOnly: Bool) throws {
        guard ExtVolume.needsCheck(file: file, start: place.offset) else { return }
        let writable: OwnedDescriptor
        do { writable = try OwnedDescriptor.open(place.path, O_RDWR) } catch {
            throw RuntimeError.badOption(
                "\(place.path) was not left cleanly, and must be repaired before it is used, which you may not do; ask its owner for `singularity overlay check \(place.path)`"
            )
        }
        let result = try check(place, file: writable.rawValue, repairs: false)
        guard result.isWell else {
            throw RuntimeError.badOption(
                "\(place.path) has errors that are not mended without a question (\(result.text)); `singularity overlay check --repair \(place.path)` answers all of them with yes"
            )
        }
    }

    /// Replays the journal and checks all. The lease has been taken.
    /// - Parameters:
    ///   - file: open for reading and writing.
    ///   - repairs: all that is wrong is mended, whatever is lost by it.
    ///   - options: further ones of e2fsck.
    /// - Returns: what e2fsck says, and whether all is well now.
    public static func check(_ place: ExtPlace, file: CInt, repairs: Bool, options: [String] = []) throws -> (text: String, isWell: Bool) {
        do throws(ExtImage.Failure) { _ = try ExtVolume.replayJournal(file: file, start: place.offset, name: place.path) } catch {
            guard repairs else { throw error }
            try ExtVolume.forgetJournal(file: file, start: place.offset, name: place.path)
        }
        let result = try run(place, file: file, options: ["-f", repairs ? "-y" : "-p"] + options)
        // 1: errors were corrected.
        guard result.status < 4 else { return (result.text, false) }
        let volume = try ExtVolume(file: file, start: place.offset, name: place.path, isReadOnly: false)
        try? volume.dropEmptyLostAndFound()
        volume.close()
        return (result.text, true)
    }

    /// Whether a file system was not left cleanly.
    public static func isNeeded(_ place: ExtPlace) -> Bool {
        guard let file = try? OwnedDescriptor.open(place.path, O_RDONLY) else { return true }
        return ExtVolume.needsCheck(file: file.rawValue, start: place.offset)
    }

    /// Runs e2fsck.
    /// - Returns: its exit status as e2fsck(8) has it, and what it printed.
    private static func run(_ place: ExtPlace, file: CInt, options: [String]) throws -> (status: Int32, text: String) {
        guard let program = SystemProgram.find("e2fsck") else {
            throw RuntimeError.badOption("\(place.path) must be checked by the program e2fsck: install the package e2fsprogs")
        }
        let copy = dup(file)
        defer { close(copy) }
        let result = try ChildProcess.run(
            [program] + options + ["/proc/self/fd/\(copy)" + (place.offset > 0 ? "?offset=\(place.offset)" : "")],
            errors: .inOutput)
        return (result.status, String(decoding: result.output, as: UTF8.self).replacing("/proc/self/fd/\(copy)", with: place.path))
    }
}
