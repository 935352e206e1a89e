import Foundation
import Testing

/// Encrypted images and data containers, as users of both kinds.
@Suite(.enabled(if: Site.isPrepared && Site.mayFUSE, "needs scripts/test.sh and /dev/fuse"))
struct EncryptionTests {
    static let identities: [Run.Identity] = Site.isRoot ? [.ordinaryUser, .caller] : [.caller]

    @Test(arguments: identities) func imagesOfThePeerRun(_ identity: Run.Identity) throws {
        let place = try Place(as: identity)
        let phrase = "\(Site.fixtures)/encrypted-passphrase.sif"
        let pem = "\(Site.fixtures)/encrypted-pem.sif"
        let key = "\(Site.fixtures)/enc-key.pem"
        let environment = ["SINGULARITY_ENCRYPTION_PASSPHRASE": "fixture passphrase"]
        #expect(try place.run("exec", phrase, "echo", "ran", environment: environment).output == "ran\n")
        #expect(try place.must("exec", "--pem-path", key, pem, "echo", "ran") == "ran\n")
        #expect(try place.run("exec", pem, "echo", "ran", environment: ["APPTAINER_ENCRYPTION_PEM_PATH": key]).output == "ran\n")
        let data = try String(contentsOfFile: key, encoding: .utf8)
        #expect(try place.run("exec", pem, "echo", "ran", environment: ["APPTAINER_ENCRYPTION_PEM_DATA": data]).output == "ran\n")
        // Keys are not handed on.
        let seen = try place.run("exec", phrase, "env", environment: environment)
        #expect(seen.status == 0 && !seen.output.contains("fixture passphrase"), "\(seen)")
        for (words, what) in [
            (["exec", phrase, "true"], "is encrypted: give its key"),
            (["exec", "--pem-path", key, phrase, "true"], "it opens with a pass phrase"),
            (["exec", "--pem-path", "\(Site.fixtures)/rsa-key.pem", pem, "true"], "cannot be decrypted"),
            (["exec", "--pem-path", "\(Site.fixtures)/enc-pub.pem", pem, "true"], "is a public key"),
            (["exec", "--pem-path", "/nonexistent", pem, "true"], "could not read the key"),
            (["exec", "--passphrase", phrase, "true"], "there is no terminal"),
        ] {
            let refused = try place.run(words)
            #expect(refused.status == 255 && refused.error.contains(what), "\(words): \(refused)")
        }
        let wrong = try place.run("exec", phrase, "true", environment: ["SINGULARITY_ENCRYPTION_PASSPHRASE": "wrong"])
        #expect(wrong.status == 255 && wrong.error.contains("cannot be decrypted"), "\(wrong)")
    }

