import Foundation
import Linux
import Runtime
import Testing

@Suite struct PlanTests {
    private let facts = HostFacts(
        uid: 1000, gid: 1000, groups: [1000, 27], account: .init(name: "me", comment: "Me", home: "/home/me", shell: "/bin/bash"),
        workingDirectory: "/data/project", environment: [("LANG", "de"), ("SINGULARITYENV_X", "1"), ("BASH_FUNC_x%%", "() { :; }")],
        umask: 0o027, mayMount: false)

    /// A sandbox directory as an image.
    private func image(_ make: (String) throws -> Void = { _ in }) throws -> (ImageFile, String) {
        let folder = NSTemporaryDirectory() + "/plan-\(UInt32.random(in: 0 ... .max))"
        for name in ["etc", "tmp", "proc", "sys", "dev", "usr/lib", "var/tmp"] { try Files.makeDirectories(folder + "/" + name) }
        try make(folder)
        return (try ImageFile.open(folder, workingDirectory: nil), folder)
    }

    private func plan(_ change: (inout RunOptions) -> Void) throws -> (LaunchPlan, RootView) {
        let (image, folder) = try image { try Files.replace($0 + "/etc/passwd", with: Array("root:x:0:0::/root:/bin/sh\n".utf8)) }
        defer { Files.removeTree(folder) }
        var options = RunOptions(image: image.path, action: .exec(["true"]))
        change(&options)
        var planner = try LaunchPlanner(options, facts, image)
        return (try planner.plan(), planner.view)
    }

    @Test func anOrdinaryRunHasUserAndMountNamespacesOnly() throws {
        let (plan, _) = try plan { _ in }
        #expect(plan.namespaces == [.user, .mount])
        #expect(plan.mounts.map(\.destination).contains("/data/project"))
        #expect(plan.workingDirectories == ["/data/project", "/home/me", "/"])
        #expect(plan.umask == 0o027)
        #expect(plan.rootLayer == .readOnly)
    }

    @Test func containAllIsClosed() throws {
        let (plan, _) = try plan { $0.containAll = true }
        #expect(plan.namespaces == [.user, .mount, .pid, .ipc])
        #expect(!plan.mounts.contains { $0.kind == .bind(source: "/tmp", readOnly: false) })
        #expect(plan.environment.inherited.map(\.name) == ["LANG"])
        #expect(plan.environment.inherited.first?.value == "C")
    }

    @Test func parentsAreMountedBeforeChildren() throws {
        let (plan, _) = try plan {
            $0.binds = [
                BindSpec(source: "/a", destination: "/x/y/z"), BindSpec(source: "/b", destination: "/x"),
                BindSpec(source: "/c", destination: "/w/v"),
            ]
        }
        #expect(plan.mounts.filter { $0.reason == "--bind" }.map(\.destination) == ["/x", "/w/v", "/x/y/z"])
    }

