import Foundation
import Testing

/// The command line itself.
@Suite(.enabled(if: Site.isPrepared, "needs scripts/test.sh")) struct CommandTests {
    @Test func versionsArePrintedAsWorkflowEnginesReadThem() throws {
        #expect(try Run.singularity("--version").output == "singularity version 5.0.0\n")
        #expect(try Run.singularity("version").output == "5.0.0\n")
        let scratch = try Scratch()
        symlink(Site.program, scratch.file("apptainer"))
        #expect(try Run.program(scratch.file("apptainer"), ["--version"]).output == "apptainer version 5.0.0\n")
    }

    /// Provoked failures, and what their message must name.
    @Test(
        arguments: [
            (["exek"], 1, "did you mean \"exec\""), (["exec"], 1, "requires at least 2 arg(s)"),
            (["exec", "--bnid", "x", "i.sif", "true"], 1, "unknown flag: --bnid"),
            (["exec", "--bind"], 1, "flag needs an argument"), (["exec", "/no/such.sif", "true"], 255, "/no/such.sif: no such file"),
            (["exec", "/dev/null", "true"], 255, "neither a file nor a directory"), (["exec", "/", "true"], 255, "/ cannot be used"),
            (["exec", "/etc/passwd", "true"], 255, "image format not recognized"),
            (["exec", "--env", "X", "/bin/sh", "true"], 1, "must be formatted as key=value"),
            (["exec", "--env-file", "/no/such", "/bin/sh", "true"], 255, "/no/such"),
            (["exec", "--home", "a:b:c", "/bin/sh", "true"], 255, "--home a:b:c"),
            (["exec", "--hostname", "bad_name", "/bin/sh", "true"], 255, "bad_name"),
            (["exec", "--dns", "x", "/bin/sh", "true"], 255, "not an IP address"),
            (["exec", "--bind", "/a:/b:/c", "/bin/sh", "true"], 255, "/c is not a valid bind option"),
            (["exec", "--mount", "foo", "/bin/sh", "true"], 255, "invalid key"),
            (["exec", "--network", "none,bridge", "/bin/sh", "true"], 255, "none cannot be combined"),
            (["build", "x.sif"], 1, "accepts 2 arg(s), received 1"),
            (["build", "--bind", "/a.sif:/mnt:image-src=/", "x.sif", "/etc"], 255, "not the inside of images"),
            (["build", "/nowhere/x.sif", "/no/such"], 255, "/no/such does not exist"),
            (["build", "/tmp", "docker://a"], 255, "is a directory"),
            (["build", "--compression", "brotli", "/nowhere/x", "docker://a"], 255, "choose zstd"),
            (["build", "--level", "99", "/nowhere/x", "docker://a"], 255, "levels"),
            (["build", "--arch", "vax", "/nowhere/x", "docker://a"], 255, "vax"),
            (["build", "/nowhere/x", "docker://UPPER/case"], 255, "UPPER"),
            (["build", "/nowhere/x", "shub://a"], 255, "shub"), (["build", "/nowhere/x", "oci:/no/such"], 255, "/no/such"),
            (["build", "/nowhere/x", "oci-archive:/no/such"], 255, "/no/such"),
            (["build", "/nowhere/x", "docker-archive:/etc/passwd"], 255, "/etc/passwd"),
            (["pull", "library"], 255, "not an image address"), (["sif", "list", "/etc/passwd"], 1, "SIF"),
            (["sif", "list", "/no/such"], 1, "/no/such"),
            (["sif", "info", "x", "/etc/passwd"], 1, "not a number"), (["sif", "frob"], 1, "unknown command \"frob\""),
            (["completion", "tcsh"], 255, "bash"),
            (["cache", "list", "--type", "x"], 255, "--type x"), (["cache", "clean"], 255, "--force"),
            (["cache", "clean", "--days", "x"], 255, "--days x"),
        ] as [([String], Int, String)]) func failuresNameTheCulprit(_ arguments: [String], _ status: Int, _ text: String) throws
    {
        let result = try Run.program(Site.program, arguments)
        #expect(result.status == Int32(status), "\(result)")
        #expect(result.error.contains(text), "\(result.error)")
    }

    /// More of them, with an image that is right.
    @Test(
        .enabled(if: Site.mayFUSE, "needs /dev/fuse"),
        arguments: [
            (["exec", "--scratch", "relative", "IMAGE", "true"], 255, "absolute path"),
            (["exec", "--workdir", "/no/such", "IMAGE", "true"], 255, "/no/such"),
            (["exec", "--writable", "IMAGE", "true"], 255, "immutable image"),
            (["exec", "--writable", "--writable-tmpfs", "IMAGE", "true"], 255, "in conjunction with --writable"),
            (["exec", "--bind", "/no/such", "IMAGE", "true"], 255, "/no/such"),
            (["exec", "--bind", "/tmp:/", "IMAGE", "true"], 255, "hide the whole image"),
            (["exec", "--bind", "/tmp:/etc/shadow", "IMAGE", "true"], 255, "/etc/shadow is a file"),
            (["exec", "--bind", "/etc/passwd:/usr", "IMAGE", "true"], 255, "/usr is a directory"),
            (["exec", "--bind", "/tmp:/etc/shadow/x", "IMAGE", "true"], 255, "/etc/shadow/x"),
            (["exec", "--pwd", "/no/such", "IMAGE", "true"], 255, "/no/such"),
            (["exec", "--home", "/a:relative", "IMAGE", "true"], 255, "absolute path"),
            (["exec", "--mount", "type=tmpfs,dst=/x", "IMAGE", "true"], 255, "tmpfs"),
            (["exec", "--mount", "src=/a", "IMAGE", "true"], 255, "absolute destination"),
            (["exec", "--network", "no-such-network", "IMAGE", "true"], 255, "no-such-network"),
            (["exec", "IMAGE", "no-such-command"], 255, "no-such-command"), (["exec", "IMAGE", "/etc"], 255, "/etc"),
            (["exec", "IMAGE", "/no/such"], 255, "/no/such"), (["exec", "--env-file", "/no/such", "IMAGE", "true"], 255, "/no/such"),
            (["build", "--block-size", "1000", "/nowhere/x", "docker://a"], 255, "power of two"),
            (["build", "--processors", "0", "/nowhere/x", "docker://a"], 255, "--processors 0"),
            (["build", "--platform", "x", "/nowhere/x", "docker://a"], 255, "--platform x"),
            (["build", "/nowhere/x", "docker-archive:/no/such"], 255, "/no/such"),
            (["build", "/nowhere/x", "oci-archive:/etc/passwd"], 255, "/etc/passwd"),
            (["sif", "dump", "9", "IMAGE"], 1, "object not found"),
            (["sif", "add", "IMAGE", "/etc/passwd"], 1, "--datatype"),
            (["sif", "add", "--datatype", "4", "IMAGE", "/etc/passwd"], 1, "--parttype"),
            (["sif", "setprim", "1", "IMAGE"], 1, "not a partition"), (["sif", "del", "99", "IMAGE"], 1, "object not found"),
            (["help", "frob"], 1, "frob"),
            (["completion"], 1, "accepts 1 arg(s)"), (["--frob"], 1, "unknown flag: --frob"),
        ] as [([String], Int, String)]) func failuresWithAnImageNameTheCulprit(_ arguments: [String], _ status: Int, _ text: String) throws
    {
        let image = try Site.debian.get()
        let result = try Run.program(Site.program, arguments.map { $0 == "IMAGE" ? image : $0 })
        #expect(result.status == Int32(status), "\(result)")
        #expect(result.error.contains(text), "\(result.error)")
    }

    @Test func damagedImagesAreNamedAndDoNotRun() throws {
        let scratch = try Scratch()
        let whole = [UInt8](try Data(contentsOf: URL(filePath: Site.debian.get())))
        func attempt(_ name: String, _ bytes: [UInt8]) throws -> Run {
            try Run.singularity("exec", try scratch.write(name, bytes), "true", as: .ordinaryUser)
        }
        for count in [10, 100, 4100, 33_000, 36_900, 100_000, whole.count - 5000] {
            let result = try attempt("cut-\(count).sif", Array(whole.prefix(count)))
            #expect(result.status == 255 && result.error.contains("cut-\(count).sif"), "\(count): \(result)")
        }
        var bad = whole
        for index in 36_864..<36_960 { bad[index] = 0xff }
        let result = try attempt("bad.sif", bad)
        #expect(result.status == 255 && result.error.contains("bad.sif"), "\(result)")
    }

    @Test func aDamagedFileInAnImageIsAnInputOutputErrorForItsReader() throws {
        guard Site.mayFUSE else { return }
        let scratch = try Scratch()
        var bytes = [UInt8](try Data(contentsOf: URL(filePath: Site.debian.get())))
        for index in 20_000_000..<20_400_000 { bytes[index] ^= 0x5a }
        let image = try scratch.write("image.sif", bytes)
        let result = try Run.singularity(
            "exec", image, "sh", "-c", "find / -xdev -type f -print0 | xargs -0 cat > /dev/null; echo alive", as: .ordinaryUser)
        #expect(result.output == "alive\n" && result.error.contains("Input/output error"), "\(result)")
    }

    @Test func sifFilesAreMadeAndChanged() throws {
        let scratch = try Scratch()
        let object = try scratch.write("object", Array("payload".utf8))
        #expect(try Run.singularity("sif", "new", "x.sif", in: scratch.path).status == 0)
        #expect(try Run.singularity("sif", "new", "x.sif", in: scratch.path).error.contains("is there already"))
        #expect(try Run.singularity("sif", "add", "--datatype", "6", "--filename", "name", "x.sif", object, in: scratch.path).status == 0)
        #expect(
            try Run.singularity(
                "sif", "add", "x.sif", object, "--datatype", "4", "--parttype", "1", "--partfs", "1", "--partarch", "4", in: scratch.path
            ).status == 0)
        #expect(try Run.singularity("sif", "dump", "1", "x.sif", in: scratch.path).output == "payload")
        #expect(try Run.singularity("sif", "setprim", "2", "x.sif", in: scratch.path).status == 0)
        #expect(try Run.singularity("sif", "list", "x.sif", in: scratch.path).output.contains("FS (Squashfs/*System/arm64)"))
        #expect(try Run.singularity("sif", "del", "1", "x.sif", in: scratch.path).status == 0)
        #expect(try Run.singularity("sif", "info", "1", "x.sif", in: scratch.path).error.contains("object not found"))
        #expect(try Run.singularity("sif", "header", "x.sif", in: scratch.path).output.contains("Primary Architecture: arm64"))
    }

    @Test func installationIsOneFileWithPagesAndCompletions() throws {
        let scratch = try Scratch()
        let result = try Run.program("/bin/sh", ["scripts/install.sh", scratch.file("prefix")], in: Site.repository)
        #expect(result.status == 0, "\(result)")
        let libraries = try Run.program("/usr/bin/ldd", [scratch.file("prefix/bin/singularity")]).output
        let names = libraries.split(separator: "\n").map { $0.trimmingCharacters(in: .whitespaces).prefix { $0 != " " && $0 != "." } }
        #expect(
            names.allSatisfy { ["linux-vdso", "libc", "libm", "/lib64/ld-linux-x86-64", "libdl", "libpthread"].contains($0) },
            "\(libraries)")
        let pages = try FileManager.default.contentsOfDirectory(atPath: scratch.file("prefix/share/man/man1"))
        #expect(pages.contains("singularity-exec.1") && pages.contains("singularity-sif-list.1"), "\(pages)")
        let check = try Run.program("/bin/bash", ["-n", scratch.file("prefix/share/bash-completion/completions/singularity")])
        #expect(check.status == 0, "\(check)")
        #expect(try Run.program(scratch.file("prefix/bin/singularity"), ["--help"]).output.contains("exec"))
    }

    @Test func doctorSaysWhatWorks() throws {
        guard Site.mayFUSE else { return }
        let result = try Run.singularity("doctor", as: .ordinaryUser)
        #expect(result.status == 0 && result.output.contains("/dev/fuse: images are mounted without root"), "\(result)")
        // It says of /proc what a container meets.
        let own = try Run.singularity("exec", "--pid", Site.debian.get(), "true", as: .ordinaryUser)
        #expect(own.status == 0 && result.output.contains("ok        new /proc") == own.error.isEmpty, "\(result) \(own)")
        let json = try Run.singularity("doctor", "--json", as: .ordinaryUser)
        #expect(try JSONSerialization.jsonObject(with: json.bytes) is [[String: Any]])
    }
}
