import Linux
import Messages
import Runtime

/// Variables of programs in a container under construction: those of the image, and where to leave more.
struct ContainerEnvironment {
    let variables: [String: String]

    /// Variables of the host that programs need to reach the network or the terminal.
    private static let passed = [
        "TERM", "http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY",
        "ALL_PROXY", "SOURCE_DATE_EPOCH",
    ]
    private static let settings = ["DEBUG", "NV", "NVCCLI", "ROCM", "BINDPATH", "MOUNT"]

    /// - Parameter lowers: images and directories of the container, the newest first.
    init(_ lowers: [ImageFile], _ log: Log) throws {
        var shell = ShellSubset(["PATH": EnvironmentPlan.defaultPath, "HOME": "/root", "LANG": "C"])
        let views = lowers.map { RootView($0) }
        let folder = "/.singularity.d/env"
        let names = Set(views.flatMap { $0.names(in: folder) }).sorted()
        for name in names where name.hasSuffix(".sh") && name < "94" {
            guard let text = views.lazy.compactMap({ $0.read("\(folder)/\(name)") }).first else { continue }
            do { try shell.source(String(decoding: text, as: UTF8.self)) } catch {
                log.verbose("\(folder)/\(name) is more than assignments, and is not seen by build sections")
            }
        }
        var all = shell.variables
        all["HOME"] = "/root"
        for prefix in ["SINGULARITY", "APPTAINER"] {
            all["\(prefix)_ENVIRONMENT"] = "/.singularity.d/env/91-environment.sh"
            all["\(prefix)_LABELS"] = "/.build.labels"
            for name in Self.settings { all["\(prefix)_\(name)"] = Environment["\(prefix)_\(name)"] }
        }
        for name in Self.passed where all[name] == nil { all[name] = Environment[name] }
        variables = all
    }
}

/// Variables of scripts on the host: the caller's, and where the container's tree is.
enum HostEnvironment {
    static func variables(_ root: String) -> [String: String] {
        var all = Environment.all
        all["ROOTFS"] = root
        for prefix in ["SINGULARITY", "APPTAINER"] {
            all["\(prefix)_ROOTFS"] = root
            all["\(prefix)_ENVIRONMENT"] = root + "/.singularity.d/env/91-environment.sh"
        }
        return all
    }
}
