import CLinux
import Glibc
import Linux
import Messages

/// Loop devices for images that the kernel can mount itself.
enum LoopDevice {
    static func means(_ file: CInt, _ offset: UInt64, _ size: UInt64, _ log: Log) -> RootMount.Means? {
        guard KernelFileSystems.has("squashfs") else { return .none }
        var number: CInt = 0
        let device = clinux_attach_loop(file, offset, size, &number)
        guard device >= 0 else {
            log.verbose("no loop device: \(SystemError.last("attach"))")
            return .none
        }
        return .some(.loop(OwnedDescriptor(device), number: number))
    }
}