    @Test(arguments: identities) func imagesAreEncryptedRunAndConverted(_ identity: Run.Identity) throws {
        let place = try Place(as: identity)
        let image = try place.image()
        try place.scratch.write("phrase", Array("hunter2\n".utf8))
        let expected = try place.must("exec", image, "sh", "-c", "cd /usr; find . -type f | sort | head -500 | xargs cat | md5sum")
        func sum(_ words: String...) throws -> String {
            try place.must(
                words[0], words[1], words[2], words[3], "sh", "-c", "cd /usr; find . -type f | sort | head -500 | xargs cat | md5sum")
        }
        try place.must("build", "--passphrase-file", "phrase", "phrase.sif", image)
        #expect(try sum("exec", "--passphrase-file", "phrase", "phrase.sif") == expected)
        try place.must(
            "build", "--pem-path", "\(Site.fixtures)/enc-pub.pem", "--pem-path", "\(Site.fixtures)/rsa-pub.pem", "pem.sif", image)
        #expect(try place.must("sif", "list", "pem.sif").contains("FS (Gocryptfs squashfs/*System/"))
        #expect(try sum("exec", "--pem-path", "\(Site.fixtures)/enc-key.pem", "pem.sif") == expected)
        #expect(try sum("exec", "--pem-path", "\(Site.fixtures)/rsa-key.pem", "pem.sif") == expected)
        // Nothing of what is in it stands in the file.
        let bytes = try Data(contentsOf: URL(filePath: place.scratch.file("pem.sif")))
        let listed = try place.must("sif", "list", "pem.sif")
        #expect(bytes.range(of: Data("debian_version".utf8)) == nil && !listed.contains("SBOM"))
        // From one key to another, and back to a plain image.
        try place.must(
            "build", "--source-pem-path", "\(Site.fixtures)/enc-key.pem", "--passphrase-file", "phrase", "other.sif", "pem.sif")
        #expect(try sum("exec", "--passphrase-file", "phrase", "other.sif") == expected)
        try place.must("build", "--source-passphrase-file", "phrase", "back.sif", "other.sif")
        #expect(try place.run("diff", image, "back.sif").output.split(separator: "\n").allSatisfy { $0.contains("/.singularity.d") })
        #expect(
            try place.run("diff", "--passphrase-file", "phrase", "phrase.sif", "other.sif").output.split(separator: "\n").allSatisfy {
                $0.contains("/.singularity.d")
            })
        // What it says of itself in the clear needs no key.
        #expect(try place.must("inspect", "phrase.sif").contains("org.label-schema.build-arch"))
        let inside = try place.must("inspect", "--deffile", "--passphrase-file", "phrase", "phrase.sif")
        #expect(try place.must("inspect", "--deffile", "phrase.sif") == inside)
        // Another recipient.
        let refused = try place.run(
            "recipient", "add", "--pem-path", "\(Site.fixtures)/rsa-key.pem", "phrase.sif", "\(Site.fixtures)/enc-pub.pem")
        #expect(refused.status == 255, "\(refused)")
        try place.must("build", "--pem-path", "\(Site.fixtures)/enc-pub.pem", "one.sif", image)
        try place.must("recipient", "add", "--pem-path", "\(Site.fixtures)/enc-key.pem", "one.sif", "\(Site.fixtures)/rsa-pub.pem")
        #expect(try place.must("recipient", "list", "one.sif").split(separator: "\n").count == 3)
        #expect(try sum("exec", "--pem-path", "\(Site.fixtures)/rsa-key.pem", "one.sif") == expected)
        // Without a key nothing is built.
        let none = try place.run("build", "--encrypt", "none.sif", image)
        #expect(none.status == 255 && none.error.contains("needs a key") && !place.scratch.names.contains("none.sif"), "\(none)")
        let unasked = try place.run("build", "plain.sif", image, environment: ["SINGULARITY_ENCRYPTION_PASSPHRASE": "x"])
        #expect(unasked.status == 0 && unasked.error.contains("NOT encrypting container"), "\(unasked)")
        #expect(try place.run("build", "--passphrase-file", "phrase", "--sandbox", "box", image).status == 255)
    }

    /// Both at once, which no peer can.
    @Test func encryptedImagesAreSigned() throws {
        let place = try Place(as: .ordinaryUser)
        let image = try place.image()
        try place.must("build", "--pem-path", "\(Site.fixtures)/enc-pub.pem", "e.sif", image)
        try place.must("sign", "--key", "\(Site.fixtures)/ec-key.pem", "e.sif")
        try place.must("verify", "--key", "\(Site.fixtures)/ec-pub.pem", "e.sif")
        let ran = try place.must(
            "exec", "--verify=\(Site.fixtures)/ec-pub.pem", "--pem-path", "\(Site.fixtures)/enc-key.pem", "e.sif", "echo", "ran")
        #expect(ran == "ran\n")
        let added = try place.run("recipient", "add", "--pem-path", "\(Site.fixtures)/enc-key.pem", "e.sif", "\(Site.fixtures)/rsa-pub.pem")
        #expect(added.status == 0 && added.error.contains("sign it anew"), "\(added)")
        #expect(try place.run("verify", "--key", "\(Site.fixtures)/ec-pub.pem", "e.sif").status == 255)
    }

    @Test(arguments: identities) func dataContainersAreEncrypted(_ identity: Run.Identity) throws {
        let place = try Place(as: identity)
        let image = try place.image()
        try place.scratch.write("phrase", Array("hunter2\n".utf8))
        try Run.program("/bin/sh", ["-c", "mkdir data; echo secret text > data/file"], as: identity, in: place.scratch.path).ok()
        try place.must("data", "package", "--passphrase-file", "phrase", "d.sif", "data")
        let bytes = try Data(contentsOf: URL(filePath: place.scratch.file("d.sif")))
        #expect(bytes.range(of: Data("secret".utf8)) == nil)
        let read = try place.must("exec", "--passphrase-file", "phrase", "--data", "d.sif:/mnt", image, "cat", "/mnt/file")
        #expect(read == "secret text\n")
        #expect(try place.run("exec", "--data", "d.sif:/mnt", image, "cat", "/mnt/file").status == 255)
        try place.must("instance", "start", image, "one")
        try place.must("data", "attach", "--passphrase-file", "phrase", "one", "d.sif:/mnt")
        #expect(try place.must("exec", "instance://one", "cat", "/mnt/file") == "secret text\n")
        try place.must("data", "detach", "one", "/mnt")
        try place.must("data", "export", "--passphrase-file", "phrase", "d.sif", "out")
        #expect(try String(contentsOfFile: place.scratch.file("out/file"), encoding: .utf8) == "secret text\n")
    }

    /// A program gets an error where the file was changed, never other bytes.
    @Test func changedImagesGiveErrors() throws {
        let place = try Place(as: .ordinaryUser)
        let image = try place.image()
        try place.scratch.write("phrase", Array("hunter2\n".utf8))
        try Run.program(
            "/bin/sh", ["-c", "mkdir data; head -c 3000000 /dev/urandom > data/file"], as: .ordinaryUser, in: place.scratch.path
        ).ok()
        try place.must("data", "package", "--passphrase-file", "phrase", "d.sif", "data")
        var bytes = [UInt8](try Data(contentsOf: URL(filePath: place.scratch.file("d.sif"))))
        bytes[1_500_000] ^= 4
        try Data(bytes).write(to: URL(filePath: place.scratch.file("changed.sif")))
        chmod(place.scratch.file("changed.sif"), 0o644)
        let read = try place.run("exec", "--passphrase-file", "phrase", "--data", "changed.sif:/mnt", image, "md5sum", "/mnt/file")
        #expect(read.status == 1 && read.error.contains("Input/output error"), "\(read)")
    }

    // MARK: What is written to

    /// Neither the key nor anything that was written stands in the file.
    @Test(arguments: identities) func dataThatIsWrittenToIsEncrypted(_ identity: Run.Identity) throws {
        let place = try Place(as: identity)
        let image = try place.image()
        let (key, secret) = ("\(Site.fixtures)/enc-key.pem", "patient-4711-has-a-cold")
        try place.must("data", "create", "--pem-path", "\(Site.fixtures)/enc-pub.pem", "--size", "128", "d.sif")
        func inside(_ script: String) throws -> String {
            try place.must("exec", "--pem-path", key, "--data", "d.sif:/mnt", image, "sh", "-c", script)
        }
        _ = try inside(
            "mkdir /mnt/d; for i in $(seq 300); do echo \(secret) $i > /mnt/d/f$i; done; head -c 3000000 /dev/urandom > /mnt/r; md5sum /mnt/r > /mnt/sum"
        )
        #expect(try inside("cat /mnt/d/f* | wc -l; cat /mnt/d/f77; md5sum -c /mnt/sum") == "300\n\(secret) 77\n/mnt/r: OK\n")
        let stored = try Data(contentsOf: URL(filePath: place.scratch.file("d.sif")))
        #expect(stored.range(of: Data(secret.utf8)) == nil)
        for words in [[], ["--pem-path", "\(Site.fixtures)/rsa-key.pem"]] {
            let refused = try place.run(["exec"] + words + ["--data", "d.sif:/mnt", image, "true"])
            #expect(refused.status == 255, "\(refused)")
            let checked = try place.run(["data", "check"] + words + ["d.sif"])
            #expect(checked.status == 255, "\(checked)")
        }
        #expect(try place.must("data", "info", "d.sif").contains("Kind:         data, encrypted"))
        #expect(try place.must("data", "list").contains("encrypted"))
        // Everything that can be done with others.
        try place.must("data", "snapshot", "d.sif", "one")
        _ = try inside("rm -r /mnt/d")
        #expect(try place.must("data", "check", "--pem-path", key, "d.sif").contains("files"))
        try place.must("data", "compact", "--pem-path", key, "d.sif")
        try place.must("data", "resize", "--pem-path", key, "d.sif", "6G")
        #expect(try place.must("data", "info", "--pem-path", key, "d.sif").contains("6.0 GiB"))
        #expect(try inside("ls /mnt; md5sum -c /mnt/sum").hasSuffix("/mnt/r: OK\n"))
        try place.must("data", "restore", "d.sif", "one")
        #expect(try inside("cat /mnt/d/f300; md5sum -c /mnt/sum") == "\(secret) 300\n/mnt/r: OK\n")
        try place.must("recipient", "add", "--pem-path", key, "d.sif", "\(Site.fixtures)/rsa-pub.pem")
        #expect(try place.must("recipient", "list", "d.sif").split(separator: "\n").count == 3)
        try place.must("data", "export", "--pem-path", "\(Site.fixtures)/rsa-key.pem", "d.sif", "out")
        #expect(try String(contentsOfFile: place.scratch.file("out/d/f5"), encoding: .utf8) == "\(secret) 5\n")
        try place.must("instance", "start", image, "one")
        try place.must("data", "attach", "--pem-path", key, "one", "d.sif:/mnt")
        #expect(try place.must("exec", "instance://one", "cat", "/mnt/d/f9") == "\(secret) 9\n")
        try place.must("data", "detach", "one", "/mnt")
    }

    @Test(arguments: identities) func anEncryptedImageKeepsItsChangesEncryptedAndIsCommitted(_ identity: Run.Identity) throws {
        let place = try Place(as: identity)
        let image = try place.image()
        try place.scratch.write("phrase", Array("hunter2\n".utf8))
        let open = ["--passphrase-file", "phrase"]
        try place.must("build", "--pem-path", "\(Site.fixtures)/enc-pub.pem", "pem.sif", image)
        try place.must("build", "--passphrase-file", "phrase", "e.sif", image)
        let refused = try place.run("overlay", "create", "e.sif")
        #expect(refused.status == 255 && refused.error.contains("give --encrypt and a key"), "\(refused)")
        let old = try place.run("overlay", "create", "--ext3", "--passphrase-file", "phrase", "e.sif")
        #expect(old.status == 255 && old.error.contains("--ext3"), "\(old)")
        try place.must(["overlay", "create", "--size", "128"] + open + ["e.sif"])
        try place.must(["exec", "--writable"] + open + ["e.sif", "sh", "-c", "echo secret change > /etc/new; rm /etc/issue"])
        #expect(try place.must(["exec"] + open + ["e.sif", "cat", "/etc/new"]) == "secret change\n")
        let stored = try Data(contentsOf: URL(filePath: place.scratch.file("e.sif")))
        #expect(stored.range(of: Data("secret change".utf8)) == nil)
        #expect(try place.run("diff", "e.sif").status == 255)
        let diff = try place.run(["diff"] + open + ["e.sif"])
        #expect(diff.status == 1 && diff.output == "D /etc/issue\nA /etc/new\n", "\(diff)")
        #expect(try place.run("commit", "e.sif", "no.sif").status == 255)
        // The new image opens as the old one does, and nothing of it is plain.
        try place.must(["commit"] + open + ["e.sif", "new.sif"])
        #expect(try place.must(["exec"] + open + ["new.sif", "sh", "-c", "cat /etc/new; ls /etc/issue; true"]) == "secret change\n")
        #expect(try place.run("exec", "new.sif", "true").status == 255)
        try place.must(["commit", "--replace"] + open + ["e.sif"])
        #expect(try place.run(["diff"] + open + ["e.sif"]).status == 0)
        #expect(try place.must(["exec", "--writable"] + open + ["e.sif", "cat", "/etc/new"]) == "secret change\n")
        try place.must(["overlay", "discard"] + open + ["e.sif"])
        // Keys of owners come with a commit too; an overlay beside the image has its own.
        try place.must("overlay", "create", "--pem-path", "\(Site.fixtures)/enc-pub.pem", "changes.img")
        let key = ["--pem-path", "\(Site.fixtures)/enc-key.pem"]
        try place.must(["exec"] + key + ["--overlay", "changes.img", "pem.sif", "sh", "-c", "echo other > /etc/other"])
        try place.must(["commit", "--replace"] + key + ["--overlay", "changes.img", "pem.sif"])
        #expect(try place.must(["exec"] + key + ["pem.sif", "cat", "/etc/other"]) == "other\n")
        #expect(try place.must("recipient", "list", "pem.sif").split(separator: "\n").count == 2)
        #expect(try place.run(["diff"] + key + ["--overlay", "changes.img", "pem.sif"]).status == 0)
    }

    /// The older scheme: a volume that cryptsetup has made.
    @Test(arguments: ["512", "4096"]) func volumesOfLUKSRun(_ sector: String) throws {
        guard
            FileManager.default.isExecutableFile(atPath: "/usr/sbin/cryptsetup")
                || FileManager.default.isExecutableFile(atPath: "/sbin/cryptsetup")
        else {
            Issue.record("cryptsetup is missing")
            return
        }
        let place = try Place("volumesOfLUKSRun-\(sector)", as: .ordinaryUser)
        let folder = place.scratch.path
        let list = try place.must("sif", "list", "\(Site.fixtures)/signed-pem.sif")
        let id = try #require(list.split(separator: "\n").first { $0.contains("*System") }?.split(separator: " ").first)
        let script = """
            set -e
            "$1" sif dump \(id) "$2" > plain
            truncate -s $((16777216 + $(stat -c %s plain))) volume
            printf 'luks pass' | cryptsetup luksFormat --batch-mode --type luks2 --sector-size \(sector) --pbkdf-memory 8192 \
                --pbkdf-parallel 1 --pbkdf-force-iterations 4 --key-file - volume
            printf 'luks pass' | cryptsetup luksDump --dump-volume-key --batch-mode --volume-key-file key --key-file - volume >/dev/null
            /usr/bin/python3 - <<'END'
            from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
            key, plain, size = open("key", "rb").read(), open("plain", "rb").read(), \(sector)
            plain += bytes(-len(plain) % size)
            with open("volume", "r+b") as volume:
                volume.seek(16 << 20)
                for start in range(0, len(plain), size):
                    cipher = Cipher(algorithms.AES(key), modes.XTS((start // 512).to_bytes(16, "little"))).encryptor()
                    volume.write(cipher.update(plain[start:start + size]) + cipher.finalize())
            END
            "$1" sif new luks.sif
            "$1" sif add --datatype 4 --parttype 2 --partfs 1 --partarch 2 --groupid 1 luks.sif volume
            python3 -c 'f = open("luks.sif", "r+b"); f.seek(4096 + 201); f.write(bytes([5]))'
            chmod a+r luks.sif
            """
        try Run.program("/bin/bash", ["-c", script, "bash", Site.program, "\(Site.fixtures)/signed-pem.sif"], in: folder).ok()
        let ran = try place.run("exec", "luks.sif", "echo", "ran", environment: ["SINGULARITY_ENCRYPTION_PASSPHRASE": "luks pass"])
        #expect(ran.output == "ran\n", "\(ran)")
        let wrong = try place.run("exec", "luks.sif", "echo", "ran", environment: ["SINGULARITY_ENCRYPTION_PASSPHRASE": "luks"])
        #expect(wrong.status == 255 && wrong.error.contains("opens none of its key slots"), "\(wrong)")
    }
}
