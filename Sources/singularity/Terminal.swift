import Cryptography
import Glibc
import Linux

/// Asks the user, and shows what others have written.
enum Terminal {
    /// A text of a container without what a terminal could take for a command; lines and tabs stay.
    static func plain(_ text: String) -> String {
        String(
            String.UnicodeScalarView(
                text.unicodeScalars.map { scalar in
                    scalar == "\n" || scalar == "\t" || scalar.properties.generalCategory != .control ? scalar : "\u{fffd}"
                }))
    }

    /// A line of standard input; nil at its end.
    static func ask(_ question: String) -> String? {
        try? Files.writeAll(Array(question.utf8), to: 1, name: "standard output")
        return readLine()
    }

    /// A line that is not shown while it is typed.
    /// - Throws: where nobody can be asked.
    static func askSecret(_ question: String, instead: String) throws -> SecretBytes {
        let terminal = open("/dev/tty", O_RDWR | O_CLOEXEC)
        let input: CInt = terminal >= 0 ? terminal : 0
        defer { if terminal >= 0 { close(terminal) } }
        guard isatty(input) != 0 else { throw CommandError("there is no terminal to ask for a pass phrase; \(instead)") }
        try? Files.writeAll(Array(question.utf8), to: terminal >= 0 ? terminal : 2, name: "terminal")
        var settings = termios()
        tcgetattr(input, &settings)
        var silent = settings
        silent.c_lflag &= ~tcflag_t(ECHO)
        tcsetattr(input, TCSAFLUSH, &silent)
        defer {
            tcsetattr(input, TCSAFLUSH, &settings)
            try? Files.writeAll(Array("\n".utf8), to: terminal >= 0 ? terminal : 2, name: "terminal")
        }
        return try line(input)
    }

    /// A new secret, asked for twice.
    /// - Returns: nil where the two are not the same.
    static func askNewSecret(_ question: String, again: String, instead: String) throws -> SecretBytes? {
        let first = try askSecret(question, instead: instead)
        let second = try askSecret(again, instead: instead)
        let isEqual = first.withBytes { one in second.withBytes { two in one.elementsEqual(two) } }
        return isEqual ? first : nil
    }

    /// Bytes up to a line's end.
    private static func line(_ input: CInt) throws -> SecretBytes {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(4096)
        var byte: UInt8 = 0
        while bytes.count < 4096, retryingOnInterrupt({ read(input, &byte, 1) }) == 1, byte != UInt8(ascii: "\n") { bytes.append(byte) }
        return SecretBytes(taking: &bytes)
    }
}
