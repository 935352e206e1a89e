import Foundation
import TestSupport
import Testing

/// Layers merged into one image are what unpacking them one after the other makes; umoci is the judge.
@Suite(.enabled(if: Site.isPrepared && Site.isRoot, "needs scripts/test.sh and root: umoci unpacks owners and devices"))
struct LayerTests {
    /// What there is in a tree: kind, mode, owner, size, link, content, extended attributes, and which names are one file.
    private func listing(of folder: String) throws -> String {
        let script = """
            cd "$1" && find . -printf '%P %y %m %U:%G %l\\n' | grep -v -E '^(\\.singularity\\.d|\\.exec|\\.run|\\.shell|\\.test|environment|singularity)' | LC_ALL=C sort
            find . -type f -printf '%P\\n' | grep -v '^.singularity.d' | LC_ALL=C sort | tr '\\n' '\\0' | xargs -0 -r sha256sum
            find . -type f -links +1 -printf '%i %P\\n' | LC_ALL=C sort -k2 | awk '{ if (!($1 in n)) n[$1] = $2; print n[$1], $2 }'
            getfattr -R -d -m - . 2>/dev/null | grep -v '^$' || true
            """
        let result = try Run.program("/bin/sh", ["-c", script, "sh", folder])
        #expect(result.status == 0, "\(result)")
        return result.output
    }

    /// Compares the image made of layers with what umoci unpacks.
    private func compare(_ layers: [[UInt8]], _ name: String = #function, sourceLocation: SourceLocation = #_sourceLocation) throws {
        let scratch = try Scratch(name)
        try OCILayout.write(layers, to: scratch.file("layout"))
        let build = try Run.singularity("build", scratch.file("image.sif"), "oci:\(scratch.file("layout")):latest")
        try #require(build.status == 0, "\(build)", sourceLocation: sourceLocation)
        let ours = try Run.program(
            "/usr/bin/unsquashfs", ["-q", "-n", "-o", "36864", "-d", scratch.file("ours"), scratch.file("image.sif")])
        try #require(ours.status == 0, "\(ours)", sourceLocation: sourceLocation)
        let theirs = try Run.program(
            "/usr/bin/umoci", ["raw", "unpack", "--image", "\(scratch.file("layout")):latest", scratch.file("theirs")])
        try #require(theirs.status == 0, "\(theirs)", sourceLocation: sourceLocation)
        // What every container has besides.
        for base in ["dev", "etc", "home", "proc", "root", "sys", "tmp", "var", "var/tmp"] {
            try? FileManager.default.createDirectory(atPath: scratch.file("theirs/\(base)"), withIntermediateDirectories: true)
        }
        for file in ["etc/hosts", "etc/resolv.conf"] where !FileManager.default.fileExists(atPath: scratch.file("theirs/\(file)")) {
            _ = FileManager.default.createFile(atPath: scratch.file("theirs/\(file)"), contents: Data())
        }
        let expected = try listing(of: scratch.file("theirs")).split(separator: "\n")
        let found = try listing(of: scratch.file("ours")).split(separator: "\n")
        // The base files' modes are ours to choose; everything that layers brought must agree.
        let ignored = [
            "dev ", "etc ", "home ", "proc ", "root ", "sys ", "tmp ", "var ", "var/tmp ", "etc/hosts ", "etc/resolv.conf ", " d ",
        ]
        func relevant(_ lines: [Substring]) -> [Substring] { lines.filter { line in !ignored.contains { line.hasPrefix($0) } } }
        #expect(relevant(found) == relevant(expected), sourceLocation: sourceLocation)
    }

    @Test func oneLayerKeepsEverything() throws {
        var tar = Tar()
        tar.directory("d", mode: 0o1770)
        tar.add("d/file", content: Array("hello".utf8), mode: 0o4755, uid: 1234, gid: 4321)
        tar.add("d/link", .hardLink, link: "d/file")
        tar.add("d/soft", .symlink, link: "file")
        tar.add("d/null", .characterDevice, mode: 0o666, device: (1, 3))
        tar.add("d/disk", .blockDevice, mode: 0o600, device: (8, 300))
        tar.add("d/fifo", .fifo, mode: 0o640)
        tar.add("d/empty")
        tar.add("d/attr", content: [1, 2], xattrs: ["user.comment": "kept"])
        tar.add("d/" + String(repeating: "n", count: 200), content: Array(repeating: 65, count: 300_000))
        try compare([tar.finished])
    }

    @Test func whiteoutsDeleteAndOpaqueDirectoriesHide() throws {
        var base = Tar()
        for name in ["a", "b", "c"] {
            base.directory(name)
            base.add("\(name)/1", content: [1])
            base.add("\(name)/2", content: [2])
        }
        var top = Tar()
        top.add("a/.wh.1")
        top.directory("b")
        top.add("b/.wh..wh..opq")
        top.add("b/3", content: [3])
        top.add(".wh.c")
        try compare([base.finished, top.finished])
    }

