import Foundation
import Testing

/// Containers at a terminal: keys, job control, the window's size, and its end.
@Suite(.enabled(if: Site.isPrepared && Site.mayFUSE, "needs scripts/test.sh and /dev/fuse"), .serialized)
struct TerminalTests {
    private enum Step {
        case expect(String)
        case type(String)
        case pause(Double)
        case size(Int, Int)
        case hangUp

        var json: [Any] {
            switch self {
            case .expect(let text): ["expect", text]
            case .type(let text): ["type", text]
            case .pause(let seconds): ["pause", seconds]
            case .size(let rows, let columns): ["size", [rows, columns]]
            case .hangUp: ["hang up", 0]
            }
        }
    }

    /// Runs the program at a terminal.
    private func use(_ words: [String], _ steps: [Step]) throws -> Run {
        let script = String(decoding: try JSONSerialization.data(withJSONObject: steps.map(\.json)), as: UTF8.self)
        return try Run.program(
            "/usr/bin/python3", [Site.fixtures + "/terminal.py", script, Site.program] + words, as: .ordinaryUser,
            environment: ["TERM": "dumb", "PS1": ""], in: Site.folder)
    }

    private func isGone(_ text: String) -> Bool {
        Wait.until(5) { (try? Run.program("/usr/bin/pgrep", ["-f", text]).output.isEmpty) ?? false }
    }

    /// What a container may have to itself; with some of it there is a supervisor, and with some an init.
    private static let kinds: [[String]] = [[], ["--pid"], ["--containall"], ["--private-mount"]]

    @Test(arguments: kinds) func controlCEndsTheProgramAndNotTheContainer(_ options: [String]) throws {
        let result = try use(
            ["shell"] + options + [Site.debian.get()],
            [
                .expect("Singularity> "), .type("echo rea''dy; sleep 4327\n"), .expect("ready"), .type("\u{3}"), .expect("Singularity> "),
                // Files that were not read before are still served.
                .type("wc -l < /etc/services || wc -l < /etc/passwd; ls /usr/share | wc -l; echo al''ive\n"), .expect("alive"),
                .type("exit 5\n"),
            ])
        #expect(result.status == 5, "\(result)")
        #expect(isGone("sleep 4327"))
    }

    @Test(arguments: kinds) func controlZStopsAndTheProgramGoesOn(_ options: [String]) throws {
        let result = try use(
            ["shell"] + options + [Site.debian.get()],
            [
                .expect("Singularity> "), .type("sh -c 'echo rea''dy; read x; echo got $x'\n"), .expect("ready"), .type("\u{1a}"),
                .expect("Stopped"), .expect("Singularity> "), .type("jobs; cat /etc/debian_version > /dev/null && fg\n"),
                .expect("got $x'"),
                .type("answer\n"), .expect("got answer"), .type("exit\n"),
            ])
        #expect(result.status == 0, "\(result)")
    }

    @Test(arguments: kinds) func aProgramInFrontIsEndedByControlC(_ options: [String]) throws {
        let result = try use(
            ["exec"] + options + [
                Site.debian.get(), "sh", "-c", "trap 'echo cau''ght; exit 6' INT; echo rea''dy; while :; do sleep 0.1; done",
            ],
            [.expect("ready"), .type("\u{3}"), .expect("caught")])
        #expect(result.status == 6, "\(result)")
        let untrapped = try use(
            ["exec"] + options + [Site.debian.get(), "sh", "-c", "echo rea''dy; exec sleep 4328"], [.expect("ready"), .type("\u{3}")])
        #expect(untrapped.status == 130, "\(untrapped)")
        #expect(isGone("sleep 4328"))
    }

    @Test(arguments: kinds) func theWindowsSizeIsTheProgramsToo(_ options: [String]) throws {
        let result = try use(
            ["exec"] + options + [
                Site.debian.get(), "bash", "-c", "trap 'stty size; exit 3' WINCH; echo rea''dy; while :; do sleep 0.1; done",
            ],
            [.expect("ready"), .size(33, 77), .expect("33 77")])
        #expect(result.status == 3, "\(result)")
    }

    @Test(arguments: kinds) func nothingIsLeftWhenTheTerminalIsClosed(_ options: [String]) throws {
        let image = try Site.debian.get()
        let result = try use(
            ["shell"] + options + [image],
            // The shell needs a moment to put the program into the foreground, where the signal goes.
            [.expect("Singularity> "), .type("echo rea''dy; sleep 4329\n"), .expect("ready"), .pause(0.5), .hangUp])
        #expect(result.status == 129, "\(result)")
        #expect(isGone("sleep 4329"))
    }

    /// Python takes Ctrl-C itself; a key that comes between its prompt and its read(2) waits for the next line, anywhere.
    @Test func aPromptTakesControlC() throws {
        let python =
            "import sys\nwhile True:\n    try:\n        if input('>> ') == 'end': sys.exit(4)\n    except KeyboardInterrupt: print('inter' + 'rupted')\n"
        let scratch = try Scratch()
        let file = try scratch.write("prompt.py", Array(python.utf8))
        // The image has no Python; the host's works in it where their systems are alike, with all that it loads.
        let result = try use(
            ["exec", "-B", "/usr:/usr", "-B", scratch.path, Site.debian.get(), "python3", file],
            [
                .expect(">> "), .pause(0.5), .type("\u{3}"), .expect("interrupted"), .expect(">> "), .pause(0.5), .type("\u{3}"),
                .expect("interrupted"),
                .type("end\n"),
            ])
        #expect(result.status == 4, "\(result)")
    }
}
