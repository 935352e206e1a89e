import Foundation
import Testing

/// One cache that several hosts use at once over a network file system.
///
/// The hosts are PID and UTS namespaces; each of them has mounted the folder of the cache for itself through sshfs, which
/// knows as little of the other hosts' locks and processes as NFS does.
@Suite(
    .enabled(if: Site.isPrepared && Site.isRoot && Site.mayFUSE, "needs scripts/test.sh, root and /dev/fuse"), .serialized)
struct SharedCacheTests {
    /// A registry with an image of several layers, and the folder that the hosts share.
    private final class Shared {
        let registry: FakeRegistry
        let scratch: Scratch
        /// Digests of the layers.
        let layers: [String]
        let isLimited: Bool
        var folder: String { scratch.file("shared") }

        /// - Parameters:
        ///   - rate: bytes a second that the registry sends on a connection.
        ///   - size: of the shared disk for tmpfs(5); nil for the disk of the tests.
        init(_ name: String, rate: Int, size: String? = nil) throws {
            registry = try FakeRegistry()
            scratch = try Scratch(name)
            isLimited = size != nil
            var contents = [try SmallImage.base().finished]
            for number in 1...3 {
                var tar = Tar()
                var generator = SystemRandomNumberGenerator()
                tar.add("data-\(number)", content: (0..<600_000).map { _ in UInt8.random(in: 0 ... .max, using: &generator) })
                contents.append(tar.finished)
            }
            try registry.add(layers: contents)
            layers = contents.map(FakeRegistry.digest)
            try FileManager.default.createDirectory(atPath: scratch.file("shared"), withIntermediateDirectories: true)
            if let size {
                let mounted = try Run.program("/bin/mount", ["-t", "tmpfs", "-o", "size=\(size)", "tmpfs", scratch.file("shared")])
                try #require(mounted.status == 0, "\(mounted)")
            }
            // What sshfs starts in the place of ssh.
            try "#!/bin/sh\nexec /usr/lib/openssh/sftp-server\n".write(toFile: scratch.file("server"), atomically: true, encoding: .utf8)
            chmod(scratch.file("server"), 0o755)
            registry.limit(to: rate)
        }

        deinit {
            registry.stop()
            if isLimited { _ = try? Run.program("/bin/umount", [folder]) }
        }

        /// Starts a host, on which each of `count` processes pulls the image, again and again until it has it.
        /// - Parameter attempts: after so many failures a process gives up.
        func host(_ number: Int, processes count: Int, attempts: Int = 1000) throws -> Run.Live {
            let mount = scratch.file("host\(number)")
            try FileManager.default.createDirectory(atPath: mount, withIntermediateDirectories: true)
            let script = """
                hostname host\(number)
                sshfs -o ssh_command=\(scratch.file("server")) nobody@host:\(folder) \(mount) || exit 9
                export SINGULARITY_CACHEDIR=\(mount)/cache
                pull() {
                    left=\(attempts)
                    until \(Site.program) pull --force \(scratch.path)/\(number)-$1.sif docker://\(registry.address)/image 2>&1; do
                        left=$((left - 1)); [ $left -gt 0 ] || return 1
                    done
                }
                for i in $(seq \(count)); do pull $i & done
                failed=0
                for job in $(jobs -p); do wait $job || failed=1; done
                umount \(mount)
                exit $failed
                """
            return try Run.start("/usr/bin/unshare", ["--uts", "--pid", "--mount", "--fork", "--mount-proc", "/bin/bash", "-c", script])
        }

        /// Requests for a layer: where each began.
        func starts(_ digest: String) -> [Int] {
            registry.requests.filter { $0.path.hasSuffix(digest) && $0.method == "GET" }.map { request in
                request.headers["range"].flatMap { Int($0.dropFirst("bytes=".count).prefix { $0.isNumber }) } ?? 0
            }
        }

