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
            warnings.append("--\(kind.name): no files of the driver were found on this host")
            return
        }
        for (source, destination) in found.libraries {
            bind(source, destination, readOnly: true, reason: "library of the driver (--\(kind.name))")
        }
        for (source, destination) in found.others {
            bind(source, destination, readOnly: true, reason: "file of the driver (--\(kind.name))")
        }
        if contains { devices += found.devices }
        if kind.name == "nv", options.nvidiaCLI, !contains {
            variables.append(EnvironmentPlan.Variable(name: "NVIDIA_VISIBLE_DEVICES", value: "all", origin: "--nvccli"))
        }
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
