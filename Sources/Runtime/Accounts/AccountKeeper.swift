import CLinux
import Glibc
import Linux

/// The process of a user that tells the programs in containers what the host calls users and groups.
///
/// The first container starts it; it leaves a moment after the last one. It listens at two sockets: at one, containers say that
/// they need it, and the other is where the C libraries in them ask. Each question is answered by a child, which may take long,
/// as a directory's server does, or fail.
struct AccountKeeper {
    let place: HostNames.Place

    /// Milliseconds that it stays after the last container, for the next one.
    private static let linger: CInt = 3000
    /// Questions that are answered at a time.
    private static let mostAnswers = 32
    /// Seconds that an answer may take. The C library waits for five.
    private static let patience: UInt32 = 10

    /// Keeps the right to see the root directory of a process that has rights. Who has none needs none.
    private static func dropRights() throws(SystemError) {
        if !CapabilitySet.effective.isEmpty { try CapabilitySet(named: "SYS_PTRACE")?.apply() }
        try Process.forbidNewPrivileges()
        Process.forbidInspection()
    }

    /// - Parameter listening: a socket bound to the place's own name.
    func keep(_ listening: CInt) -> Never {
        KeeperProcess.begin("singularity-acc", for: nil)
        let own = KeeperSocket.Place(place.socket)
        let questions = openQuestions()
        Process.closeDescriptors(except: own.descriptors.union([listening, questions]))
        guard questions >= 0, chdir("/") == 0, (try? Self.dropRights()) != nil else {
            leave(own)
            _exit(1)
        }
        _ = fcntl(listening, F_SETFL, O_NONBLOCK)
        serve(listening, questions)
        leave(own)
        // Who has connected in this moment is told by the end of the connection to start another one.
        _exit(0)
    }

    /// The socket that containers see. One that was killed may have left its name.
    private func openQuestions() -> CInt {
        mkdir(place.folder, 0o700)
        unlink(place.questions)
        return clinux_local_socket(place.questions, 1)
    }

    /// Takes away what containers see before another process can put its own there.
    private func leave(_ own: KeeperSocket.Place) {
        unlink(place.questions)
        rmdir(place.folder)
        own.clear()
    }

    private func serve(_ listening: CInt, _ questions: CInt) {
        let readable = Int16(POLLIN)
        var watched = [pollfd(fd: listening, events: readable, revents: 0), pollfd(fd: questions, events: readable, revents: 0)]
        var answers = 0
        while true {
            let isIdle = watched.count == 2
            let count = poll(&watched, nfds_t(watched.count), isIdle ? Self.linger : -1)
            if count == 0 && isIdle { return }
            guard count > 0 else { continue }
            for index in stride(from: watched.count - 1, through: 2, by: -1) where watched[index].revents != 0 {
                close(watched[index].fd)
                watched.remove(at: index)
            }
            if watched[0].revents != 0, let container = welcome(listening) {
                watched.append(pollfd(fd: container, events: readable, revents: 0))
            }
            while answers > 0, waitpid(-1, nil, answers < Self.mostAnswers ? WNOHANG : 0) > 0 { answers -= 1 }
            if watched[1].revents != 0, hear(questions) { answers += 1 }
        }
    }

    /// - Returns: what tells when the container has ended.
    private func welcome(_ listening: CInt) -> CInt? {
        guard let socket = KeeperSocket.accept(listening), let container = KeeperSocket.introduction(from: socket.rawValue) else {
            return nil
        }
        var ready = UInt8(1)
        guard send(socket.rawValue, &ready, 1, CInt(MSG_NOSIGNAL)) == 1 else { return nil }
        return container.release()
    }

    /// - Returns: whether a child has been made that answers.
    private func hear(_ questions: CInt) -> Bool {
        let raw = clinux_accept(questions)
        guard raw >= 0 else { return false }
        let client = OwnedDescriptor(raw)
        guard let process = KeeperSocket.ownPeer(client.rawValue) else { return false }
        return
            (try? Process.fork {
                Process.dieWithParent()
                signal(SIGALRM, SIG_DFL)
                alarm(Self.patience)
                Self.answer(raw, process)
                _exit(0)
            }) != nil
    }

    /// Answers one question; what is none, or not about accounts, gets no answer.
    private static func answer(_ client: CInt, _ process: pid_t) {
        var header = [UInt8](repeating: 0, count: AccountQuestion.headerSize)
        guard recv(client, &header, header.count, CInt(MSG_WAITALL)) == header.count, let (kind, size) = AccountQuestion.header(header)
        else {
            return
        }
        var key = [UInt8](repeating: 0, count: size)
        guard recv(client, &key, size, CInt(MSG_WAITALL)) == size, let question = AccountQuestion(kind: kind, key: key) else { return }
        let answer = ContainerAccounts(of: process)?.answer(question) ?? AccountAnswer(unknownTo: question)
        try? Files.writeAll(answer.bytes, to: client, name: "socket")
    }
}