        /// Digests of the images that were made.
        func images() throws -> Set<String> {
            let names = scratch.names.filter { $0.hasSuffix(".sif") }
            return Set(try names.map { FakeRegistry.digest([UInt8](try Data(contentsOf: URL(filePath: scratch.file($0))))) })
        }

        var count: Int { scratch.names.filter { $0.hasSuffix(".sif") }.count }
    }

    @Test func eightHostsFetchEachLayerOnce() throws {
        let shared = try Shared(#function, rate: 400_000)
        let hosts = try (1...8).map { try shared.host($0, processes: 8) }
        for host in hosts {
            let result = host.finish(timeout: 120)
            #expect(result.status == 0, "\(result)")
        }
        for layer in shared.layers {
            // A connection that breaks goes on where it was; nobody begins a second time.
            let starts = shared.starts(layer)
            #expect(starts.first == 0 && starts == starts.sorted() && starts.dropFirst().allSatisfy { $0 > 0 }, "\(layer): \(starts)")
        }
        #expect(shared.count == 64)
        #expect(try shared.images().count == 1, "the same image for all")
    }

    @Test func processesThatAreKilledHarmNobody() throws {
        let shared = try Shared(#function, rate: 150_000)
        let hosts = try (1...4).map { try shared.host($0, processes: 4) }
        var killed = 0
        // As long as they work, one of them is killed in every fifth of a second.
        for _ in 0..<25 {
            usleep(200_000)
            guard let victim = Processes.living(named: "singularity", with: shared.registry.address).randomElement() else { continue }
            kill(victim, SIGKILL)
            killed += 1
        }
        for host in hosts {
            let result = host.finish(timeout: 150)
            #expect(result.status == 0, "\(result)")
        }
        #expect(killed > 5)
        for layer in shared.layers {
            let starts = shared.starts(layer)
            // Nobody begins anew what another one has fetched: each request goes on where the one before ended.
            #expect(starts == starts.sorted() && starts.filter { $0 == 0 }.count <= 1 + killed, "\(starts)")
            #expect(starts.count <= 1 + killed, "\(starts)")
        }
        #expect(shared.count == 16)
        #expect(try shared.images().count == 1)
    }

    @Test func aFullDiskIsReportedAndHarmsNothing() throws {
        let shared = try Shared(#function, rate: 2_000_000, size: "1500k")
        let first = try (1...3).map { try shared.host($0, processes: 3, attempts: 1) }
        for host in first {
            let result = host.finish(timeout: 120)
            #expect(result.status == 1, "\(result)")
            #expect(result.output.contains("cache/blob/"), "\(result)")
        }
        #expect(shared.count == 0)
        let enlarged = try Run.program("/bin/mount", ["-o", "remount,size=64m", shared.folder])
        try #require(enlarged.status == 0, "\(enlarged)")
        let second = try (1...3).map { try shared.host($0, processes: 3, attempts: 2) }
        for host in second {
            let result = host.finish(timeout: 120)
            #expect(result.status == 0, "\(result)")
        }
        #expect(shared.count == 9)
        #expect(try shared.images().count == 1)
    }

    @Test func whatAnotherHostUsesIsNotCleanedUp() throws {
        let shared = try Shared(#function, rate: 100_000)
        let host = try shared.host(1, processes: 1)
        try #require(Wait.until(20) { shared.layers.contains { !shared.starts($0).isEmpty } })
        func clean() throws -> Run {
            try Run.singularity("cache", "clean", "--force", environment: ["SINGULARITY_CACHEDIR": shared.folder + "/cache"])
        }
        let kept = try clean()
        #expect(kept.status == 0 && kept.error.contains("in use"), "\(kept)")
        let result = host.finish(timeout: 60)
        #expect(result.status == 0, "\(result)")
        for layer in shared.layers { #expect(shared.starts(layer) == [0]) }
        let cleaned = try clean()
        #expect(cleaned.status == 0 && !cleaned.error.contains("in use"), "\(cleaned)")
        #expect(try FileManager.default.contentsOfDirectory(atPath: shared.folder + "/cache/cache/blob/blobs/sha256") == [])
    }
}
