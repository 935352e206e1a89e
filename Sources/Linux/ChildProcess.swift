import CLinux
import Glibc

/// Runs a program and collects what it prints. The program is looked up in PATH; no shell is involved.
public enum ChildProcess {
    public struct Result: Sendable {
        /// Exit status, or 128 + the signal that ended it.
        public var status: Int32
        /// Standard output.
        public var output: [UInt8]
    }

    /// What becomes of messages.
    public enum Errors: Sendable { case shown, discarded, inOutput }

    /// - Parameters:
    ///   - input: its standard input; small, as it is written before the output is read.
    ///   - errors: where its standard error goes.
    ///   - showsOutput: its standard output goes to this process's standard error, as it comes; none is collected.
    ///   - environment: `NAME=value`; nil for this process's own.
    public static func run(
        _ arguments: [String], input: [UInt8] = [], errors: Errors = .shown, showsOutput: Bool = false, environment: [String]? = nil
    ) throws(SystemError) -> Result {
        var toChild: [CInt] = [0, 0]
        var fromChild: [CInt] = [0, 0]
        guard clinux_pipe(&toChild) == 0 else { throw .last("pipe") }
        guard clinux_pipe(&fromChild) == 0 else { throw .last("pipe") }
        let output = OwnedDescriptor(fromChild[0])
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, toChild[0], 0)
        posix_spawn_file_actions_adddup2(&actions, showsOutput ? 2 : fromChild[1], 1)
        switch errors {
        case .shown: break
        case .discarded: posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0)
        case .inOutput: posix_spawn_file_actions_adddup2(&actions, fromChild[1], 2)
        }
        var argv = arguments.map { strdup($0) } + [nil]
        defer { for pointer in argv { free(pointer) } }
        var pid: pid_t = 0
        var envp = (environment ?? []).map { strdup($0) } + [nil]
        defer { for pointer in envp { free(pointer) } }
        let status =
            environment == nil
            ? posix_spawnp(&pid, arguments[0], &actions, nil, &argv, clinux_environ())
            : posix_spawnp(&pid, arguments[0], &actions, nil, &argv, &envp)
        close(toChild[0])
        close(fromChild[1])
        guard status == 0 else {
            close(toChild[1])
            throw SystemError("run \(arguments[0])", errno: status)
        }
        // A program that does not read its input still has its say.
        try? Files.writeAll(input, to: toChild[1], name: arguments[0])
        close(toChild[1])
        let bytes = try Files.read(output, name: arguments[0])
        var code: Int32 = 0
        retryingOnInterrupt { waitpid(pid, &code, 0) }
        return Result(status: Process.exitCode(code), output: bytes)
    }
}
