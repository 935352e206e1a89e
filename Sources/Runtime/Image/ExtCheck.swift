import ExtFS
import Glibc
import Linux

/// Repairs by e2fsck of what a crash has left.
public enum ExtCheck {
    /// The lease of a file system that was left cleanly, or has been repaired: what a crash has left is replayed and checked
    /// by one process alone, also where the lease is one of many readers.
    /// - Parameter file: the open image, which the lease is of.
    /// - Throws: where somebody holds the lease, or the repair would need an answer to a question.
    public static func lease(_ place: ExtPlace, file: CInt, forWriting: Bool, note: String) throws -> ImageLease {
        for _ in 0..<3 {
            let lease = try ImageLease.take(place.path, file: file, forWriting: forWriting, note: note)
            if try !ExtVolume.needsCheck(place.storage(file)) { return lease }
            guard !forWriting else {
                do { try repair(place, file: file) } catch {
                    lease.release()
                    throw error
                }
                return lease
            }
            // Other readers may be there, which must not do it as well, nor see it done.
            lease.release()
            flock(file, LOCK_UN)
            try repairAlone(place, note: note)
        }
        throw RuntimeError.badOption("\(place.path) is not left cleanly by those who use it; try again when they have ended")
    }

    private static func repairAlone(_ place: ExtPlace, note: String) throws {
        let writable: OwnedDescriptor
        do { writable = try OwnedDescriptor.open(place.path, O_RDWR) } catch {
            throw RuntimeError.badOption(
                "\(place.path) was not left cleanly, and must be repaired before it is used, which you may not do; ask its owner for `singularity overlay check \(place.path)`"
            )
        }
        guard let lease = try leaseForRepair(place, file: writable.rawValue, note: note) else { return }
        defer { lease.release() }
        if try ExtVolume.needsCheck(place.storage(writable.rawValue)) { try repair(place, file: writable.rawValue) }
    }

    /// The lease of the only one; readers that come at the same time have it for a moment, until they have looked.
    /// - Returns: nil where somebody else has repaired it.
    private static func leaseForRepair(_ place: ExtPlace, file: CInt, note: String) throws -> ImageLease? {
        var attempts = 40
        while true {
            do { return try ImageLease.take(place.path, file: file, forWriting: true, note: note) } catch {
                if try !ExtVolume.needsCheck(place.storage(file)) { return nil }
                attempts -= 1
                if attempts == 0 { throw error }
                usleep(50_000)
            }
        }
    }

    private static func repair(_ place: ExtPlace, file: CInt) throws {
        let result = try check(place, file: file, repairs: false)
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
        let storage = try place.storage(file)
        do throws(ExtImage.Failure) { _ = try ExtVolume.replayJournal(storage, name: place.path) } catch {
            guard repairs else { throw error }
            try ExtVolume.forgetJournal(storage, name: place.path)
        }
        let result = try run(place, file: file, options: ["-f", repairs ? "-y" : "-p"] + options)
        // 1: errors were corrected.
        guard result.status < 4 else { return (result.text, false) }
        let volume = try ExtVolume(place.storage(file), name: place.path, isReadOnly: false)
        try? volume.dropEmptyLostAndFound()
        volume.close()
        return (result.text, true)
    }

    /// Runs e2fsck.
    /// - Returns: its exit status as e2fsck(8) has it, and what it printed.
    private static func run(_ place: ExtPlace, file: CInt, options: [String]) throws -> (status: Int32, text: String) {
        guard let program = SystemProgram.find("e2fsck") else {
            throw RuntimeError.badOption("\(place.path) must be checked by the program e2fsck: install the package e2fsprogs")
        }
        if place.encryption != .none {
            return try VolumeTool.run(place.storage(file), size: place.volumeSize, place.path) { [program] + options + [$0] }
        }
        let copy = dup(file)
        defer { close(copy) }
        let result = try ChildProcess.run(
            [program] + options + ["/proc/self/fd/\(copy)" + (place.offset > 0 ? "?offset=\(place.offset)" : "")],
            errors: .inOutput)
        return (result.status, String(decoding: result.output, as: UTF8.self).replacing("/proc/self/fd/\(copy)", with: place.path))
    }
}
