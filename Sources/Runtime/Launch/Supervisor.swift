import Glibc
import Linux
import Messages

/// The process that stays outside of a container: the parent of its first process, which it ends as.
struct Supervisor {
    /// A child that will end by itself when the container has.
    let server: pid_t?
    let network: NetworkHelper?
    let host: HostCommandServer?
    /// In the network of its group.
    let address: String?
    let group: ControlGroup?
    let instance: InstanceStart?
    let log: Log

    /// Runs `body` in a child, where it is wanted as the first process of a new PID namespace, and ends this process as
    /// that one ended.
    /// - Parameter afterFork: in this process.
    func run(newPID: Bool, _ body: () -> Never, afterFork: () -> Void) throws(SystemError) -> Never {
        if newPID { try Namespaces.pid.unshare() }
        var signals = SignalSet.blockAll()
        let child = try Process.forkBound()
        if child == 0 {
            signals.restore()
            body()
        }
        afterFork()
        instance?.begun(child, address: address, group: group)
        // The program may ask for its parent's name in `ps`.
        Process.setName("singularity")
        if let network {
            do { try network.serve(child) } catch {
                log.fatal("\(error)")
                kill(child, SIGKILL)
            }
        }
        while true {
            let (number, isFromKernel) = signals.next()
            if number == SIGCHLD {
                var status: CInt = 0
                guard waitpid(child, &status, WNOHANG) == child else { continue }
                if let server { collect(server, &signals) }
                network?.end()
                host?.end()
                group?.remove()
                instance?.ended()
                end(status)
            }
            // What the terminal sends to the foreground reaches the program without our help. That it was closed, only the
            // leader of its session is told.
            let isForLeader = number == SIGHUP && getsid(0) == getpid()
            if (!isFromKernel || isForLeader) && number != SIGURG { kill(child, number) }
            if number == SIGTSTP { kill(getpid(), SIGSTOP) }
        }
    }

    /// Waits for the image server, which ends a moment after the last process of the container; one that goes on in the
    /// background keeps it, and is not waited for.
    private func collect(_ server: pid_t, _ signals: inout SignalSet) {
        for _ in 0..<100 {
            if waitpid(server, nil, WNOHANG) != 0 { return }
            signals.wait(milliseconds: 5)
        }
    }

    private func end(_ status: CInt) -> Never {
        let signal = status & 0x7f
        if signal == 0 { _exit((status >> 8) & 0xff) }
        Process.raiseDeadly(signal)
    }
}