    @Test func optionsThatExcludeEachOtherAreRefused() {
        #expect(throws: RuntimeError.self) {
            try plan {
                $0.writable = true; $0.writableTmpfs = true
            }
        }
        #expect(throws: RuntimeError.self) { try plan { $0.scratch = ["relative"] } }
        #expect(throws: RuntimeError.self) { try plan { $0.workDirectory = "/no/such/directory" } }
        #expect(throws: RuntimeError.self) { try plan { $0.binds = [BindSpec(source: "/a", destination: "/")] } }
    }

    @Test func pathsAreComparedByNames() {
        #expect(LaunchPlanner.isPath("/scratch/a", within: "/scratch"))
        #expect(!LaunchPlanner.isPath("/scratch2", within: "/scratch"))
    }

    // MARK: The throw-away layer

    @Test func missingMountPointsAreAddedInsideTheTreeOnly() throws {
        let (image, folder) = try image {
            symlink("../../../../usr/lib", $0 + "/lib")
            try Files.replace($0 + "/etc/file", with: [1])
        }
        defer { Files.removeTree(folder) }
        var options = RunOptions(image: image.path, action: .exec(["true"]))
        options.noHome = true
        options.noMount = ["cwd", "tmp", "dev", "proc", "sys", "bind-paths"]
        options.binds = [
            BindSpec(source: "/tmp", destination: "/lib/new/deep"), BindSpec(source: "/tmp", destination: "/etc/file/below"),
            BindSpec(source: "/tmp", destination: "/etc/file"),
        ]
        var planner = try LaunchPlanner(options, facts, image)
        let plan = try planner.plan()
        let layer = SessionLayer(plan, planner.view, isDirectory: plan.mounts.map { _ in true })
        #expect(layer.entries.contains { $0.path == ["usr", "lib", "new", "deep"] && $0.content == .directory(mode: 0o755) })
        #expect(layer.entries.allSatisfy { !$0.path.contains("..") })
        // A file where a directory is wanted, and the other way round.
        #expect(layer.unreachable.count == 2)
    }

    // MARK: Accounts

    @Test func theCallerIsAddedToThePasswordFile() {
        let image = Array("root:x:0:0:root:/root:/bin/sh\n".utf8)
        #expect(
            AccountFiles.passwd(image, facts, home: "/home/me") == "root:x:0:0:root:/root:/bin/sh\nme:x:1000:1000:Me:/home/me:/bin/bash\n")
        // A line for the same id keeps its group and shell.
        let other = Array("app:x:1000:5:App:/app:/bin/app\n".utf8)
        #expect(AccountFiles.passwd(other, facts, home: "/h") == "me:x:1000:5:Me:/h:/bin/app\n")
        #expect(
            AccountFiles.group(Array("root:x:0:\n".utf8), facts, names: [1000: "me", 27: "sudo"])
                == "root:x:0:\nme:x:1000:me\nsudo:x:27:me\n")
    }

    @Test func aHostsEntryCannotAddLines() {
        var hostile = facts
        hostile.account?.comment = "x\nroot2:x:0:0::/:/bin/sh"
        #expect(AccountFiles.passwd(Array("root:x:0:0:root:/root:/bin/sh\n".utf8), hostile, home: "/h") == nil)
    }

    // MARK: Environment

    @Test func precedenceIsInjectedThenImageThenHost() throws {
        let (plan, _) = try plan { $0.environment = [("E", "$FOO-$NOWHERE")] }
        let scripts = EnvironmentScripts(
            files: [("10-docker2singularity.sh", "export FOO=\"${FOO:-image}\"\nexport LANG=xx\nexport PATH=/opt/bin")],
            plan: plan.environment, workingDirectory: "/w")
        let variables = try scripts.evaluate()
        #expect(variables["FOO"] == "image")
        #expect(variables["LANG"] == "xx")
        #expect(variables["X"] == "1")
        #expect(variables["E"] == "image-")
        #expect(variables["PATH"] == "/opt/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        #expect(variables["PWD"] == "/w")
        #expect(variables.keys.allSatisfy { !$0.hasPrefix("BASH_FUNC") && !$0.hasPrefix("SINGULARITYENV_") })
    }
}

@Suite struct BindSpecTests {
    @Test func listsOptionsAndEscapesAreRead() throws {
        #expect(try BindSpec.parse("/a") == [BindSpec(source: "/a", destination: "/a")])
        #expect(
            try BindSpec.parse("/a:/b:ro,/c") == [
                BindSpec(source: "/a", destination: "/b", isReadOnly: true), BindSpec(source: "/c", destination: "/c"),
            ])
        #expect(try BindSpec.parse("/a:/b,ro") == [BindSpec(source: "/a", destination: "/b", isReadOnly: true)])
        #expect(try BindSpec.parse("/a\\:x\\,y:/b") == [BindSpec(source: "/a:x,y", destination: "/b")])
        #expect(throws: RuntimeError.self) { try BindSpec.parse("/a:/b:/c") }
        #expect(throws: RuntimeError.self) { try BindSpec.parse("/a:relative") }
    }

    @Test func mountSpecsAreRead() throws {
        #expect(try BindSpec.parse(mount: "type=bind,src=/a,dst=/b,ro") == [BindSpec(source: "/a", destination: "/b", isReadOnly: true)])
        #expect(try BindSpec.parse(mount: "\"src=/a,b\",dst=/b") == [BindSpec(source: "/a,b", destination: "/b")])
        #expect(throws: RuntimeError.self) { try BindSpec.parse(mount: "type=tmpfs,dst=/b") }
        #expect(throws: RuntimeError.self) { try BindSpec.parse(mount: "src=/a") }
    }
}

@Suite struct OCIRunscriptTests {
    private let script = "#!/bin/sh\nOCI_ENTRYPOINT='\"/app\" \"two words\"'\nOCI_CMD='\"-x\" \"$HOME\"'\nmore\n"

    @Test func entrypointAndCommandAreRunWithoutAShell() throws {
        let run = try #require(OCIRunscript(script))
        #expect(run.words(arguments: [], variables: ["HOME": "/h"], evaluates: true) == ["/app", "two words", "-x", "/h"])
        #expect(run.words(arguments: ["a b", "$HOME"], variables: ["HOME": "/h"], evaluates: true) == ["/app", "two words", "a b", "/h"])
        #expect(run.words(arguments: ["$HOME"], variables: ["HOME": "/h"], evaluates: false) == ["/app", "two words", "$HOME"])
        #expect(OCIRunscript("#!/bin/sh\necho hi\n") == nil)
    }
}
