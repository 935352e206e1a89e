import CLinux
import Glibc
import Linux

/// The file systems of --fusemount: programs that serve a mount of the container through an open /dev/fuse.
final class FuseMounts {
    private struct Item {
        let spec: FuseMountSpec
        let device: SharedDescriptor
        /// Tells a program of the host that the mount is there.
        let start: SharedDescriptor?
    }

    private var items: [Item] = []

    /// Opens a device for each, and forks what becomes a program of the host, while the host's files are in reach.
    init(_ specs: [FuseMountSpec]) throws(RuntimeError) {
        for spec in specs {
            do throws(SystemError) {
                let device = SharedDescriptor(try OwnedDescriptor.open("/dev/fuse", O_RDWR))
                var ends: [CInt] = [-1, -1]
                if !spec.runsInContainer {
                    guard clinux_pipe(&ends) == 0 else { throw .last("pipe") }
                    _ = try Process.fork {
                        // In a mount namespace of its own, as the change of the root directory moves who is in this one.
                        close(ends[1])
                        var byte: UInt8 = 0
                        guard (try? Namespaces.mount.unshare()) != nil, retryingOnInterrupt({ read(ends[0], &byte, 1) }) == 1 else {
                            _exit(1)
                        }
                        Self.become(spec.command, device.rawValue)
                    }
                    close(ends[0])
                }
                items.append(
                    Item(spec: spec, device: device, start: ends[1] < 0 ? nil : SharedDescriptor(OwnedDescriptor(ends[1]))))
            } catch { throw .step("opening /dev/fuse for --fusemount", error, hint: "the host has to let users open it") }
        }
    }

    /// Mounts all; the container's root is the root directory.
    func attach() throws(RuntimeError) {
        for item in items {
            let options =
                "fd=\(item.device.rawValue),rootmode=40000,user_id=\(getuid()),group_id=\(getgid()),default_permissions"
            do throws(SystemError) {
                try Mounting.mount("fuse", source: "singularity", on: item.spec.mountPoint, flags: [.noSuid, .noDev], options: options)
            } catch {
                throw .step("mounting \(item.spec.mountPoint) (--fusemount)", error, hint: "it has to be a directory")
            }
        }
    }

    /// Starts the programs, which get the device as their last argument. Nobody else may keep it open: its end has to be
    /// noticed.
    func startPrograms() throws(RuntimeError) {
        for item in items {
            if let start = item.start {
                var byte: UInt8 = 1
                _ = write(start.rawValue, &byte, 1)
                continue
            }
            do throws(SystemError) {
                let device = item.device.rawValue
                _ = try Process.fork { Self.become(item.spec.command, device) }
            } catch { throw .step("starting \(item.spec.command[0]) (--fusemount)", error, hint: "") }
        }
        items = []
    }

    private static func become(_ command: [String], _ device: CInt) -> Never {
        setsid()
        let number: CInt = 3
        if device == number { _ = fcntl(number, F_SETFD, 0) } else { dup2(device, number) }
        _ = clinux_close_range(4, UInt32.max, 0)
        let words = command + ["/dev/fd/\(number)"]
        var argv = words.map { strdup($0) } + [nil]
        execvp(words[0], &argv)
        _exit(127)
    }
}
