import Foundation
import Testing

/// Graphics drivers of the host, as fake trees: what is shown, and where.
@Suite(.enabled(if: Site.isPrepared && Site.mayFUSE, "needs scripts/test.sh and /dev/fuse"))
struct DriverTests {
    /// A driver's files with a loader's list made by the real ldconfig.
    private func driver(_ scratch: Scratch, _ libraries: [String], programs: [String], devices: [String]) throws {
        for folder in ["usr/lib/driver", "usr/bin", "etc", "dev"] {
            try FileManager.default.createDirectory(atPath: scratch.file(folder), withIntermediateDirectories: true)
        }
        try scratch.write("etc/ld.so.conf", Array("/usr/lib/driver\n".utf8))
        for name in libraries {
            let versioned = name + ".550.54"
            // ldconfig looks into it for its name.
            let made = try Run.program(
                "/usr/bin/gcc",
                [
                    "-shared", "-nostdlib", "-Wl,-soname,\(name).1", "-o", scratch.file("usr/lib/driver/\(versioned)"), "-x", "c",
                    "/dev/null",
                ])
            try #require(made.status == 0, "\(made)")
            symlink(versioned, scratch.file("usr/lib/driver/\(name).1"))
            symlink(name + ".1", scratch.file("usr/lib/driver/\(name)"))
        }
        for name in programs {
            try scratch.write("usr/bin/\(name)", Array("#!/bin/sh\necho program \(name)\n".utf8))
            chmod(scratch.file("usr/bin/\(name)"), 0o755)
        }
        for name in devices { try scratch.write("dev/\(name)", []) }
        let made = try Run.program("/sbin/ldconfig", ["-X", "-r", scratch.path])
        try #require(made.status == 0, "\(made)")
    }

    private func sh(_ scratch: Scratch, _ options: [String], _ script: String) throws -> Run {
        try Run.program(
            Site.program, ["exec"] + options + [Site.debian.get(), "sh", "-c", script], as: .ordinaryUser,
            environment: ["SINGULARITY_DRIVER_ROOT": scratch.path])
    }

    /// Sections and tests of a build use the driver; the image has nothing of it.
    @Test func buildsSeeTheDriver() throws {
        let scratch = try Scratch()
        try driver(scratch, ["libcuda.so"], programs: ["nvidia-smi"], devices: ["nvidia0"])
        let script =
            "nvidia-smi; test -s /.singularity.d/libs/libcuda.so.1; case $LD_LIBRARY_PATH in */.singularity.d/libs*) ;; *) exit 4;; esac"
        let recipe = "Bootstrap: localimage\nFrom: \(try Site.debian.get())\n%post\n    \(script)\n    touch /done\n%test\n    \(script)\n"
        try scratch.write("a.def", Array(recipe.utf8))
        let environment = ["SINGULARITY_DRIVER_ROOT": scratch.path, "SINGULARITY_CACHEDIR": scratch.file("cache")]
        func build(_ options: [String]) throws -> Run {
            try Run.program(
                Site.program, ["build", "--force"] + options + [scratch.file("a.sif"), scratch.file("a.def")], as: .ordinaryUser,
                environment: environment)
        }
        let without = try build([])
        #expect(without.status == 255 && without.error.contains("%post"), "\(without)")
        let with = try build(["--nv"])
        #expect(with.status == 0 && with.output.contains("program nvidia-smi"), "\(with)")
        let left = try Run.singularity(
            "exec", scratch.file("a.sif"), "sh", "-c", "ls /done /usr/bin/nvidia-smi /.singularity.d/libs/* 2>/dev/null", as: .ordinaryUser)
        #expect(left.output == "/done\n", "\(left)")
        let none = try Run.program(
            Site.program, ["build", "--nv", scratch.file("b.sif"), scratch.file("a.def")], as: .ordinaryUser,
            environment: ["SINGULARITY_DRIVER_ROOT": scratch.file("nowhere"), "SINGULARITY_CACHEDIR": scratch.file("cache")])
        #expect(none.error.contains("--nv: no files of the driver were found"), "\(none)")
    }

