import CLinux
import Glibc

/// An image that the kernel has mounted, held still for a copy (fsfreeze(8)): writers wait, and all that was written is in the
/// file.
///
/// A process of its own lets go when this one ends, however that happens, and this one when that has been killed.
public final class FrozenMount {
    /// A directory of the file system, open.
    private var directory: OwnedDescriptor?
    /// The end of a pipe that the other process waits for.
    private var hold: OwnedDescriptor?
    private let keeper: pid_t

    /// - Returns: nil where the kernel has not mounted the image, this process may not hold it, or somebody holds it already.
    public convenience init?(image: String) {
        guard geteuid() == 0 else { return nil }
        let loops = ((try? Files.entries("/sys/block")) ?? []).filter {
            $0.hasPrefix("loop")
                && (try? Files.readText("/sys/block/\($0)/loop/backing_file"))?.split(separator: "\n").first == Substring(image)
        }
        self.init(devices: loops)
    }

    /// - Parameter loop: number of the loop device that has the image.
    public convenience init?(loop: CInt) { self.init(devices: ["loop\(loop)"]) }

    /// - Parameter devices: names in /sys/block.
    private init?(devices: [String]) {
        // One more mount of what is mounted: where the others are, at a container's root or below an overlay, need not be in reach.
        guard let device = devices.first(where: { Files.isDirectory("/sys/fs/ext4/\($0)") }),
            let mount = try? DetachedMount("ext4", source: "/dev/\(device)", [.noSuid, .noDev, .noExec]),
            let found = try? mount.openDirectory()
        else { return nil }
        let file = found.rawValue
        var ends: [CInt] = [0, 0]
        var answer: [CInt] = [0, 0]
        guard clinux_pipe(&ends) == 0, clinux_pipe(&answer) == 0 else { return nil }
        let (held, holding, answered, answering) = (ends[0], ends[1], answer[0], answer[1])
        guard
            let child = try? Process.fork({
                close(holding)
                close(answered)
                Self.hold(file, until: held, saying: answering)
            })
        else { return nil }
        close(held)
        close(answering)
        directory = .some(consume found)
        hold = .some(OwnedDescriptor(holding))
        keeper = child
        let reader = OwnedDescriptor(answered)
        let number = reader.rawValue
        var byte: UInt8 = 0
        guard retryingOnInterrupt({ read(number, &byte, 1) }) == 1 else {
            Process.wait(for: child)
            return nil
        }
    }

    /// Freezes a file system until the other end of a pipe is closed, and tells by another pipe when it is frozen.
    private static func hold(_ file: CInt, until pipe: CInt, saying answer: CInt) -> Never {
        for number in [SIGINT, SIGTERM, SIGHUP, SIGPIPE] { signal(number, SIG_IGN) }
        guard clinux_freeze(file, 1) == 0 else { _exit(1) }
        var byte: UInt8 = 1
        _ = write(answer, &byte, 1)
        while retryingOnInterrupt({ read(pipe, &byte, 1) }) > 0 {}
        _ = clinux_freeze(file, 0)
        _exit(0)
    }

    /// Lets writers go on.
    public func thaw() {
        _ = hold.take()
        let status = Process.wait(for: keeper)
        if let directory = directory.take(), status != 0 { _ = clinux_freeze(directory.rawValue, 0) }
    }
}