    @Test func hardLinksReachIntoOlderLayers() throws {
        var base = Tar()
        base.add("file", content: Array("original".utf8))
        var middle = Tar()
        middle.add("link", .hardLink, link: "file")
        var top = Tar()
        top.add("file", content: Array("replaced".utf8))
        try compare([base.finished, middle.finished, top.finished])
    }

    @Test func typesChangeBetweenLayers() throws {
        var base = Tar()
        base.directory("was-directory")
        base.add("was-directory/inner", content: [1])
        base.add("was-file", content: [1])
        base.add("was-link", .symlink, link: "was-file")
        var top = Tar()
        top.add("was-directory", content: [2])
        top.directory("was-file")
        top.add("was-file/inner", content: [3])
        top.add("was-link", content: [4])
        try compare([base.finished, top.finished])
    }

    @Test func aLinkInTheWayIsFollowedInsideTheTree() throws {
        var base = Tar()
        base.directory("usr")
        base.directory("usr/bin")
        base.add("usr/bin/old", content: [1])
        base.add("bin", .symlink, link: "usr/bin")
        var top = Tar()
        top.add("bin/new", content: [2])
        try compare([base.finished, top.finished])
    }

    /// Random stacks of layers, the same ones each time.
    @Test(arguments: 0..<12) func randomLayersAgree(_ seed: Int) throws {
        var generator = Generator(state: UInt64(seed) &* 7919 + 17)
        let names = ["a", "b", "c", "d"]
        var layers: [[UInt8]] = []
        // What the stack has so far: umoci, like tar, refuses what no real layer has, such as deleting what is not there.
        for _ in 0..<3 {
            var tar = Tar()
            var used = Set<String>()
            for _ in 0..<12 {
                let depth = Int.random(in: 0...1, using: &generator)
                let name = names.randomElement(using: &generator) ?? "a"
                let path = depth == 0 ? "dir-\(name)" : "dir-\(name)/\(names.randomElement(using: &generator) ?? "a")"
                guard used.insert(path).inserted else { continue }
                if depth == 0 {
                    tar.directory(path, mode: [0o755, 0o700, 0o1777].randomElement(using: &generator) ?? 0o755)
                    if Int.random(in: 0..<6, using: &generator) == 0 { tar.add("\(path)/.wh..wh..opq") }
                } else {
                    let parent = String(path.prefix { $0 != "/" })
                    if used.insert(parent).inserted { tar.directory(parent) }
                    switch Int.random(in: 0..<5, using: &generator) {
                    case 0:
                        let parts = path.split(separator: "/")
                        tar.add("\(parts[0])/.wh.\(parts[1])")
                    case 1: tar.add(path, .symlink, link: names.randomElement(using: &generator) ?? "a")
                    default:
                        tar.add(
                            path,
                            content: (0..<Int.random(in: 0...5000, using: &generator)).map { _ in
                                UInt8.random(in: 0...255, using: &generator)
                            })
                    }
                }
            }
            layers.append(tar.finished)
        }
        try compare(layers, "randomLayersAgree\(seed)")
    }
}

/// Writes OCI image layouts (OCI image specification).
enum OCILayout {
    static func write(
        _ layers: [[UInt8]], to folder: String, mediaType: String = "application/vnd.oci.image.layer.v1.tar",
        configuration: [String: Any] = [:]
    ) throws {
        let files = FileManager.default
        try files.createDirectory(atPath: folder + "/blobs/sha256", withIntermediateDirectories: true)
        func put(_ bytes: [UInt8]) throws -> String {
            let digest = FakeRegistry.digest(bytes)
            try Data(bytes).write(to: URL(filePath: "\(folder)/blobs/sha256/\(digest.dropFirst(7))"))
            return digest
        }
        func json(_ value: [String: Any]) throws -> [UInt8] {
            [UInt8](try JSONSerialization.data(withJSONObject: value, options: .sortedKeys))
        }
        let descriptors = try layers.map { ["mediaType": mediaType, "digest": try put($0), "size": $0.count] as [String: Any] }
        let config = try json([
            "architecture": "amd64", "os": "linux", "config": configuration,
            "rootfs": ["type": "layers", "diff_ids": layers.map(FakeRegistry.digest)],
        ])
        let manifest = try json([
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": ["mediaType": "application/vnd.oci.image.config.v1+json", "digest": try put(config), "size": config.count],
            "layers": descriptors,
        ])
        let index = try json([
            "schemaVersion": 2,
            "manifests": [
                [
                    "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": try put(manifest), "size": manifest.count,
                    "annotations": ["org.opencontainers.image.ref.name": "latest"],
                ]
            ],
        ])
        try Data(index).write(to: URL(filePath: folder + "/index.json"))
        try Data(#"{"imageLayoutVersion":"1.0.0"}"#.utf8).write(to: URL(filePath: folder + "/oci-layout"))
    }
}
