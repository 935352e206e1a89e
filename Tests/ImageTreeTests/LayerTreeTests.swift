import Foundation
import ImageTree
import SquashFS
import Testing

/// Changes laid over a tree as overlayfs does it.
struct LayerTreeTests {
    private func file(_ text: String, mode: UInt16 = 0o644) -> Node { Node(.file(.bytes(Array(text.utf8))), Attributes(mode: mode)) }

    private func folder(_ children: [String: Node], mode: UInt16 = 0o755, xattrs: [Xattr] = []) -> Node {
        let directory = Directory()
        for (name, node) in children { directory[name] = node }
        return Node(.directory(directory), Attributes(mode: mode, xattrs: xattrs))
    }

    private func names(_ node: Node) -> [String] {
        var out: [String] = []
        var pending = [("", node)]
        while let (path, node) = pending.popLast() {
            for (name, child) in node.directory?.sorted ?? [] {
                let place = path + "/" + String(decoding: name, as: UTF8.self)
                out.append(place)
                pending.append((place, child))
            }
        }
        return out.sorted()
    }

    @Test func filesAreAddedReplacedAndDeleted() throws {
        let base = folder(["a": file("1"), "b": file("1"), "d": folder(["x": file("1"), "y": file("1")])])
        let changes = folder([
            "b": file("2"), "a": LayerTree.whiteout(), "d": folder(["y": LayerTree.whiteout(), "z": file("3")], mode: 0o700),
        ])
        let result = LayerTree.apply(changes, to: base)
        #expect(names(result) == ["/b", "/d", "/d/x", "/d/z"])
        #expect(try TreePath.read("/b", in: result) == Array("2".utf8))
        #expect(TreePath.find("/d", in: result)?.attributes.mode == 0o700)
    }

    @Test func anOpaqueDirectoryHidesWhatWasInIt() throws {
        let opaque = Xattr(name: "user.overlay.opaque", value: [UInt8(ascii: "y")])
        let base = folder(["d": folder(["x": file("1")])])
        let result = LayerTree.apply(folder(["d": folder(["z": file("2")], xattrs: [opaque])]), to: base)
        #expect(names(result) == ["/d", "/d/z"])
        #expect(TreePath.find("/d", in: result)?.attributes.xattrs.isEmpty == true)
    }

    @Test func aLayerMayBeAllThereIs() {
        let whole = folder(["only": file("1"), "gone": LayerTree.whiteout()])
        LayerTree.makeOpaque(whole)
        #expect(names(LayerTree.apply(whole, to: folder(["old": file("1")]))) == ["/only"])
    }

    @Test func aFileMayTakeTheNameOfADirectoryAndBack() {
        let base = folder(["a": folder(["x": file("1")]), "b": file("1")])
        let result = LayerTree.apply(folder(["a": file("2"), "b": folder(["y": file("2")])]), to: base)
        #expect(names(result) == ["/a", "/b", "/b/y"])
    }

    @Test func attributesOfTheOverlayDoNotReachTheImage() {
        let mark = Xattr(name: "user.overlay.origin", value: [1])
        let own = Xattr(name: "user.mine", value: [2])
        let changed = Node(.file(.empty), Attributes(mode: 0o644, xattrs: [mark, own]))
        let result = LayerTree.apply(folder(["f": changed]), to: folder([:]))
        #expect(TreePath.find("/f", in: result)?.attributes.xattrs == [own])
    }

    @Test func markersOfFuseOverlayfsMeanTheSame() {
        let base = folder(["gone": file("1"), "d": folder(["x": file("1")]), "e": folder(["y": file("1")])])
        let mark = Xattr(name: "trusted.overlay.opaque", value: [UInt8(ascii: "y")])
        let changes = folder([
            ".wh.gone": file(""), "d": folder([".wh..wh..opq": file(""), "new": file("2")]), "e": folder([:], xattrs: [mark]),
        ])
        LayerTree.replaceMarkers(in: changes)
        #expect(names(LayerTree.apply(changes, to: base)) == ["/d", "/d/new", "/e"])
    }

    // MARK: Paths

