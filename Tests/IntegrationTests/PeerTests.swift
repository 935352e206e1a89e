import Foundation
import Testing

/// Both ways with the real Apptainer, where `make peers` has been run.
@Suite(.serialized, .enabled(if: Site.isPrepared && Peer.isThere, "needs scripts/test.sh, root and `make peers`"))
struct PeerTests {
    /// The folder that both see.
    private func shared(_ body: (String, String) throws -> Void) throws {
        let name = "test-\(UInt32.random(in: 0 ... .max))"
        let folder = "\(Peer.root)/bench/\(name)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        chmod(folder, 0o777)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        for file in ["tiny.sif", "plain.sif", "ec-key.pem", "ec-pub.pem", "enc-key.pem", "enc-pub.pem", "pgp-public.bin", "pgp-secret.bin"]
        {
            let source = file == "plain.sif" ? "signed-pem.sif" : file
            try Run.program("/bin/cp", ["\(Site.fixtures)/\(source)", "\(folder)/\(file)"]).ok()
            chmod("\(folder)/\(file)", 0o666)
        }
        try body(folder, "/bench/\(name)")
    }

    @Test func signaturesAreAcceptedBothWays() throws {
        try shared { folder, inside in
            let environment = ["SINGULARITY_CONFIGDIR": folder + "/conf"]
            func ours(_ words: String...) throws -> Run { try Run.program(Site.program, words, environment: environment, in: folder) }
            try ours("sign", "--key", "ec-key.pem", "tiny.sif").ok()
            try Peer.apptainer("verify", "--key", "\(inside)/ec-pub.pem", "\(inside)/tiny.sif").ok()
            try Run.program("/bin/cp", ["plain.sif", "theirs.sif"], in: folder).ok()
            try Run.program("/bin/chmod", ["a+rw", "theirs.sif"], in: folder).ok()
            try Peer.apptainer("sign", "--key", "\(inside)/ec-key.pem", "\(inside)/theirs.sif").ok()
            let both = try ours("verify", "--key", "ec-pub.pem", "theirs.sif")
            // The image had a signature of another key before.
            #expect(both.error.contains("signature object 4 not valid: dsse"), "\(both)")
            try ours("key", "import", "pgp-secret.bin").ok()
            try Run.program("/bin/cp", ["\(Site.fixtures)/tiny.sif", "pgp.sif"], in: folder).ok()
            try ours("sign", "pgp.sif").ok()
            try Run.program("/bin/chmod", ["a+rw", "pgp.sif"], in: folder).ok()
            let keys = "\(inside)/keys"
            try Peer.apptainer("key", "import", "--keysdir", keys, "\(inside)/pgp-public.bin").ok()
            try Peer.run("env", "APPTAINER_KEYSDIR=\(keys)", "apptainer", "verify", "--local", "\(inside)/pgp.sif").ok()
        }
    }

    @Test func encryptedImagesRunBothWays() throws {
        try shared { folder, inside in
            func ours(_ words: String...) throws -> Run {
                try Run.program(Site.program, words, environment: ["SINGULARITY_ENCRYPTION_PASSPHRASE": "a phrase"], in: folder)
            }
            try ours("build", "--pem-path", "enc-pub.pem", "pem.sif", "plain.sif").ok()
            try ours("build", "--encrypt", "phrase.sif", "plain.sif").ok()
            for name in ["pem.sif", "phrase.sif"] { chmod("\(folder)/\(name)", 0o644) }
            let pem = try Peer.apptainer("exec", "--pem-path", "\(inside)/enc-key.pem", "\(inside)/pem.sif", "echo", "ran")
            #expect(pem.output == "ran\n", "\(pem)")
            let phrase = try Peer.run(
                "env", "APPTAINER_ENCRYPTION_PASSPHRASE=a phrase", "apptainer", "exec", "\(inside)/phrase.sif", "echo", "ran")
            #expect(phrase.output == "ran\n", "\(phrase)")
            try Peer.apptainer("build", "--encrypt", "--pem-path", "\(inside)/enc-pub.pem", "\(inside)/theirs.sif", "\(inside)/plain.sif")
                .ok()
            let theirs = try ours("exec", "--pem-path", "enc-key.pem", "theirs.sif", "echo", "ran")
            #expect(theirs.output == "ran\n", "\(theirs)")
            // An image with our documents in it is none that they stumble over.
            try ours("build", "documents.sif", "plain.sif").ok()
            chmod("\(folder)/documents.sif", 0o644)
            #expect(try Peer.apptainer("exec", "\(inside)/documents.sif", "echo", "ran").output == "ran\n")
        }
    }
}

/// A root file system with Apptainer in it.
enum Peer {
    static let root = URL(filePath: Site.repository + "/.build/peers").resolvingSymlinksInPath().path
    static var isThere: Bool { Site.isRoot && FileManager.default.isExecutableFile(atPath: root + "/usr/bin/apptainer") }

    static func run(_ words: String...) throws -> Run {
        try Run.program("/bin/sh", [Site.repository + "/scripts/in-peers.sh", root] + words)
    }

    static func apptainer(_ words: String...) throws -> Run {
        try Run.program("/bin/sh", [Site.repository + "/scripts/in-peers.sh", root, "apptainer"] + words)
    }
}
