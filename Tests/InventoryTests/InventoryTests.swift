import Foundation
import ImageTree
import Inventory
import Messages
import TestSupport
import Testing

@Suite struct InventoryTests {
    /// A tree with files of these contents.
    private func inventory(_ files: [String: String]) -> ImageInventory { inventory(files.mapValues { Array($0.utf8) }) }

    private func inventory(_ files: [String: [UInt8]]) -> ImageInventory {
        let root = Node.directory()
        let editor = TreeEditor(root, time: 0)
        for (path, bytes) in files { editor.write(path, bytes, mode: 0o644) }
        return ImageInventory(root) { try TreePath.read($0, in: root) }
    }

    private let release = ["etc/os-release": "ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Debian 12\"\n"]

    @Test func packagesOfDebian() {
        let status = """
            Package: bash
            Status: install ok installed
            Architecture: amd64
            Version: 5.2.15-2+b7
            Homepage: http://tiswww.case.edu/php/chet/bash/bashtop.html
            Description: shell
             more of it

            Package: removed
            Status: deinstall ok config-files
            Version: 1

            Package: libc6
            Status: install ok installed
            Architecture: amd64
            Version: 2:2.36-9~deb12
            """
        let found = inventory(release.merging(["var/lib/dpkg/status": status]) { one, _ in one })
        #expect(found.packages.map(\.name) == ["bash", "libc6"])
        #expect(
            found.packages.map { $0.url(found.distribution) } == [
                "pkg:deb/debian/bash@5.2.15-2%2Bb7?arch=amd64&distro=debian-12",
                "pkg:deb/debian/libc6@2:2.36-9~deb12?arch=amd64&distro=debian-12",
            ])
    }

    @Test func packagesOfAlpineAndArch() {
        let found = inventory([
            "lib/apk/db/installed": "C:Q1abc=\nP:musl\nV:1.2.4-r2\nA:x86_64\nL:MIT\nU:https://musl.libc.org/\n\nP:busybox\nV:1.36\n",
            "var/lib/pacman/local/zlib-1.3-1/desc": "%NAME%\nzlib\n\n%VERSION%\n1:1.3-1\n\n%ARCH%\nx86_64\n\n%LICENSE%\ncustom\n",
            "etc/os-release": "ID=alpine\nVERSION_ID=3.19\n",
        ])
        #expect(
            found.packages.map { "\($0.ecosystem.rawValue) \($0.name) \($0.version)" } == [
                "alpm zlib 1:1.3-1", "apk busybox 1.36", "apk musl 1.2.4-r2",
            ])
        #expect(found.packages[2].license == "MIT")
        #expect(found.packages[2].url(found.distribution) == "pkg:apk/alpine/musl@1.2.4-r2?arch=x86_64&distro=alpine-3.19")
    }

    @Test func packagesOfLanguages() {
        let found = inventory([
            "usr/lib/python3/dist-packages/Some_Thing-1.0.dist-info/METADATA":
                "Metadata-Version: 2.1\nName: Some.Thing\nVersion: 1.0\nLicense: BSD\n\ntext\nName: other\n",
            "opt/old.egg-info": "Name: old\nVersion: 0.1\n",
            "opt/conda/conda-meta/numpy-1.26-py312.json":
                #"{"name":"numpy","version":"1.26","build":"py312","channel":"https://conda.example/conda-forge","subdir":"linux-64","license":"BSD-3-Clause"}"#,
            "srv/app/node_modules/left-pad/package.json": #"{"name":"left-pad","version":"1.3.0","license":"WTFPL"}"#,
            "srv/app/node_modules/@scope/thing/package.json": #"{"name":"@scope/thing","version":"2.0.0","license":{"type":"MIT"}}"#,
            "srv/app/node_modules/.package-lock.json": "{}",
            "srv/app/node_modules/broken/package.json": "{",
            "usr/lib/R/library/stats/DESCRIPTION": "Package: stats\nVersion: 4.3.1\nLicense: Part of R 4.3.1\n",
        ])
        #expect(
            found.packages.map { $0.url(found.distribution) } == [
                "pkg:conda/numpy@1.26?build=py312&channel=conda-forge&subdir=linux-64", "pkg:cran/stats@4.3.1",
                "pkg:npm/%40scope/thing@2.0.0", "pkg:npm/left-pad@1.3.0", "pkg:pypi/some-thing@1.0", "pkg:pypi/old@0.1",
            ])
    }

    @Test func oldDatabasesAreNamed() {
        let found = inventory(["var/lib/rpm/Packages": "something", "var/lib/rpm/rpmdb.sqlite": "nothing of the kind"])
        #expect(found.packages.isEmpty)
        #expect(found.failures.count == 2, "\(found.failures)")
    }

    /// A hash of one page and a file of one slot, cut short and with each byte changed: found or refused, and never a trap.
    @Test func damagedDatabasesAreNoDanger() {
        func little(_ number: UInt32) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: number >> ($0 * 8)) } }
        let header: [UInt8] = [
            0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 3, 232, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 3, 233, 0, 0, 0, 6, 0, 0, 0, 2, 0, 0, 0, 1, 97,
            0, 49, 0,
        ]
        var hash = [UInt8](repeating: 0, count: 3 * 512)
        hash.replaceSubrange(12..<16, with: little(0x61561))
        hash.replaceSubrange(20..<24, with: little(512))
        // Page 1: a key within it, and a value on page 2.
        let items: [UInt8] = [3, 0, 0, 0] + little(2) + little(UInt32(header.count)) + [1, 7, 0, 0, 0]
        hash.replaceSubrange(1024 - items.count..<1024, with: items)
        hash[512 + 20] = 2
        hash[512 + 25] = 13
        hash.replaceSubrange(512 + 26..<512 + 30, with: [UInt8(507 & 0xff), 1, UInt8(495 & 0xff), 1])
        hash[1024 + 22] = UInt8(header.count)
        hash[1024 + 25] = 7
        hash.replaceSubrange(1024 + 26..<1024 + 26 + header.count, with: header)
        var slots = Array("RpmP".utf8) + little(0) + little(1) + little(1) + little(2) + [UInt8](repeating: 0, count: 12)
        slots += Array("Slot".utf8) + little(1) + little(256) + little(5)
        while slots.count < 4096 { slots += Array("Slot".utf8) + [UInt8](repeating: 0, count: 12) }
        slots += Array("BlbS".utf8) + little(1) + little(1) + little(UInt32(header.count)) + header
        slots += [UInt8](repeating: 0, count: 5 * 16 - 16 - header.count)
        for (path, bytes) in [("var/lib/rpm/Packages", hash), ("var/lib/rpm/Packages.db", slots)] {
            func names(_ bytes: [UInt8]) -> [String] { inventory([path: bytes]).packages.map(\.name) }
            #expect(names(bytes) == ["a"], "\(path): \(inventory([path: bytes]).failures)")
            for count in stride(from: 0, to: bytes.count, by: 7) { _ = names(Array(bytes[..<count])) }
            for place in bytes.indices where bytes[place] != 0 || place % 5 == 0 {
                for change: UInt8 in [1, 0x80, 0xff] {
                    var damaged = bytes
                    damaged[place] ^= change
                    _ = names(damaged)
                }
            }
        }
    }

    @Test func whatDiffers() {
        func packages(_ text: String) -> [InstalledPackage] {
            inventory(["lib/apk/db/installed": text]).packages
        }
        let changes = InventoryComparison(packages("P:a\nV:1\n\nP:b\nV:1\n\nP:c\nV:1\n"), packages("P:a\nV:1\n\nP:b\nV:2\n\nP:d\nV:1\n"))
            .changes
        #expect(changes.count == 3)
        guard changes.count == 3, case .changed(let b, let from, let to) = changes[0], case .removed(let c) = changes[1],
            case .added(let d) = changes[2]
        else {
            Issue.record("\(changes)")
            return
        }
        #expect(b.name == "b" && from == "1" && to == "2" && c.name == "c" && d.name == "d")
    }

    @Test func documentsAreOfTheirForms() throws {
        let found = inventory(release.merging(["lib/apk/db/installed": "P:a b\nV:1\nU:https://a/\nm:me <me@a>\n"]) { one, _ in one })
        let subject = InventorySubject(
            name: "x", identity: String(repeating: "ab", count: 32), created: "2026-01-01T00:00:00Z", tool: ("singularity", "5"))
        let spdx = try #require(
            try JSONSerialization.jsonObject(with: Data(SPDXDocument.json(found, of: subject).compact.utf8)) as? [String: Any])
        #expect(spdx["spdxVersion"] as? String == "SPDX-2.3" && spdx["dataLicense"] as? String == "CC0-1.0")
        let packages = try #require(spdx["packages"] as? [[String: Any]])
        let identifiers = packages.compactMap { $0["SPDXID"] as? String }
        #expect(identifiers.count == 2 && Set(identifiers).count == 2)
        // Letters, numbers, dots and hyphens (SPDX 2.3, section 7.2).
        #expect(identifiers.allSatisfy { $0.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "." || $0 == "-") } })
        let relations = try #require(spdx["relationships"] as? [[String: String]])
        #expect(
            relations.contains { $0["relationshipType"] == "DESCRIBES" }
                && relations.contains { $0["relatedSpdxElement"] == identifiers[1] })
        let cyclone = try #require(
            try JSONSerialization.jsonObject(with: Data(CycloneDXDocument.json(found, of: subject).compact.utf8)) as? [String: Any])
        #expect(cyclone["bomFormat"] as? String == "CycloneDX" && cyclone["specVersion"] as? String == "1.5")
        let serial = try #require(cyclone["serialNumber"] as? String)
        #expect(UUID(uuidString: String(serial.dropFirst("urn:uuid:".count))) != nil)
        let components = try #require(cyclone["components"] as? [[String: Any]])
        #expect(components.first?["purl"] as? String == "pkg:apk/debian/a%20b@1?distro=debian-12")
    }

    @Test func damagedDatabasesNeverCrash() {
        var generator = Generator(state: 6)
        let texts = [
            "lib/apk/db/installed": "P:a\nV:1\n\nP:b\nV:2\n", "x/node_modules/a/package.json": #"{"name":"a","version":"1"}"#,
            "var/lib/pacman/local/a/desc": "%NAME%\na\n%VERSION%\n1\n", "etc/os-release": "ID=a\nVERSION_ID=1\n",
        ]
        for _ in 0..<1000 {
            _ = inventory(texts.mapValues { String(decoding: Mutations.of(Array($0.utf8), &generator), as: UTF8.self) })
        }
    }
}
