import CLinux
import Glibc
import Linux

/// Passes on what a section prints, line by line as it comes: to the user, with a prefix on a terminal, and to a log.
///
/// It also reads, from the trace that `sh -x` prints, which line of the section is run.
struct SectionOutput {
    /// For the section's standard output.
    let output: CInt
    /// For the section's standard error.
    let errors: CInt
    private let printer: pid_t
    private let report: OwnedBox

    /// Before each line of the trace: the number of the line, and the script that it is of.
    static let traceMark: Character = "\u{1}"
    /// Set by the first line of a script. Not exported, so that the programs it calls are not told of it.
    static let traceSetting = "PS4='+ \u{1}'\"${0}\"':${LINENO}\u{1} '"

    private final class OwnedBox {
        let file: OwnedDescriptor
        init(_ file: consuming OwnedDescriptor) { self.file = file }
    }

    /// What was seen.
    struct Result {
        /// Line of the script that was run last, from 1; nil where no trace said it.
        var lastLine: Int?
        /// The command that was run last, as the trace shows it.
        var lastCommand: String?
        /// The last lines that were printed, without the trace.
        var tail: [String]
    }

    /// Starts to listen.
    /// - Parameters:
    ///   - prefix: before each line; empty for none.
    ///   - log: a file that gets all lines; nil for none.
    ///   - isQuiet: the trace of commands is not shown.
    ///   - outputTo: descriptor for the section's standard output.
    init(prefix: String, log: String?, isQuiet: Bool, outputTo: CInt = 1) throws {
        var outEnds: [CInt] = [0, 0]
        var errorEnds: [CInt] = [0, 0]
        guard clinux_pipe(&outEnds) == 0, clinux_pipe(&errorEnds) == 0 else { throw SystemError.last("pipe") }
        let box = OwnedBox(OwnedDescriptor(clinux_memfd("report")))
        let number = box.file.rawValue
        guard number >= 0 else { throw SystemError.last("memfd_create") }
        let inputs = (outEnds[0], errorEnds[0])
        let ends = [outEnds[1], errorEnds[1]]
        printer = try Process.fork {
            for end in ends { close(end) }
            // What ends the section ends it too, after the section has had its say.
            for number in [SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGPIPE] { signal(number, SIG_IGN) }
            var printer = LinePrinter(prefix: prefix, log: log, isQuiet: isQuiet, outputTo: outputTo)
            printer.run(output: inputs.0, errors: inputs.1)
            try? Files.writeAll(Array(printer.report.utf8), to: number, name: "report")
            _exit(0)
        }
        close(outEnds[0])
        close(errorEnds[0])
        output = outEnds[1]
        errors = errorEnds[1]
        report = box
    }

    /// Waits until all is printed. What a process that was left behind prints is not waited for.
    func finish() -> Result {
        close(output)
        close(errors)
        var isKilled = false
        for attempt in 0..<200 {
            if waitpid(printer, nil, WNOHANG) != 0 { break }
            usleep(10_000)
            isKilled = attempt == 199
        }
        if isKilled {
            kill(printer, SIGKILL)
            Process.wait(for: printer)
        }
        lseek(report.file.rawValue, 0, SEEK_SET)
        let text = (try? Files.read(report.file, name: "report")).map { String(decoding: $0, as: UTF8.self) } ?? ""
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        return Result(
            lastLine: lines.first.flatMap { Int($0) }, lastCommand: lines.dropFirst().first.flatMap { $0.isEmpty ? nil : $0 },
            tail: lines.dropFirst(2).filter { !$0.isEmpty })
    }
}

/// Reads two pipes and prints their lines.
private struct LinePrinter {
    let prefix: String
    let log: OwnedDescriptorBox?
    let isQuiet: Bool
    let outputTo: CInt
    private let start = MonotonicClock.seconds
    private var partial: [[UInt8]] = [[], []]
    private var lastLine: Int?
    private var lastCommand = ""
    private var tail: [String] = []

