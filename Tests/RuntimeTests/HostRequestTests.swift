import Runtime
import TestSupport
import Testing

/// What programs in a container ask the host to run.
@Suite struct HostRequestTests {
    private let request = HostRequest(
        name: "sbatch", arguments: ["-J", "a b", "", "--wrap=x\ny"], workingDirectory: "/work", variables: ["SLURM_X=1", "EMPTY="])

    @Test func aRequestComesBackAsItWas() {
        #expect(HostRequest(request.bytes) == request)
        let bare = HostRequest(name: "squeue", arguments: [], workingDirectory: "/", variables: [])
        #expect(HostRequest(bare.bytes) == bare)
    }

    @Test func brokenOnesDoNoHarm() {
        for count in [0, 1, 7, 12] { _ = HostRequest(Array(request.bytes.prefix(count))) }
        for count in ["-1", "99", "9999999999999999999999", "x", ""] {
            #expect(HostRequest(Array("sbatch\0/\0\(count)\0a".utf8)) == nil, "\(count)")
        }
        #expect(HostRequest([]) == nil)
        var generator = Generator(state: 5)
        for _ in 0..<500 {
            var bytes = request.bytes
            for _ in 0..<4 { bytes[Int.random(in: 0..<bytes.count, using: &generator)] = UInt8.random(in: 0...255, using: &generator) }
            _ = HostRequest(bytes)
        }
    }

    @Test func onlyWhatIsTheSchedulersComesFromTheContainer() {
        let host = [("PATH", "/usr/bin"), ("SLURM_CONF", "/etc/slurm.conf"), ("HOME", "/home/me")]
        let container = [("PATH", "/evil"), ("LD_PRELOAD", "/evil.so"), ("SLURM_CONF", "/other.conf"), ("SBATCH_ACCOUNT", "a")]
        let merged = HostCommands.environment(
            host: host.map { (name: $0.0, value: $0.1) }, container: container.map { (name: $0.0, value: $0.1) })
        #expect(
            merged.map { "\($0.name)=\($0.value)" } == ["PATH=/usr/bin", "HOME=/home/me", "SLURM_CONF=/other.conf", "SBATCH_ACCOUNT=a"])
    }
}
