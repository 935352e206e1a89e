import CLinux
import Glibc
import Linux

/// The socket at which containers meet their keeper: whoever comes first starts it.
enum KeeperSocket {
    /// Connects to a keeper of this user.
    /// - Parameters:
    ///   - path: in a directory that is this user's alone.
    ///   - start: starts a keeper where there is none, with a socket that listens at `path`; it may connect from then on.
    /// - Returns: nil where there is none and none can be started.
    static func connect(_ path: String, start: (CInt) throws -> Void) -> OwnedDescriptor? {
        for _ in 0..<8 {
            let raw = clinux_local_socket(path, 0)
            if raw >= 0 {
                let socket = OwnedDescriptor(raw)
                if isOwn(raw) { return socket }
                return nil
            }
            switch errno {
            case ECONNREFUSED: unlink(path)  // Its keeper was killed.
            case ENOENT: break
            default: return nil
            }
            // A socket that has its name before it listens would look like one whose keeper was killed. Of several that try,
            // one can give it the name; the others connect to it.
            let own = "\(path).\(getpid())"
            let listening = clinux_local_socket(own, 1)
            if listening < 0 {
                guard errno == ENOENT, RuntimeFolder.prepare() != nil else { return nil }
                continue
            }
            let socket = OwnedDescriptor(listening)
            let isNamed = link(own, path) == 0
            let isTaken = errno == EEXIST
            unlink(own)
            guard isNamed else {
                if isTaken { continue }
                return nil
            }
            do { try start(socket.rawValue) } catch {
                unlink(path)
                return nil
            }
        }
        return nil
    }

    /// Whether the other end is a process of the same user.
    static func isOwn(_ socket: CInt) -> Bool { ownPeer(socket) != nil }

    /// The process at the other end, where it is one of the same user; 0 where it has no number here.
    static func ownPeer(_ socket: CInt) -> pid_t? {
        var uid: UInt32 = 0
        var process: pid_t = 0
        return clinux_peer(socket, &uid, &process) == 0 && uid == getuid() ? process : nil
    }

    // MARK: What they say first

    /// Says for how long something is needed: until this process has ended.
    static func introduce(to keeper: CInt) -> Bool {
        let own = clinux_pidfd_open(getpid())
        guard own >= 0 else { return false }
        defer { close(own) }
        return clinux_send_descriptors(keeper, [own], 1) == 0
    }

    /// The keeper's side: takes a connection of the same user.
    static func accept(_ listening: CInt) -> OwnedDescriptor? {
        let raw = clinux_accept(listening)
        guard raw >= 0 else { return nil }
        let socket = OwnedDescriptor(raw)
        guard isOwn(raw) else { return nil }
        // One that says nothing must not keep the others waiting.
        _ = clinux_set_receive_timeout(raw, 500)
        return socket
    }

    /// - Returns: what tells when the process that has introduced itself has ended.
    static func introduction(from client: CInt) -> OwnedDescriptor? {
        var received: [CInt] = [-1]
        guard clinux_receive_descriptors(client, &received, 1) == 1 else { return nil }
        return OwnedDescriptor(received[0])
    }

    /// A name for a file that stands for a text: two hashes of 64 bits (FNV-1a with different starts).
    static func name(for text: String) -> String {
        func hash(_ start: UInt64) -> String {
            let value = text.utf8.reduce(start) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
            let digits = String(value, radix: 16)
            return String(repeating: "0", count: 16 - digits.count) + digits
        }
        return hash(0xcbf2_9ce4_8422_2325) + hash(0x8422_2325_cbf2_9ce4)
    }

    /// Where a socket has its name. Opened while the host's tree is in reach, to take the name away later.
    struct Place {
        private let parent: CInt
        private let folder: CInt
        private let folderName: String
        private let names: [String]

        /// - Parameter others: names of files beside the socket that go with it.
        init(_ path: String, others: [String] = []) {
            let parts = path.split(separator: "/").map(String.init)
            names = [parts.last ?? ""] + others
            folderName = parts.dropLast().last ?? ""
            let above = "/" + parts.dropLast(2).joined(separator: "/")
            parent = open(above, O_PATH_FLAG | O_DIRECTORY | O_CLOEXEC)
            folder = open(above + "/" + folderName, O_PATH_FLAG | O_DIRECTORY | O_CLOEXEC)
        }

        var descriptors: Set<CInt> { [parent, folder] }

        /// Takes the names away, and the directory where they were the last.
        func clear() {
            for name in names { unlinkat(folder, name, 0) }
            unlinkat(parent, folderName, AT_REMOVEDIR)
        }
    }
}
