import CLinux
import Glibc
import Linux

/// The file systems of --fusemount: programs that serve a mount of the container through an open /dev/fuse.
struct FuseMounts {
    private struct Item {
        let spec: FuseMountSpec
        let device: SharedDescriptor
    }

    private var items: [Item] = []

    /// Opens a device for each, and starts the programs of the host.
    init(_ specs: [FuseMountSpec]) throws(RuntimeError) {
        for spec in specs {
            do throws(SystemError) {
                let item = Item(spec: spec, device: SharedDescriptor(try OwnedDescriptor.open("/dev/fuse", O_RDWR)))
                items.append(item)
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
                throw .step("mounting \(item.spec.mountPoint) (--fusemount)", error, hint: "the container needs a directory of that name")
            }
        }
    }

    /// Starts the programs, which get the device as their last argument.
    func startPrograms() throws(RuntimeError) {
        for item in items {
            do throws(SystemError) {
                _ = try Process.fork {
                    setsid()
                    let number: CInt = 3
                    if item.device.rawValue == number { _ = fcntl(number, F_SETFD, 0) } else { dup2(item.device.rawValue, number) }
                    _ = clinux_close_range(4, UInt32.max, 0)
                    let words = item.spec.command + ["/dev/fd/\(number)"]
                    var argv = words.map { strdup($0) } + [nil]
                    execvp(words[0], &argv)
                    _exit(127)
                }
            } catch { throw .step("starting \(item.spec.command[0]) (--fusemount)", error, hint: "") }
        }
    }
}
