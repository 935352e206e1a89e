import Foundation
import Registry
import Testing

@Suite struct NameTests {
    @Test(arguments: [
        ("debian", "index.docker.io", "library/debian", "latest"), ("debian:12", "index.docker.io", "library/debian", "12"),
        ("me/app:1", "index.docker.io", "me/app", "1"), ("localhost/app", "localhost", "app", "latest"),
        ("h:5000/a/b:c", "h:5000", "a/b", "c"),
        ("//quay.io/x/y", "quay.io", "x/y", "latest"), ("docker.io/library/debian", "index.docker.io", "library/debian", "latest"),
    ]) func namesAreReadAsDockerDoes(_ text: String, _ registry: String, _ repository: String, _ tag: String) throws {
        let reference = try ImageReference(text)
        #expect(reference.registry == registry && reference.repository == repository && reference.tag == tag, "\(reference)")
    }

    @Test(arguments: ["", "UPPER/case", "a b", "name:", "name@sha256:12", "h:5000/../x", "name:-tag", "http://x/y"])
    func badNamesAreRefused(_ text: String) {
        #expect(throws: RegistryError.self) { try ImageReference(text) }
    }

    @Test func digestsAreCheckedForTheirForm() {
        let hex = String(repeating: "a", count: 64)
        #expect(Digest("sha256:\(hex)") != nil)
        for bad in ["sha256:\(hex)0", "sha256:\(hex.uppercased())", "sha256:../../../etc/passwd", "md5:\(hex)", "\(hex)"] {
            #expect(Digest(bad) == nil, "\(bad)")
        }
        #expect("\(Digest(of: Array("abc".utf8)))" == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    }

    @Test func platformsAreRead() {
        #expect(Platform("linux/arm/v7") == Platform(architecture: "arm", variant: "v7"))
        #expect(Platform(archOption: "x86_64")?.architecture == "amd64")
        #expect(Platform("nonsense") == nil)
    }

    @Test func credentialsComeFromDockersFile() throws {
        let folder = NSTemporaryDirectory() + "/credentials-\(UInt32.random(in: 0 ... .max))"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try #"{"auths":{"h:5000":{"auth":"dXNlcjpwYXNzOndvcmQ="}}}"#.write(toFile: folder + "/auth.json", atomically: true, encoding: .utf8)
        let store = CredentialStore(authFile: folder + "/auth.json", home: folder)
        #expect(try store.credential(registry: "h:5000", repository: "x") == .basic(user: "user", password: "pass:word"))
        #expect(try store.credential(registry: "other", repository: "x") == nil)
        try "{".write(toFile: folder + "/auth.json", atomically: true, encoding: .utf8)
        #expect(throws: RegistryError.self) { try store.credential(registry: "h:5000", repository: "x") }
    }
}
