import CLinux
import Glibc
import Linux

/// What the host calls users and groups, for the programs in a container: the side of a container.
///
/// A container's own files have the caller and the caller's groups. Where a site's accounts are in a directory (LDAP, SSSD,
/// winbind), the others are in no file. The C library of most images asks for them at a socket, at which an ``AccountKeeper``
/// of the host listens.
enum HostNames {
    /// Where the C library looks for it.
    static let destination = "/var/run/nscd"

    /// Whether containers of this plan's kind get them.
    static func areWanted(_ options: RunOptions, _ facts: HostFacts, _ identity: RunIdentity) -> Bool {
        guard !options.contain, !options.containAll, !options.boots, options.securityUser == nil, !options.noMount.contains("accounts")
        else {
            return false
        }
        switch identity {
        // Root makes accounts of its own in what it writes: no others must be there before.
        case .host: guard !options.isWritten else { return false }
        // Numbers must mean the same inside.
        case .single(let uid, _): guard uid == facts.uid else { return false }
        case .ranges: return false
        }
        switch options.configuration["host accounts"] {
        case "yes": return true
        case "no": return false
        default:
            let text = try? Files.readText("/etc/nsswitch.conf", limit: 1 << 16)
            return text.map(HostAccounts.areElsewhere(nameServiceSwitch:)) ?? false
        }
    }

    /// Where a user's keeper is met, and where it is asked.
    struct Place: Sendable {
        /// Where containers say that they need it.
        let socket: String
        /// What containers see.
        var folder: String { socket + ".d" }
        var questions: String { folder + "/socket" }

        /// - Returns: nil where this user can have no directory for them.
        init?() {
            guard let runtime = RuntimeFolder.prepare() else { return nil }
            // What is asked of processes in another PID namespace, or answered from another tree, is not the same.
            let key = (["mnt", "pid"].map { Files.readLink("/proc/self/ns/\($0)") ?? "" } + [JobScope.text]).joined(separator: " ")
            socket = "\(runtime)/accounts-\(KeeperSocket.name(for: key))"
        }
    }

    /// Makes sure that the keeper is there until this process has ended. The host's name spaces must not have been left; only for a
    /// process with one thread.
    /// - Returns: where it is; nil where there can be none.
    static func join() -> Place? {
        guard let place = Place() else { return nil }
        for _ in 0..<10 {
            let connected = KeeperSocket.connect(place.socket) { listening in
                try KeeperProcess.start { AccountKeeper(place: place).keep(listening) }
            }
            guard let connected else { return nil }
            _ = clinux_set_receive_timeout(connected.rawValue, 5000)
            if KeeperSocket.introduce(to: connected.rawValue) {
                var answer = UInt8(0)
                let count = retryingOnInterrupt { read(connected.rawValue, &answer, 1) }
                if count == 1 { return place }
                if count < 0 && errno == EAGAIN { return nil }
            }
            // It was about to end when it was found: another one is started.
            usleep(20_000)
        }
        return nil
    }
}