    @Test func linksAreFollowedInsideTheTree() throws {
        func link(_ target: String) -> Node { Node(.symlink(Array(target.utf8)), Attributes(mode: 0o777)) }
        let root = folder([
            "etc": folder(["passwd": file("inside")]), "up": link("../../../etc"), "absolute": link("/etc/passwd"), "loop": link("loop"),
            "dangling": link("none/at/all"),
        ])
        #expect(try TreePath.read("/up/passwd", in: root) == Array("inside".utf8))
        #expect(try TreePath.read("/absolute", in: root) == Array("inside".utf8))
        #expect(TreePath.find("/loop/x", in: root) == nil)
        #expect(TreePath.find("/dangling", in: root) == nil)
        #expect(TreePath.find("/absolute", in: root, followLast: false)?.isDirectory == false)
        #expect(TreePath.resolve("/up/new/file", in: root).path == ["etc", "new", "file"])
        #expect(TreePath.resolve("/etc/passwd/x", in: root).isBlocked)
        #expect(TreePath.resolve("/../../etc", in: root).path == ["etc"])
    }

    // MARK: Differences

    @Test func differencesAreNamed() throws {
        let old = folder(["same": file("1"), "mode": file("1"), "text": file("1"), "gone": file("1"), "type": file("1")])
        let new = folder([
            "same": file("1"), "mode": file("1", mode: 0o600), "text": file("2"), "new": folder(["in": file("1")]), "type": folder([:]),
        ])
        let changes = try TreeDiff.changes(from: old, to: new, ignoresTimes: true)
        let lines = changes.map { "\($0.kind.rawValue) \($0.path) \($0.details.joined(separator: ";"))" }
        #expect(
            lines == [
                "removed /gone ", "changed /mode mode 644 -> 600", "added /new ", "added /new/in ", "changed /text content",
                "changed /type type file -> directory",
            ])
        #expect(try TreeDiff.changes(from: old, to: old, ignoresTimes: false).isEmpty)
    }

    // MARK: Sandboxes

    @Test func aSandboxOfAnOrdinaryUserComesBackAsItWas() throws {
        let path = NSTemporaryDirectory() + "/sandbox-\(UInt32.random(in: 0 ... .max))"
        defer { try? FileManager.default.removeItem(atPath: path) }
        func node(_ content: Node.Content, _ mode: UInt16, _ uid: UInt32 = 0, _ gid: UInt32 = 0, _ xattrs: [Xattr] = []) -> Node {
            Node(content, Attributes(mode: mode, uid: uid, gid: gid, modificationTime: 1_000_000, xattrs: xattrs))
        }
        let shared = node(.file(.bytes([1, 2, 3])), 0o640, 5, 6)
        let root = folder([:])
        root.attributes.modificationTime = 1_000_000
        let capability = Xattr(name: "security.capability", value: [1, 0, 0, 2])
        let children: [(String, Node)] = [
            ("plain", node(.file(.bytes([9])), 0o444, 7, 8)), ("first", shared), ("second", shared),
            ("setuid", node(.file(.empty), 0o4755, 0, 3)), ("open", node(.file(.empty), 0o666)),
            ("locked", node(.directory(Directory()), 0o500, 9, 9)), ("null", node(.characterDevice(0x0103), 0o666, 0, 5)),
            ("disk", node(.blockDevice(0x0811), 0o660, 0, 6)), ("pipe", node(.fifo, 0o600)),
            ("able", node(.file(.bytes([1])), 0o755, 0, 0, [capability])),
            ("link", node(.symlink(Array("first".utf8)), 0o777)),
        ]
        // Names are bytes.
        root.directory?.children[[0x63, 0x61, 0x66, 0xe9]] = node(.file(.bytes([7])), 0o644)
        root.directory?.children[[0xff, 0xfe]] = node(.symlink([0x63, 0x61, 0x66, 0xe9]), 0o777)
        for (name, child) in children { root.directory?[name] = child }
        try SandboxSink(path, asRoot: false, latestTime: nil).write(root, threads: 2)
        let back = try HostTree.read(path, ownership: .recorded)
        #expect(try TreeDiff.changes(from: root, to: back, ignoresTimes: false) == [])
        #expect(back.directory?["first"] === back.directory?["second"])
    }
}
