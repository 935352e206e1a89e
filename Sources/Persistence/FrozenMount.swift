import CLinux
import Glibc
import Linux

/// An image that the kernel has mounted, held still for a copy (fsfreeze(8)): writers wait, and all that was written is in the
/// file.
///
/// A process of its own lets go when this one ends, however that happens.
final class FrozenMount {
    /// The end of a pipe that the other process waits for.
    private var hold: OwnedDescriptor?
    private let keeper: pid_t

    /// - Returns: nil where the kernel has not mounted the image, or this process may not hold it.
    init?(_ image: String) {
        guard geteuid() == 0, let place = Self.place(of: image) else { return nil }
        var ends: [CInt] = [0, 0]
        var answer: [CInt] = [0, 0]
        guard clinux_pipe(&ends) == 0, clinux_pipe(&answer) == 0 else { return nil }
        guard
            let child = try? Process.fork({
                close(ends[1])
                close(answer[0])
                for number in [SIGINT, SIGTERM, SIGHUP, SIGPIPE] { signal(number, SIG_IGN) }
                let file = open(place, O_RDONLY | O_CLOEXEC)
                guard file >= 0, clinux_freeze(file, 1) == 0 else { _exit(1) }
                var byte: UInt8 = 1
                _ = write(answer[1], &byte, 1)
                // Until the other end is closed.
                while retryingOnInterrupt({ read(ends[0], &byte, 1) }) > 0 {}
                _ = clinux_freeze(file, 0)
                _exit(0)
            })
        else { return nil }
        close(ends[0])
        close(answer[1])
        hold = .some(OwnedDescriptor(ends[1]))
        keeper = child
        let reader = OwnedDescriptor(answer[0])
        let number = reader.rawValue
        var byte: UInt8 = 0
        guard retryingOnInterrupt({ read(number, &byte, 1) }) == 1 else {
            Process.wait(for: child)
            return nil
        }
    }

    /// Lets writers go on.
    func thaw() {
        _ = hold.take()
        Process.wait(for: keeper)
    }

    /// A path by which the file system in an image can be reached: in some process's view, where it is mounted.
    private static func place(of image: String) -> String? {
        let devices = ((try? Files.entries("/sys/block")) ?? []).filter {
            $0.hasPrefix("loop")
                && (try? Files.readText("/sys/block/\($0)/loop/backing_file"))?.split(separator: "\n").first == Substring(image)
        }
        let numbers = Set(
            devices.compactMap { (try? Files.readText("/sys/block/\($0)/dev"))?.split(separator: "\n").first.map(String.init) })
        guard !numbers.isEmpty else { return nil }
        for name in (try? Files.entries("/proc")) ?? [] where pid_t(name) != nil {
            guard let text = try? Files.readText("/proc/\(name)/mountinfo", limit: 1 << 22) else { continue }
            for line in text.split(separator: "\n") {
                let words = line.split(separator: " ")
                guard words.count > 8, numbers.contains(String(words[2])), words.contains("ext4") else { continue }
                return "/proc/\(name)/root\(words[4])"
            }
        }
        return nil
    }
}