    final class OwnedDescriptorBox {
        let file: OwnedDescriptor
        init(_ file: consuming OwnedDescriptor) { self.file = file }
    }

    private static let tailLength = 10
    /// A line that is longer is printed in pieces.
    private static let longestLine = 1 << 16

    init(prefix: String, log: String?, isQuiet: Bool, outputTo: CInt) {
        self.outputTo = outputTo
        self.prefix = prefix
        self.isQuiet = isQuiet
        self.log = log.flatMap { path in
            let raw = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0o600)
            return raw >= 0 ? OwnedDescriptorBox(OwnedDescriptor(raw)) : nil
        }
    }

    /// For the process that has started this one: the line, and the last lines of output.
    var report: String { ([lastLine.map { String($0) } ?? "", lastCommand] + tail).joined(separator: "\n") }

    mutating func run(output: CInt, errors: CInt) {
        var watched = [pollfd(fd: output, events: Int16(POLLIN), revents: 0), pollfd(fd: errors, events: Int16(POLLIN), revents: 0)]
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        while watched.contains(where: { $0.fd >= 0 }) {
            guard poll(&watched, 2, -1) > 0 else { continue }
            // Standard error first: the trace says what the output is of.
            for index in [1, 0] where watched[index].revents != 0 {
                let count = read(watched[index].fd, &buffer, buffer.count)
                if count <= 0 {
                    watched[index].fd = -1
                    flush(index)
                } else {
                    take(buffer[..<count], index)
                }
            }
        }
    }

    private mutating func take(_ bytes: ArraySlice<UInt8>, _ index: Int) {
        var rest = bytes
        while let end = rest.firstIndex(of: UInt8(ascii: "\n")) {
            partial[index] += rest[..<end]
            flush(index, newline: true)
            rest = rest[(end + 1)...]
        }
        partial[index] += rest
        if partial[index].count > Self.longestLine { flush(index) }
    }

    private mutating func flush(_ index: Int, newline: Bool = false) {
        var line = partial[index]
        if line.isEmpty && !newline { return }
        partial[index].removeAll(keepingCapacity: true)
        let isTrace = readMark(&line)
        if isTrace && line.starts(with: Array("+ PS4=".utf8)) { return }
        if !isTrace, !line.isEmpty {
            tail.append(String(decoding: line, as: UTF8.self))
            if tail.count > Self.tailLength { tail.removeFirst() }
        }
        line.append(UInt8(ascii: "\n"))
        if let log { try? Files.writeAll(line, to: log.file.rawValue, name: "log") }
        if isQuiet && isTrace { return }
        if !prefix.isEmpty {
            let seconds = MonotonicClock.seconds - start
            line = Array("\u{1b}[2m\(prefix) \(seconds / 60):\(seconds % 60 < 10 ? "0" : "")\(seconds % 60)\u{1b}[0m ".utf8) + line
        }
        try? Files.writeAll(line, to: index == 0 ? outputTo : 2, name: "output")
    }

    /// Takes the mark out of a line of the trace.
    private mutating func readMark(_ line: inout [UInt8]) -> Bool {
        let mark = SectionOutput.traceMark.asciiValue ?? 1
        guard line.first == UInt8(ascii: "+") else { return false }
        guard let start = line.firstIndex(of: mark), let end = line[(start + 1)...].firstIndex(of: mark) else {
            // The setting of the mark itself, which comes before there is one.
            return line.starts(with: Array("+ PS4=".utf8))
        }
        let words = String(decoding: line[(start + 1)..<end], as: UTF8.self).split(separator: ":")
        line.removeSubrange(start...(end + (end + 1 < line.count ? 1 : 0)))
        guard words.first?.hasSuffix(".script") == true else { return true }
        // Some shells have no line numbers, as Debian's dash.
        lastLine = words.count == 2 ? Int(words[1]).map { $0 - 1 } : nil
        lastCommand = String(decoding: line.drop { $0 == UInt8(ascii: "+") || $0 == UInt8(ascii: " ") }, as: UTF8.self)
        return true
    }
}
