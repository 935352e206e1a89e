import Foundation

/// Programs that tests start.
struct Run: CustomStringConvertible {
    var status: Int32
    var bytes: Data
    var error: String
    var output: String { String(decoding: bytes, as: UTF8.self) }
    var description: String { "status \(status)\n\(output)\n\(error)" }

    /// Who starts it.
    enum Identity {
        case caller
        /// The ordinary account, where the caller is root.
        case ordinaryUser
    }

    /// Runs the release binary.
    static func singularity(
        _ arguments: String..., as identity: Identity = .caller, environment: [String: String] = [:], input: String? = nil,
        in folder: String = "/"
    ) throws -> Run {
        try program(Site.program, arguments, as: identity, environment: environment, input: input, in: folder)
    }

    static func program(
        _ path: String, _ arguments: [String], as identity: Identity = .caller, environment: [String: String] = [:],
        input: String? = nil, in folder: String = "/", timeout: Double = 120
    ) throws -> Run {
        let process = try start(path, arguments, as: identity, environment: environment, in: folder)
        if let input {
            process.input.fileHandleForWriting.write(Data(input.utf8))
        }
        try process.input.fileHandleForWriting.close()
        return process.finish(timeout: timeout)
    }

    /// A program that is still running.
    final class Live {
        let process = Process()
        let input = Pipe()
        fileprivate let output: FileHandle
        fileprivate let error: FileHandle

        fileprivate init() throws {
            // Files rather than pipes: a server that lives on must not keep a test waiting.
            func file() throws -> FileHandle {
                var template = Array("\(Site.folder)/out.XXXXXX".utf8CString)
                let descriptor = mkstemp(&template)
                unlink(&template)
                return FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
            }
            output = try file()
            error = try file()
        }

        var identifier: pid_t { process.processIdentifier }

        /// What it has printed so far.
        func printed() -> String {
            let size = lseek(output.fileDescriptor, 0, SEEK_END)
            var buffer = [UInt8](repeating: 0, count: Int(max(0, size)))
            let count = pread(output.fileDescriptor, &buffer, buffer.count, 0)
            return String(decoding: buffer.prefix(max(0, count)), as: UTF8.self)
        }

        /// Waits for a text in its output.
        func waitFor(_ text: String, seconds: Double = 10) -> Bool {
            Wait.until(seconds) { printed().contains(text) }
        }

        func finish(timeout: Double = 60) -> Run {
            let ended = Wait.until(timeout) { !process.isRunning }
            var status: Int32 = -1
            if ended {
                process.waitUntilExit()
                status = process.terminationStatus
                if process.terminationReason == .uncaughtSignal { status += 128 }
            } else {
                // Not waited for: Foundation hears of an end only when nothing that the program has started is left either.
                kill(process.processIdentifier, SIGKILL)
            }
            try? output.seek(toOffset: 0)
            try? error.seek(toOffset: 0)
            let bytes = (try? output.readToEnd()) ?? Data()
            let text = String(decoding: (try? error.readToEnd()) ?? Data(), as: UTF8.self)
            return Run(status: status, bytes: bytes, error: text + (ended ? "" : "\n(timed out)"))
        }
    }

    static func start(
        _ path: String, _ arguments: [String], as identity: Identity = .caller, environment: [String: String] = [:], in folder: String = "/"
    ) throws -> Live {
        let live = try Live()
        var variables = ["PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": NSHomeDirectory(), "LC_ALL": "C"]
        var words = [path] + arguments
        if identity == .ordinaryUser && Site.isRoot {
            variables["HOME"] = "/home/\(Site.user)"
            words = ["/usr/bin/setpriv", "--reuid", Site.user, "--regid", Site.user, "--init-groups"] + words
        }
        variables.merge(environment) { _, new in new }
        live.process.executableURL = URL(filePath: words[0])
        live.process.arguments = Array(words.dropFirst())
        live.process.environment = variables
        live.process.currentDirectoryURL = URL(filePath: folder)
        live.process.standardInput = live.input
        live.process.standardOutput = live.output
        live.process.standardError = live.error
        // The test runner blocks signals, which a program would inherit.
        var none = sigset_t()
        var old = sigset_t()
        sigemptyset(&none)
        pthread_sigmask(SIG_SETMASK, &none, &old)
        defer { pthread_sigmask(SIG_SETMASK, &old, nil) }
        try live.process.run()
        return live
    }
}

/// Waiting for a condition with a deadline.
enum Wait {
    static func until(_ seconds: Double, _ condition: () -> Bool) -> Bool {
        let end = Date().addingTimeInterval(seconds)
        while Date() < end {
            if condition() { return true }
            usleep(20_000)
        }
        return condition()
    }
}

/// Processes of this host.
enum Processes {
    /// Those of a name whose command line has a text; zombies do nothing any more.
    static func living(named name: String, with text: String) -> [pid_t] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
        return names.compactMap { pid_t($0) }.filter { pid in
            guard (try? String(contentsOfFile: "/proc/\(pid)/comm", encoding: .utf8)) == name + "\n" else { return false }
            let words = (try? Data(contentsOf: URL(filePath: "/proc/\(pid)/cmdline"))) ?? Data()
            return String(decoding: words, as: UTF8.self).contains(text) && !isGone(pid)
        }
    }

    static func isGone(_ pid: pid_t) -> Bool {
        (try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8))?.contains(") Z") ?? true
    }
}
