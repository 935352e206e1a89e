import CLinux
import Glibc
import Linux
import Messages

/// Loop devices for images that the kernel can mount itself. They clear themselves when they are not used any more.
enum LoopDevice {
    static func means(_ file: CInt, _ offset: UInt64, _ size: UInt64, _ log: Log) -> RootMount.Means? {
        guard KernelFileSystems.has("squashfs"), let (device, number) = attach(file, offset, size, isWritable: false, log) else {
            return .none
        }
        return .some(.loop(OwnedDescriptor(device), number: number))
    }

    /// - Returns: the open device, which belongs to the caller, and its number; nil where there is none.
    static func attach(_ file: CInt, _ offset: UInt64, _ size: UInt64, isWritable: Bool, _ log: Log) -> (device: CInt, number: CInt)? {
        var number: CInt = 0
        let device = clinux_attach_loop(file, offset, size, isWritable ? 1 : 0, &number)
        if device >= 0 { return (device, number) }
        log.verbose("no loop device: \(SystemError.last("attach"))")
        return nil
    }
}
