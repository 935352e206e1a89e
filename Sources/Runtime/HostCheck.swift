import CLinux
import Glibc
import Linux

/// What this host lets the caller do, tried out rather than guessed, and who can change what.
public struct HostCheck: Sendable {
    public struct Finding: Sendable {
        public enum Verdict: String, Sendable {
            case works = "ok"
            /// Containers run, with something missing.
            case degraded = "degraded"
            case refused = "refused"
        }

        /// What was tried.
        public var subject: String
        public var verdict: Verdict
        /// What was found.
        public var detail: String
        /// What the administrator, and what the user can do; empty where nothing has to be done.
        public var remedies: [String]
    }

    public init() {}

    /// Tries everything. Each trial that changes the process is done in a child.
    public func run() -> [Finding] {
        var findings = [kernel(), userNamespace()]
        let canMount = findings[1].verdict == .works
        findings.append(fuse(canMount: canMount))
        findings.append(overlay(canMount: canMount))
        findings.append(processes(canMount: canMount))
        findings += [subordinateIDs(), processOne(), sessionDirectory(canMount: canMount)]
        return findings
    }

    // MARK: Trials

    private func kernel() -> Finding {
        var name = utsname()
        uname(&name)
        let release = withUnsafeBytes(of: &name.release) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        let numbers = release.split(whereSeparator: { $0 == "." || $0 == "-" }).prefix(2).compactMap { Int($0) }
        let isNewEnough = numbers.count == 2 && (numbers[0], numbers[1]) >= (5, 12)
        return Finding(
            subject: "kernel", verdict: isNewEnough ? .works : .refused, detail: release,
            remedies: isNewEnough ? [] : ["administrator: update the kernel to Linux 5.12 or newer; mount_setattr(2) is needed"])
    }

    /// Runs `body` in a child.
    /// - Returns: what it returned, an errno value or 0.
    private func trial(_ body: () -> CInt) -> CInt {
        guard let child = try? Process.fork({ _exit(body()) }) else { return EAGAIN }
        let status = Process.wait(for: child)
        return status & 0x7f == 0 ? (status >> 8) & 0xff : EFAULT
    }

    /// Runs `body` in a child that may mount.
    /// - Returns: an errno value or 0.
    private func trialWithin(_ body: () throws(SystemError) -> Void) -> CInt {
        trial {
            let entered = enter()
            if entered != 0 { return entered }
            do throws(SystemError) {
                try body()
                return 0
            } catch { return error.errno }
        }
    }

    /// What needs a mount, where nothing can be mounted.
    private func notTried(_ subject: String) -> Finding {
        Finding(subject: subject, verdict: .refused, detail: "not tried: nothing can be mounted", remedies: [])
    }

    private func enter() -> CInt {
        do throws(SystemError) {
            if getuid() != 0 || !CapabilitySet.effective.contains(.systemAdministration) {
                try UserNamespace.enter(uid: getuid(), gid: getgid())
            }
            try Namespaces.mount.unshare()
            try Mounting.isolatePropagation()
            return 0
        } catch { return error.errno }
    }

    private func userNamespace() -> Finding {
        if CapabilitySet.effective.contains(.systemAdministration) {
            return Finding(subject: "namespaces", verdict: .works, detail: "this user is root and may mount", remedies: [])
        }
        let code = trial { enter() }
        if code == 0 {
            return Finding(subject: "user namespaces", verdict: .works, detail: "an ordinary user may create them", remedies: [])
        }
        return Finding(
            subject: "user namespaces", verdict: .refused, detail: SystemError("unshare", errno: code).description,
            remedies: Self.namespaceRemedies())
    }

    /// The settings that are known to forbid user namespaces, as far as this host has them.
    private static func namespaceRemedies() -> [String] {
        func number(_ path: String) -> Int? { (try? Files.readText(path)).flatMap { Int($0.split(separator: "\n").first ?? "") } }
        var remedies: [String] = []
        if number("/proc/sys/user/max_user_namespaces") == 0 {
            remedies.append(
                "administrator: sysctl user.max_user_namespaces=15000 (it is 0), and the same line in /etc/sysctl.d/90-userns.conf")
        }
        if number("/proc/sys/kernel/unprivileged_userns_clone") == 0 {
            remedies.append("administrator: sysctl kernel.unprivileged_userns_clone=1 (it is 0)")
        }
        if number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == 1 {
            remedies.append(
                "administrator: AppArmor allows user namespaces to programs with a profile only (kernel.apparmor_restrict_unprivileged_userns=1): install share/singularity/apparmor-profile of this installation as /etc/apparmor.d/singularity and run `apparmor_parser -r` on it, or set the value to 0"
            )
        }
        if let text = try? Files.readText("/proc/self/status"), text.contains("Seccomp:\t2") {
            remedies.append(
                "administrator: a seccomp filter is active, as container engines set it: start the outer container with a profile that allows unshare, mount and pivot_root (docker run --security-opt seccomp=...; Kubernetes: seccompProfile Unconfined)"
            )
        }
        if remedies.isEmpty {
            remedies.append("administrator: no known setting forbids it; look into the kernel's log for a security module")
        }
        remedies.append("user: build and pull work without namespaces; only running needs them")
        return remedies
    }

