import Glibc
import Linux

/// Devices and the files of their drivers.
extension LaunchPlanner {
    mutating func addDrivers() throws(RuntimeError) {
        if options.nvidia { add(DriverFiles(DriverFiles.nvidia), DriverFiles.nvidia) }
        if options.rocm {
            if options.nvidia { warnings.append("--nv and --rocm together: files of both drivers are shown") }
            add(DriverFiles(DriverFiles.rocm), DriverFiles.rocm)
        }
        for path in options.containedLibraries {
            guard let name = path.split(separator: "/").last else { continue }
            bind(path, "\(EnvironmentPlan.libraries)/\(name)", readOnly: true, isRequired: true, reason: "--containlibs")
        }
        guard !options.cdiDevices.isEmpty else { return }
        let registry = try CDIRegistry(options.cdiFolders.isEmpty ? CDIRegistry.standardFolders : options.cdiFolders)
        for device in options.cdiDevices {
            for edits in try registry.edits(for: device) { try add(edits, device) }
        }
    }

    private mutating func add(_ found: DriverFiles, _ kind: DriverFiles.Kind) {
        guard !found.isEmpty else {
            warnings.append(kind.missing)
            return
        }
        warnOfOldSystem(found, kind)
        for (source, destination) in found.libraries {
            bind(source, destination, readOnly: true, reason: "library of the driver (--\(kind.name))")
        }
        for (source, destination) in found.others {
            bind(source, destination, readOnly: true, reason: "file of the driver (--\(kind.name))")
        }
        for name in kind.selection { keepVariable(name, kind) }
        let given = ["SLURM_STEP_GPUS", "SLURM_JOB_GPUS"].lazy.compactMap(variable).first
        if contains { devices += found.devices.filter { kind.isOfJob($0, given: given) } }
        if kind.name == "nv", options.nvidiaCLI, !contains {
            variables.append(EnvironmentPlan.Variable(name: "NVIDIA_VISIBLE_DEVICES", value: "all", origin: "--nvccli"))
        }
    }

    /// Of the host.
    private func variable(_ name: String) -> String? { facts.environment.first { $0.name == name }?.value }

    /// What the scheduler has given to the job is no more and no less with --cleanenv.
    private mutating func keepVariable(_ name: String, _ kind: DriverFiles.Kind) {
        guard options.cleanEnvironment || options.containAll, let value = variable(name) else { return }
        variables.append(EnvironmentPlan.Variable(name: name, value: value, origin: "the job's devices (--\(kind.name))"))
    }

    /// A library that was made for a newer C library than the image's cannot be loaded; it is better said before.
    private mutating func warnOfOldSystem(_ found: DriverFiles, _ kind: DriverFiles.Kind) {
        let needs = found.libraries.compactMap { source, destination -> (name: String, version: GlibcVersion)? in
            guard let file = try? OwnedDescriptor.open(source, O_RDONLY | O_NONBLOCK), let readable = RootFile(file),
                let object = SharedObject(readable), let version = GlibcVersion(neededBy: object)
            else { return nil }
            return (String(destination.split(separator: "/").last ?? ""), version)
        }
        guard let newest = needs.map(\.version).max() else { return }
        let libraries = ImageLibraries(view)
        guard let own = GlibcVersion(of: libraries) else {
            if libraries.path(of: "libc.so.6") == nil {
                warnings.append(
                    "--\(kind.name): the image has no GNU C library (musl?), and the driver's libraries need it: programs cannot load them; use an image of another distribution"
                )
            }
            return
        }
        let failing = needs.filter { $0.version > own }.map(\.name).sorted()
        if failing.isEmpty { return }
        warnings.append(
            "--\(kind.name): the driver's libraries need glibc \(newest), and the image has \(own): \(failing.joined(separator: ", ")) cannot be loaded; use an image with a newer system, or an older driver"
        )
    }

    private mutating func add(_ edits: CDIRegistry.Edits, _ device: String) throws(RuntimeError) {
        for text in edits.env ?? [] {
            guard let equals = text.firstIndex(of: "="), EnvironmentPlan.isName(String(text[..<equals])) else {
                throw .badOption("--device \(device): its description has the variable \"\(text)\", which is not NAME=VALUE")
            }
            variables.append(
                EnvironmentPlan.Variable(
                    name: String(text[..<equals]), value: String(text[text.index(after: equals)...]), origin: "--device \(device)"))
        }
        for node in edits.deviceNodes ?? [] {
            let source = node.hostPath ?? node.path
            if contains {
                devices.append(source)
            } else if !LaunchPlanner.isPath(node.path, within: "/dev") || source != node.path {
                bind(source, node.path, isRequired: true, reason: "--device \(device)")
            }
        }
        for mount in edits.mounts ?? [] {
            bind(
                mount.hostPath, mount.containerPath, readOnly: mount.options?.contains("ro") ?? false, isRequired: true,
                reason: "--device \(device)")
        }
        for hook in edits.hooks ?? [] {
            // A program of the host that works on a container's files is a way out of it; what the common ones do (the
            // loader's list, links) isn't needed, as libraries are found by LD_LIBRARY_PATH.
            warnings.append("--device \(device): the hook \(hook.hookName) (\(hook.path)) is not run")
        }
    }
}
