import Glibc
import Linux

/// Files of a graphics driver that programs in a container need from the host, as they belong to the host's kernel.
struct DriverFiles {
    /// What belongs to a kind of driver.
    struct Kind {
        var name: String
        /// The file in /etc/singularity that replaces the list.
        var listName: String
        /// Names of libraries up to `.so`, of programs, and absolute paths of other files.
        var entries: [String]
        /// Beginnings of names in /dev.
        var devices: [String]
        /// Sockets of services.
        var sockets: [String]
        /// Variables by which a scheduler says which devices are the job's.
        var selection: [String]

        /// What is said where a host has no such driver.
        var missing: String { "--\(name): no files of the driver were found on this host" }

        /// Whether a device is one of the job's: those with other numbers are not.
        /// - Parameter given: numbers that Slurm has given to the job, separated by commas.
        func isOfJob(_ path: String, given: String?) -> Bool {
            guard let given, !given.isEmpty, let name = path.split(separator: "/").last, let prefix = devices.first, name.hasPrefix(prefix),
                let number = Int(name.dropFirst(prefix.count))
            else { return true }
            let numbers = given.split(separator: ",").map { Int($0) }
            // Names of another kind say nothing about numbers.
            return numbers.contains(nil) || numbers.contains(number)
        }
    }

    static let nvidia = Kind(
        name: "nv", listName: "nvliblist.conf",
        entries: [
            "nvidia-smi", "nvidia-debugdump", "nvidia-persistenced", "nvidia-cuda-mps-control", "nvidia-cuda-mps-server",
            "libcuda.so", "libcudadebugger.so", "libnvcuvid.so", "libnvoptix.so", "libvdpau_nvidia.so", "nvidia_drv.so",
            "libnvidia-allocator.so", "libnvidia-cbl.so", "libnvidia-cfg.so", "libnvidia-compiler.so", "libnvidia-compiler-next.so",
            "libnvidia-egl-gbm.so", "libnvidia-egl-wayland.so", "libnvidia-eglcore.so", "libnvidia-encode.so",
            "libnvidia-fatbinaryloader.so", "libnvidia-fbc.so", "libnvidia-glcore.so", "libnvidia-glsi.so", "libnvidia-glvkspirv.so",
            "libnvidia-gpucomp.so", "libnvidia-ifr.so", "libnvidia-ml.so", "libnvidia-ngx.so", "libnvidia-nscq.so", "libnvidia-nvvm.so",
            "libnvidia-opencl.so", "libnvidia-opticalflow.so", "libnvidia-pkcs11.so", "libnvidia-ptxjitcompiler.so",
            "libnvidia-rtcore.so", "libnvidia-sandboxutils.so", "libnvidia-tls.so", "libnvidia-vulkan-producer.so", "libnvidia-wfb.so",
            "libEGL.so", "libEGL_nvidia.so", "libGL.so", "libGLX.so", "libGLX_nvidia.so", "libGLdispatch.so", "libGLESv1_CM.so",
            "libGLESv1_CM_nvidia.so", "libGLESv2.so", "libGLESv2_nvidia.so", "libOpenCL.so", "libOpenGL.so",
            "/usr/share/nvidia/nvoptix.bin", "/usr/share/glvnd/egl_vendor.d/10_nvidia.json", "/usr/share/vulkan/icd.d/nvidia_icd.json",
            "/etc/vulkan/icd.d/nvidia_icd.json",
        ],
        devices: ["nvidia"], sockets: ["/var/run/nvidia-persistenced/socket"], selection: ["CUDA_VISIBLE_DEVICES"])

    static let rocm = Kind(
        name: "rocm", listName: "rocmliblist.conf",
        entries: [
            "rocm-smi", "rocminfo", "clinfo", "libamd_comgr.so", "libamdhip64.so", "libamdocl64.so", "libcltrace.so", "libdrm.so",
            "libdrm_amdgpu.so", "libdrm_radeon.so", "libhipblas.so", "libhiprand.so", "libhipsparse.so", "libhsa-ext-image64.so",
            "libhsa-runtime64.so", "libhsakmt.so", "libmcwamp.so", "libMIOpen.so", "libOpenCL.so", "libpciaccess.so", "librccl.so",
            "librocblas.so", "librocfft.so", "librocfft-device.so", "librocrand.so", "librocsolver.so", "librocsparse.so",
            "libroctracer64.so", "libroctx64.so",
        ],
        devices: ["dri", "kfd"], sockets: [], selection: ["ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"])

    /// Path on the host and in the container.
    var libraries: [(source: String, destination: String)] = []
    var others: [(source: String, destination: String)] = []
    var devices: [String] = []

    /// The directory of the host that has the driver, which is another than / where a driver container has it.
    static var root: String { Environment.setting("DRIVER_ROOT") ?? "" }

    /// Finds the files.
    init(_ kind: Kind, root: String = DriverFiles.root) {
        let entries = Self.entries(kind)
        let cache = (try? Files.read(root + "/etc/ld.so.cache", limit: 64 << 20)).flatMap { LibraryCache($0) }
        var seen: Set<String> = []
        for (name, path) in cache?.libraries ?? [] {
            // `libcuda.so` stands for libcuda.so.1 and libcuda.so.550.54; the cache has the best of each name first.
            guard entries.contains(where: { $0.hasSuffix(".so") && (name == $0 || name.hasPrefix($0 + ".")) }),
                seen.insert(name).inserted, let source = Self.resolved(path, root)
            else { continue }
            libraries.append((source, EnvironmentPlan.libraries + "/" + name))
        }
        for entry in entries where !entry.hasSuffix(".so") {
            if entry.hasPrefix("/") {
                if let source = Self.resolved(entry, root) { others.append((source, entry)) }
                continue
            }
            let places = ["/usr/bin/", "/usr/local/bin/", "/opt/rocm/bin/", "/bin/", "/usr/sbin/"]
            if let source = places.lazy.compactMap({ Self.resolved($0 + entry, root) }).first {
                others.append((source, "/usr/bin/" + entry))
            }
        }
        for socket in kind.sockets where Files.status(root + socket) != nil { others.append((root + socket, socket)) }
        let names = ((try? Files.entries(root + "/dev")) ?? []).sorted()
        devices = names.filter { name in kind.devices.contains { name.hasPrefix($0) } }.map { root + "/dev/" + $0 }
    }

    var isEmpty: Bool { libraries.isEmpty && others.isEmpty }

    private static func entries(_ kind: Kind) -> [String] {
        guard let text = try? Files.readText("/etc/singularity/" + kind.listName, limit: 1 << 20) else { return kind.entries }
        return text.split(separator: "\n").map { $0.split(separator: " ").first.map(String.init) ?? "" }
            .filter { !$0.isEmpty && !$0.hasPrefix("#") }
    }

    /// The regular file behind a path of the driver's tree; links are followed inside it.
    private static func resolved(_ path: String, _ root: String) -> String? {
        if root.isEmpty { return Files.resolved(path) }
        guard let folder = try? OwnedDescriptor.open(root, O_RDONLY | O_DIRECTORY),
            let file = try? Files.open(inRoot: folder.rawValue, path, O_PATH_FLAG)
        else { return nil }
        return Files.readLink("/proc/self/fd/\(file.rawValue)")
    }
}
