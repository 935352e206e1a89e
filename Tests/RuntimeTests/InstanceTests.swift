import Foundation
import Linux
import Runtime
import Testing

/// What instances are kept by: checks of their health, and logs.
@Suite struct InstanceTests {
    @Test(arguments: [
        ("500ms", 500), ("30s", 30_000), ("1m30s", 90_000), ("2h", 7_200_000), ("5", 5000), ("0.5s", 500), ("0", 0),
    ]) func timesAreRead(_ text: String, _ milliseconds: Int) { #expect(HealthCheck.milliseconds(text) == milliseconds) }

    @Test(arguments: ["", "s", "5x", "-1s", "1s2", "nan", "9999999h", "１s"]) func whatIsNoTimeIsRefused(_ text: String) {
        #expect(HealthCheck.milliseconds(text) == nil)
    }

    private func monitor(_ change: (inout HealthCheck) -> Void = { _ in }) -> HealthMonitor {
        var check = HealthCheck(command: "true")
        change(&check)
        return HealthMonitor(check, started: 1000)
    }

    @Test func failuresWhileGettingReadyDoNotCount() {
        var monitor = monitor()
        #expect(monitor.next == 2000)
        for time in stride(from: 2000, to: 31_000, by: 1000) {
            let isIll = monitor.ended(status: 1, output: "", at: time, now: 0)
            #expect(!isIll && monitor.report.state == .starting && monitor.next == time + 1000)
        }
        #expect(monitor.report.failures == 0)
        // Afterwards three in a row are too many.
        var results: [Bool] = []
        for _ in 0..<4 { results.append(monitor.ended(status: 1, output: "no", at: monitor.next + 30_000, now: 7)) }
        #expect(results == [false, false, true, false])
        #expect(monitor.report.state == .unhealthy && monitor.report.output == "no" && monitor.report.time == 7)
    }

    @Test func oneSuccessMakesItHealthyAndFailuresCountFromThenOn() {
        var monitor = monitor { $0.retries = 2 }
        var results = [monitor.ended(status: 0, output: "", at: 2000, now: 0)]
        #expect(monitor.report.state == .healthy && monitor.next == 32_000)
        results.append(monitor.ended(status: 3, output: "", at: 2500, now: 0))
        #expect(monitor.report.state == .healthy && monitor.report.failures == 1)
        for (status, time) in [(0, 2600), (3, 2700), (3, 2800)] as [(Int32, Int)] {
            results.append(monitor.ended(status: status, output: "", at: time, now: 0))
        }
        #expect(results == [false, false, false, false, true])
        monitor.restarted(at: 5000)
        #expect(monitor.report == HealthReport() && monitor.next == 6000)
    }

    @Test func labelsAskForAChecksOfHealth() throws {
        let labels = HealthCheck.labels(
            of: ["CMD", "curl", "it's"], interval: 5_000_000_000, timeout: 0, startPeriod: nil, retries: 7)
        #expect(labels["org.singularity.health"] == "'curl' 'it'\"'\"'s'")
        let check = try #require(HealthCheck(labels: [UInt8](try JSONEncoder().encode(labels))))
        #expect(check.interval == 5000 && check.timeout == 30_000 && check.startPeriod == 30_000 && check.retries == 7)
        #expect(HealthCheck.labels(of: ["NONE"], interval: nil, timeout: nil, startPeriod: nil, retries: nil).isEmpty)
        #expect(HealthCheck.labels(of: ["CMD-SHELL", "a b"], interval: nil, timeout: nil, startPeriod: nil, retries: nil).count == 1)
        #expect(HealthCheck(labels: Array("{}".utf8)) == nil)
    }

    // MARK: Logs

    /// Lines through a log of a limit.
    /// - Returns: what is in its files, the oldest first.
    private func written(_ chunks: [String], size: Int, files: Int) throws -> [String] {
        let folder = NSTemporaryDirectory() + "/log-\(UInt32.random(in: 0 ... .max))"
        try Files.makeDirectories(folder)
        defer { Files.removeTree(folder) }
        let path = folder + "/x.out"
        let file = try OwnedDescriptor.open(path, O_WRONLY | O_CREAT | O_APPEND, mode: 0o600)
        var log = RotatedLog(path, file, LogLimit(size: size, files: files))
        for chunk in chunks { log.add(Array(chunk.utf8)[...]) }
        close(log.descriptor)
        #expect(try Files.entries(folder).count <= files)
        return RotatedLog.paths(path, files: files).compactMap { try? Files.readText($0) }
    }

    @Test func aFullLogIsFollowedByAnother() throws {
        #expect(try written(["one\n", "two\n", "three\n"], size: 8, files: 3) == ["one\ntwo\n", "three\n"])
        #expect(try written(["one\ntwo\nthree\nfour\n"], size: 8, files: 3) == ["one\ntwo\n", "three\n", "four\n"])
        // The oldest is removed.
        #expect(try written(["one\ntwo\nthree\nfour\n"], size: 8, files: 2) == ["three\n", "four\n"])
        #expect(try written(["one\ntwo\nthree\nfour\n"], size: 8, files: 1) == ["four\n"])
    }

    @Test func aLineIsCutOnlyWhereItIsLongerThanAFile() throws {
        #expect(
            try written(["ab\n", "12345678901234567890\n", "c\n"], size: 8, files: 9) == ["ab\n", "12345678", "90123456", "7890\nc\n"])
        #expect(try written(["abc", "def", "g\nh\n"], size: 8, files: 9) == ["abcdefg\n", "h\n"])
        #expect(try written(["1234567\n", "1234567\n"], size: 8, files: 9) == ["1234567\n", "1234567\n"])
    }

    // MARK: Ports

    @Test func portsAreRead() throws {
        #expect(try PortMapping(published: "8080:80") == PortMapping.parse(["portmap=8080:80/tcp"])[0])
        let mapping = try PortMapping(published: "127.0.0.1:53:5353/udp")
        #expect(mapping.address == "127.0.0.1" && mapping.host == 53 && mapping.container == 5353 && mapping.protocolName == "udp")
        #expect(try PortMapping(published: "80").container == 80)
        for bad in ["", "0:80", "80:", "x:80", "1.2.3:80:80", "80:80/sctp", "1:2:3:4", "65536:1", "localhost:80:80"] {
            #expect(throws: RuntimeError.self, "\(bad)") { try PortMapping(published: bad) }
        }
    }
}