    private func fuse(canMount: Bool) -> Finding {
        let subject = "/dev/fuse"
        let user = "user: nothing has to be done: images are unpacked into the cache before they run, which costs time and disk space"
        guard Files.status(subject) != nil else {
            return Finding(
                subject: subject, verdict: .degraded, detail: "there is none",
                remedies: ["administrator: modprobe fuse; in a container engine: --device /dev/fuse", user])
        }
        let code = trial {
            if canMount {
                let entered = enter()
                if entered != 0 { return entered }
            }
            do throws(SystemError) {
                _ = try OwnedDescriptor.open("/dev/fuse", O_RDWR)
                return 0
            } catch { return error.errno }
        }
        if code == 0 { return Finding(subject: subject, verdict: .works, detail: "images are mounted without root", remedies: []) }
        return Finding(
            subject: subject, verdict: .degraded, detail: SystemError("open", errno: code).description,
            remedies: ["administrator: chmod 0666 /dev/fuse, which is what udev does on ordinary hosts", user])
    }

    private func overlay(canMount: Bool) -> Finding {
        let subject = "overlay"
        guard canMount else { return notTried(subject) }
        let code = trialWithin { () throws(SystemError) in
            let session = try Session(isUserNamespace: getuid() != 0)
            try session.mountOverlay(
                Session.Layers(lowers: [Session.layer, Session.image], upper: try session.memoryUpper()), allowsSetuid: false)
        }
        if code == 0 { return Finding(subject: subject, verdict: .works, detail: "missing mount points can be added", remedies: []) }
        return Finding(
            subject: subject, verdict: .degraded, detail: SystemError("mount", errno: code).description,
            remedies: [
                "administrator: modprobe overlay; Linux 5.11 or newer lets ordinary users mount it",
                "user: bind only to directories that the image has; --writable-tmpfs cannot be used",
            ])
    }

    private func processes(canMount: Bool) -> Finding {
        let subject = "new /proc"
        guard canMount else { return notTried(subject) }
        let code = trialWithin { () throws(SystemError) in
            let code = DetachedMount.trialOfProc()
            if code != 0 { throw SystemError("mount", errno: code) }
        }
        if code == 0 {
            return Finding(subject: subject, verdict: .works, detail: "--pid and instances show their own processes", remedies: [])
        }
        return Finding(
            subject: subject, verdict: .degraded, detail: SystemError("mount", errno: code).description,
            remedies: [
                "administrator: this host hides parts of /proc; Docker: --security-opt systempaths=unconfined; Kubernetes: securityContext.procMount: Unmasked",
                "user: nothing has to be done: --pid and instances show the /proc outside, in which their processes have other numbers",
            ])
    }

    private func subordinateIDs() -> Finding {
        let subject = "subordinate ids"
        guard getuid() != 0 else { return Finding(subject: subject, verdict: .works, detail: "not needed by root", remedies: []) }
        let name = getpwuid(getuid()).map { String(cString: $0.pointee.pw_name) } ?? ""
        let has = ["/etc/subuid", "/etc/subgid"].allSatisfy { path in
            ((try? Files.readText(path)) ?? "").split(separator: "\n").contains { $0.hasPrefix("\(name):") || $0.hasPrefix("\(getuid()):") }
        }
        return Finding(
            subject: subject, verdict: .works,
            detail: has ? "/etc/subuid and /etc/subgid have a range for \(name)" : "none; nothing that this version does needs them",
            remedies: [])
    }

    private func processOne() -> Finding {
        let collects = ContainerInit.hostCollectsOrphans
        return Finding(
            subject: "process 1", verdict: .works,
            detail: collects ? "it collects orphans" : "it does not collect orphans: a parent process stays with each container",
            remedies: [])
    }

    private func sessionDirectory(canMount: Bool) -> Finding {
        let subject = "session directory"
        guard canMount else { return notTried(subject) }
        let places = Session.places.filter(Files.isDirectory)
        return Finding(
            subject: subject, verdict: places.isEmpty ? .refused : .works,
            detail: places.first.map { "in memory, over \($0), seen by the container alone" }
                ?? "the host has none of the usual directories",
            remedies: places.isEmpty ? ["administrator: create /tmp"] : [])
    }
}