    @Test func nvidiasFilesAreShown() throws {
        let scratch = try Scratch()
        try driver(
            scratch, ["libcuda.so", "libnvidia-ml.so", "libunrelated.so"], programs: ["nvidia-smi"],
            devices: ["nvidia0", "nvidiactl", "other"])
        let result = try sh(
            scratch, ["--nv"], "ls /.singularity.d/libs; nvidia-smi; echo $LD_LIBRARY_PATH; echo x > /.singularity.d/libs/libcuda.so.1")
        let lines = result.output.split(separator: "\n").map(String.init)
        #expect(lines.contains("libcuda.so.1") && lines.contains("libnvidia-ml.so.1") && lines.contains("libcuda.so"), "\(result)")
        #expect(!lines.contains { $0.contains("unrelated") })
        #expect(lines.suffix(2) == ["program nvidia-smi", "/.singularity.d/libs"])
        #expect(result.error.contains("Read-only") || result.error.contains("Permission denied") || result.error.contains("cannot create"))
        // With a small /dev the devices are added.
        let devices = try sh(scratch, ["--nv", "-c"], "ls /dev").output.split(separator: "\n").map(String.init)
        #expect(devices.contains("nvidia0") && devices.contains("nvidiactl") && !devices.contains("other"))
        #expect(try !sh(scratch, ["-c"], "ls /dev").output.contains("nvidia"))
        let explained = try Run.program(
            Site.program, ["exec", "--nv", "--explain", Site.debian.get(), "true"], as: .ordinaryUser,
            environment: ["SINGULARITY_DRIVER_ROOT": scratch.path])
        #expect(
            explained.output.contains(
                "/usr/lib/driver/libcuda.so.550.54 (read-only) on /.singularity.d/libs/libcuda.so.1   # library of the driver (--nv)"))
    }

    /// Libraries that need a newer system than the image's are named before anything fails.
    @Test func aDriverThatIsTooNewForTheImageIsTold() throws {
        let scratch = try Scratch()
        try driver(scratch, ["libcuda.so", "libnvidia-ml.so"], programs: [], devices: [])
        try scratch.write("versions", Array("GLIBC_2.99 { global: of_the_future; };\n".utf8))
        try scratch.write("libc.c", Array("int of_the_future(void) { return 1; }\n".utf8))
        try scratch.write("cuda.c", Array("int of_the_future(void); int cuInit(void) { return of_the_future(); }\n".utf8))
        for words in [
            [
                "-Wl,-soname,libc.so.6", "-Wl,--version-script=\(scratch.file("versions"))", "-o", scratch.file("libc.so.6"),
                scratch.file("libc.c"),
            ],
            [
                "-Wl,-soname,libcuda.so.1", "-o", scratch.file("usr/lib/driver/libcuda.so.550.54"), scratch.file("cuda.c"),
                scratch.file("libc.so.6"),
            ],
        ] {
            let made = try Run.program("/usr/bin/gcc", ["-shared", "-fPIC", "-nostdlib"] + words)
            try #require(made.status == 0, "\(made)")
        }
        let result = try sh(scratch, ["--nv"], "echo ran")
        #expect(result.status == 0 && result.output == "ran\n")
        #expect(
            result.error.contains("the driver's libraries need glibc 2.99, and the image has 2.")
                && result.error.contains("libcuda.so.1 cannot be loaded") && !result.error.contains("libnvidia-ml"), "\(result)")
        try driver(scratch, ["libcuda.so"], programs: [], devices: [])
        #expect(try !sh(scratch, ["--nv"], "true").error.contains("glibc"))
    }

    @Test func onlyTheJobsDevicesAreShown() throws {
        let scratch = try Scratch()
        try driver(scratch, ["libcuda.so"], programs: [], devices: ["nvidia0", "nvidia1", "nvidia10", "nvidiactl", "nvidia-uvm"])
        func devices(_ given: [String: String]) throws -> [String] {
            try Run.program(
                Site.program, ["exec", "--nv", "-C", Site.debian.get(), "sh", "-c", "ls /dev | grep nvidia; echo $CUDA_VISIBLE_DEVICES"],
                as: .ordinaryUser, environment: ["SINGULARITY_DRIVER_ROOT": scratch.path].merging(given) { $1 }
            ).output.split(separator: "\n").map(String.init)
        }
        #expect(try devices([:]) == ["nvidia-uvm", "nvidia0", "nvidia1", "nvidia10", "nvidiactl"])
        #expect(
            try devices(["SLURM_JOB_GPUS": "1,10", "CUDA_VISIBLE_DEVICES": "0,1"])
                == ["nvidia-uvm", "nvidia1", "nvidia10", "nvidiactl", "0,1"])
        #expect(try devices(["SLURM_JOB_GPUS": "0,1", "SLURM_STEP_GPUS": "0"]) == ["nvidia-uvm", "nvidia0", "nvidiactl"])
    }

    @Test func amdsFilesAreShown() throws {
        let scratch = try Scratch()
        try driver(scratch, ["libamdhip64.so", "libcuda.so"], programs: ["rocminfo"], devices: ["kfd"])
        try FileManager.default.createDirectory(atPath: scratch.file("dev/dri"), withIntermediateDirectories: true)
        try scratch.write("dev/dri/renderD128", [])
        let lines = try sh(scratch, ["--rocm", "-c"], "ls /.singularity.d/libs; rocminfo; ls /dev /dev/dri").output.split(separator: "\n")
        #expect(lines.contains("libamdhip64.so.1") && !lines.contains("libcuda.so.1") && lines.contains("program rocminfo"))
        #expect(lines.contains("kfd") && lines.contains("renderD128"))
    }

    @Test func aHostWithoutADriverIsAWarning() throws {
        let scratch = try Scratch()
        let result = try sh(scratch, ["--nv"], "echo ran")
        #expect(
            result.status == 0 && result.output == "ran\n" && result.error.contains("WARNING: --nv: no files of the driver"), "\(result)")
    }

    @Test(arguments: ["json", "yaml"]) func vendorsDescriptionsAreFollowed(_ form: String) throws {
        let scratch = try Scratch()
        try scratch.write("tool", Array("vendor's file\n".utf8))
        let json = """
            {"cdiVersion": "0.6.0", "kind": "example.com/gpu",
             "devices": [{"name": "0", "containerEdits": {"env": ["GPU=zero"], "deviceNodes": [{"path": "/dev/full"}]}},
                         {"name": "1", "containerEdits": {"env": ["GPU=one"]}}],
             "containerEdits": {"mounts": [{"hostPath": "\(scratch.file("tool"))", "containerPath": "/opt/tool", "options": ["ro", "bind"]}],
                                "hooks": [{"hookName": "createContainer", "path": "/usr/bin/vendor-hook"}]}}
            """
        let yaml = """
            cdiVersion: 0.6.0
            kind: example.com/gpu
            devices:
            - name: "0"
              containerEdits:
                env: [GPU=zero]
                deviceNodes:
                - path: /dev/full
            - name: "1"
              containerEdits:
                env: [GPU=one]
            containerEdits:
              mounts:
              - hostPath: \(scratch.file("tool"))
                containerPath: /opt/tool
                options: [ro, bind]
              hooks:
              - hookName: createContainer
                path: /usr/bin/vendor-hook
            """
        try scratch.write("gpu.\(form)", Array((form == "json" ? json : yaml).utf8))
        let result = try sh(
            scratch, ["-c", "--device", "example.com/gpu=0", "--cdi-dirs", scratch.path],
            "cat /opt/tool; echo $GPU; ls /dev/full; echo x > /opt/tool")
        #expect(result.output == "vendor's file\nzero\n/dev/full\n", "\(result)")
        #expect(
            result.error.contains("the hook createContainer (/usr/bin/vendor-hook) is not run")
                && result.error.contains("cannot create /opt/tool"))
        let unknown = try sh(scratch, ["--device", "example.com/gpu=7", "--cdi-dirs", scratch.path], "true")
        #expect(unknown.status == 255 && unknown.error.contains("there are example.com/gpu=0, example.com/gpu=1"), "\(unknown)")
        #expect(try sh(scratch, ["--device", "nonsense", "--cdi-dirs", scratch.path], "true").error.contains("VENDOR/CLASS=NAME"))
        try scratch.write("broken.json", Array("{".utf8))
        #expect(
            try sh(scratch, ["--device", "example.com/gpu=0", "--cdi-dirs", scratch.path], "true").error.contains(
                "broken.json cannot be read"))
    }
}
