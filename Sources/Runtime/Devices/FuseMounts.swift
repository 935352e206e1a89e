import Glibc
import Linux

/// The file systems of --fusemount: programs that serve a mount of the container through an open /dev/fuse.
struct FuseMounts {
    private struct Item {
        let spec: FuseMountSpec
        let device: SharedDescriptor
        /// Of the host; nil where the program runs in the container.
        let server: WaitingServer?
    }

    private var items: [Item] = []

    /// Opens a device for each, and forks what becomes a program of the host, while the host's files are in reach.
    init(_ specs: [FuseMountSpec]) throws(RuntimeError) {
        for spec in specs {
            do throws(SystemError) {
                let device = SharedDescriptor(try OwnedDescriptor.open("/dev/fuse", O_RDWR))
                let server =
                    spec.runsInContainer
                    ? nil : try WaitingServer(spec.command, device: device.rawValue, diesWithParent: false, isSilent: false)
                items.append(Item(spec: spec, device: device, server: server))
            } catch { throw .step("preparing --fusemount", error, hint: "the host has to let users open /dev/fuse") }
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
    mutating func startPrograms() throws(RuntimeError) {
        for item in items {
            do throws(SystemError) {
                if let server = item.server {
                    try server.begin()
                } else {
                    _ = try Process.fork {
                        setsid()
                        WaitingServer.become(item.spec.command, item.device.rawValue)
                    }
                }
            } catch { throw .step("starting \(item.spec.command[0]) (--fusemount)", error, hint: "") }
        }
        items = []
    }
}
