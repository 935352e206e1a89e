import Foundation
import Testing

/// What works in a container of Docker or in a pod of Kubernetes, started here by runc, which both of them use.
@Suite(
    .enabled(
        if: Site.isPrepared && Site.isRoot && FileManager.default.fileExists(atPath: "/usr/sbin/runc"),
        "needs scripts/test.sh, root and runc"),
    .serialized)
struct ContainerEngineTests {
    /// What Docker gives to root in a container.
    private static let capabilities = [
        "CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP", "NET_BIND_SERVICE",
        "SYS_CHROOT", "KILL", "AUDIT_WRITE",
    ].map { "CAP_" + $0 }

    /// What Docker's filter refuses to who has no CAP_SYS_ADMIN, as far as it concerns containers.
    private static var filter: [String: Any] {
        [
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [
                [
                    "names": [
                        "mount", "umount", "umount2", "unshare", "setns", "fsopen", "fsconfig", "fsmount", "fspick", "move_mount",
                        "open_tree",
                        "mount_setattr", "pivot_root",
                    ], "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
                ],
                [
                    "names": ["clone"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
                    "args": [["index": 0, "value": 0x1000_0000, "valueTwo": 0x1000_0000, "op": "SCMP_CMP_MASKED_EQ"]],
                ],
                ["names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38],
            ],
        ]
    }

    /// A container's bundle (OCI runtime specification): a Debian with this program, and an image.
    private struct Engine {
        let scratch: Scratch

        init(_ name: String) throws {
            scratch = try Scratch(name)
            let image = try Site.debian.get()
            let made = try Run.singularity("build", "--sandbox", scratch.file("rootfs"), image)
            try #require(made.status == 0, "\(made)")
            let home = scratch.file("rootfs/home/work")
            try FileManager.default.createDirectory(atPath: home, withIntermediateDirectories: true)
            chmod(home, 0o777)
            try FileManager.default.copyItem(atPath: Site.program, toPath: scratch.file("rootfs/usr/bin/singularity"))
            try FileManager.default.copyItem(atPath: image, toPath: home + "/base.sif")
            chmod(home + "/base.sif", 0o644)
        }

        func write(_ name: String, _ text: String) throws {
            try text.write(toFile: scratch.file("rootfs/home/work/") + name, atomically: true, encoding: .utf8)
        }

        /// Runs a script in a container.
        func run(_ script: String, user: Int = 0, isFiltered: Bool) throws -> Run {
            let file = scratch.file("config.json")
            unlink(file)
            _ = try Run.program("/usr/sbin/runc", ["spec", "--bundle", scratch.path])
            var spec = try #require(try JSONSerialization.jsonObject(with: Data(contentsOf: URL(filePath: file))) as? [String: Any])
            var process = try #require(spec["process"] as? [String: Any])
            process["terminal"] = false
            process["noNewPrivileges"] = false
            process["user"] = ["uid": user, "gid": user]
            let own = user == 0 ? ContainerEngineTests.capabilities : []
            process["capabilities"] = ["bounding": ContainerEngineTests.capabilities, "effective": own, "permitted": own]
            process["rlimits"] = []
            process["args"] = ["/bin/sh", "-c", script]
            process["cwd"] = "/home/work"
            process["env"] = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/home/work"]
            spec["process"] = process
            spec["root"] = ["path": "rootfs", "readonly": false]
            var linux = try #require(spec["linux"] as? [String: Any])
            // The network of the host, for apt-get; no control groups, which root may lack here.
            let namespaces = try #require(linux["namespaces"] as? [[String: Any]])
            linux["namespaces"] = namespaces.filter { !["network", "cgroup"].contains($0["type"] as? String) }
            linux["resources"] = [:] as [String: Any]
            if isFiltered { linux["seccomp"] = ContainerEngineTests.filter }
            spec["linux"] = linux
            let mounts = try #require(spec["mounts"] as? [[String: Any]])
            spec["mounts"] =
                mounts.filter { !["cgroup", "sysfs"].contains($0["type"] as? String) } + [
                    ["destination": "/sys", "type": "none", "source": "/sys", "options": ["rbind", "ro"]],
                    [
                        "destination": "/etc/resolv.conf", "type": "none", "source": "/etc/resolv.conf", "options": ["bind", "ro"],
                    ],
                ]
            try JSONSerialization.data(withJSONObject: spec).write(to: URL(filePath: file))
            return try Run.program(
                "/usr/sbin/runc",
                ["--root", scratch.file("state"), "run", "--bundle", scratch.path, "test-\(UInt32.random(in: 0 ... .max))"])
        }
    }

    @Test func imagesAreBuiltWhereNothingCanBeMounted() throws {
        let engine = try Engine(#function)
        try engine.write(
            "recipe.def",
            """
            Bootstrap: localimage
            From: base.sif
            %setup
                echo setup > $SINGULARITY_ROOTFS/setup-was-here
            %files
                /home/work/recipe.def /copied
            %post
                apt-get -qq update
                DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends openssh-client >/dev/null
                useradd -m bob
                touch /tmp/rubbish
                echo x > /of-bob
                chown bob /of-bob
                (sleep 1000 &)
            %test
                test -f /of-bob
                touch /left-by-test
            """)
        let built = try engine.run("singularity build out.sif recipe.def && singularity inspect out.sif", isFiltered: true)
        #expect(built.status == 0, "\(built)")
        #expect(built.error.contains("by chroot"), "\(built)")
        let image = engine.scratch.file("rootfs/home/work/out.sif")
        let listing = try Run.program(
            "/usr/bin/unsquashfs",
            [
                "-lln", "-o", try Site.offset(of: image), image, "setup-was-here", "copied", "of-bob", "usr/bin/ssh-agent", "tmp", "dev",
                "etc/resolv.conf",
            ])
        let lines = listing.output.split(separator: "\n")
        func line(_ path: String) -> Substring? { lines.first { $0.hasSuffix("squashfs-root/\(path)") } }
        #expect(line("setup-was-here") != nil && line("copied") != nil, "\(listing)")
        #expect(line("of-bob")?.contains(" 1000/0 ") == true, "\(listing)")
        // Owners and bits that programs set are the image's.
        #expect(line("usr/bin/ssh-agent")?.hasPrefix("-rwxr-sr-x 0/") == true, "\(listing)")
        #expect(line("tmp/rubbish") == nil && line("left-by-test") == nil)
        // What the section needed is not in the image.
        let before = try Run.program(
            "/usr/bin/unsquashfs", ["-lln", "-o", try Site.offset(of: Site.debian.get()), Site.debian.get(), "dev", "etc/resolv.conf"])
        for name in ["dev/null", "etc/resolv.conf"] {
            #expect(lines.filter { $0.hasSuffix(name) } == before.output.split(separator: "\n").filter { $0.hasSuffix(name) }, "\(name)")
        }
        // Nothing goes on, and nothing is left.
        #expect(Processes.living(named: "sleep", with: "1000").isEmpty)
        let rest = try FileManager.default.contentsOfDirectory(atPath: engine.scratch.file("rootfs/tmp"))
        #expect(rest == [], "\(rest)")

        try engine.write("failing.def", "Bootstrap: localimage\nFrom: base.sif\n%post\n    true\n%test\n    echo wrong; exit 3\n")
        let failed = try engine.run("singularity build failing.sif failing.def", isFiltered: true)
        #expect(failed.status == 255 && failed.error.contains("%test"), "\(failed)")
        #expect(!FileManager.default.fileExists(atPath: engine.scratch.file("rootfs/home/work/failing.sif")))
        let bound = try engine.run("singularity build -B /etc:/mnt bound.sif failing.def", isFiltered: true)
        #expect(bound.status == 255 && bound.error.contains("--bind: root may mount nothing here"), "\(bound)")
        let driver = "mkdir -p driver/usr/bin; echo > driver/usr/bin/nvidia-smi; export SINGULARITY_DRIVER_ROOT=$PWD/driver; "
        let driven = try engine.run(driver + "singularity build --nv driven.sif failing.def", isFiltered: true)
        #expect(driven.status == 255 && driven.error.contains("--nv, --rocm: root may mount nothing here"), "\(driven)")
    }

    @Test(arguments: [0, 1000]) func imagesRunInAPod(_ user: Int) throws {
        let engine = try Engine(#function)
        try engine.write(
            "recipe.def",
            "Bootstrap: localimage\nFrom: base.sif\n%post\n    id -u > /who; touch \"$(printf '/odd-\\377')\"\n%test\n    test -s /who\n")
        let doctor = try engine.run("singularity doctor", user: user, isFiltered: false)
        #expect(doctor.output.contains("degraded  new /proc") && doctor.output.contains("procMount"), "\(doctor)")
        let script = """
            singularity -q exec base.sif cat /etc/debian_version && singularity -q exec --containall base.sif sh -c 'echo contained; exit 5'
            echo $?
            singularity -q instance start base.sif one && singularity -q exec instance://one echo within; singularity -q instance stop one
            echo $?
            singularity -q build out.sif recipe.def && singularity -q exec out.sif sh -c 'test -f "$(printf "/odd-\\377")" && cat /who'
            """
        let result = try engine.run(script, user: user, isFiltered: false)
        let lines = result.output.split(separator: "\n").map(String.init)
        #expect(lines.dropFirst() == ["contained", "5", "within", "0", "0"], "\(result)")
        #expect(result.error.contains("/proc shows the processes outside"), "\(result)")
    }
}
