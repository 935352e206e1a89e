/// One `--bind`: a host path that shall appear in the container.
public struct BindSpec: Equatable, Sendable {
    public var source: String
    public var destination: String
    public var isReadOnly: Bool
    /// `image-src`: the source is an image, and this is the path in it.
    public var imagePath: String?
    /// `id`: the number of the object in a SIF.
    public var imageObject: UInt32?
    /// `--data`: a data container.
    public var isData = false

    public init(source: String, destination: String, isReadOnly: Bool = false) {
        self.source = source
        self.destination = destination
        self.isReadOnly = isReadOnly
    }

    /// Takes an option of a bind.
    /// - Returns: false where it is none.
    private mutating func apply(_ option: String, of text: String) throws(RuntimeError) -> Bool {
        switch option {
        case "ro": isReadOnly = true
        case "rw": isReadOnly = false
        default:
            if option.hasPrefix("image-src=") {
                imagePath = String(option.dropFirst("image-src=".count))
                if imagePath?.isEmpty ?? true { throw .badOption("\(text): image-src= needs a path in the image, such as /") }
            } else if option.hasPrefix("id=") {
                guard let number = UInt32(option.dropFirst(3)), number > 0 else {
                    throw .badOption("\(text): id= needs the number of an object, from 1 on")
                }
                imageObject = number
                imagePath = imagePath ?? "/"
            } else {
                return false
            }
        }
        return true
    }

    /// Reads `src[:dst[:opt[,opt]]]`, several of them separated by commas. A backslash takes the meaning from a colon
    /// or comma. A word behind a comma that is an option belongs to the bind before it.
    public static func parse(_ text: String) throws(RuntimeError) -> [BindSpec] {
        var out: [BindSpec] = []
        for item in split(text, at: ",") {
            if !out.isEmpty, try out[out.count - 1].apply(item, of: "--bind \(text)") { continue }
            if item.isEmpty { continue }
            out.append(try parse(item: item))
        }
        return out
    }

    private static func parse(item: String) throws(RuntimeError) -> BindSpec {
        let parts = split(item, at: ":").map(unescaped)
        guard (1...3).contains(parts.count), !parts[0].isEmpty else {
            throw .badOption("--bind \(item): give source[:destination[:options]]")
        }
        let destination = parts.count > 1 && !parts[1].isEmpty ? parts[1] : parts[0]
        guard destination.hasPrefix("/") || parts[0] == destination else {
            throw .badOption("--bind \(item): the destination must be an absolute path")
        }
        var spec = BindSpec(source: parts[0], destination: destination)
        if parts.count == 3, try !spec.apply(parts[2], of: "--bind \(item)") {
            throw .badOption("--bind \(item): \(parts[2]) is not a valid bind option; there are ro, rw, image-src= and id=")
        }
        return spec
    }

    /// Reads a `--data` option: `FILE:DIRECTORY[:ro]`, a data container and where its root shall appear.
    public static func parse(data text: String) throws(RuntimeError) -> BindSpec {
        let parts = split(text, at: ":").map(unescaped)
        guard (2...3).contains(parts.count), !parts[0].isEmpty, parts[1].hasPrefix("/"), parts[1] != "/" else {
            throw .badOption("--data \(text): give FILE:DIRECTORY[:ro], the directory as an absolute path in the container")
        }
        var spec = BindSpec(source: parts[0], destination: parts[1])
        spec.imagePath = "/"
        spec.isData = true
        if parts.count == 3 {
            guard parts[2] == "ro" || parts[2] == "rw" else { throw .badOption("--data \(text): \(parts[2]) is neither ro nor rw") }
            spec.isReadOnly = parts[2] == "ro"
        }
        return spec
    }

    /// Reads a `--mount` line: `type=bind,source=…,destination=…[,ro]`, with quotes around a field that has a comma.
    public static func parse(mount text: String) throws(RuntimeError) -> [BindSpec] {
        var out: [BindSpec] = []
        for line in text.split(separator: "\n") {
            var source: String?
            var destination: String?
            var spec = BindSpec(source: "", destination: "")
            for field in commaSeparated(String(line)) {
                let key = field.prefix { $0 != "=" }
                let value = String(field.dropFirst(key.count + 1))
                switch key {
                case "type":
                    guard value == "bind" else {
                        throw .badOption("--mount \(line): the type \"\(value)\" is not supported; there is bind")
                    }
                case "source", "src": source = value
                case "destination", "dst", "target": destination = value
                case "ro", "readonly": spec.isReadOnly = value.isEmpty || value == "true" || value == "1"
                // Nothing is mounted below a mount but what was there.
                case "nonested": break
                default:
                    guard key != "rw", try spec.apply(field, of: "--mount \(line)") else {
                        throw .badOption(
                            "--mount \(line): invalid key \"\(key)\"; there are type, source, destination, ro, image-src and id")
                    }
                }
            }
            guard let source, let destination, destination.hasPrefix("/") else {
                throw .badOption("--mount \(line): source and an absolute destination are needed")
            }
            spec.source = source
            spec.destination = destination
            out.append(spec)
        }
        return out
    }

    /// Fields of a line of comma-separated values; a field in double quotes may hold commas.
    public static func commaSeparated(_ line: String) -> [String] {
        var out: [String] = []
        var current = ""
        var isQuoted = false
        for character in line {
            if character == "\"" {
                isQuoted.toggle()
            } else if character == "," && !isQuoted {
                out.append(current)
                current = ""
            } else {
                current.append(character)
            }
        }
        return out + [current]
    }

    /// Splits at a character that has no backslash before it; the backslashes stay.
    private static func split(_ text: String, at separator: Character) -> [String] {
        var out = [""]
        var isEscaped = false
        for character in text {
            if character == separator && !isEscaped {
                out.append("")
            } else {
                out[out.count - 1].append(character)
            }
            isEscaped = character == "\\" && !isEscaped
        }
        return out
    }

    private static func unescaped(_ text: String) -> String {
        var out = ""
        var isEscaped = false
        for character in text {
            if isEscaped {
                if character != ":" && character != "," { out.append("\\") }
                out.append(character)
                isEscaped = false
            } else if character == "\\" {
                isEscaped = true
            } else {
                out.append(character)
            }
        }
        return isEscaped ? out + "\\" : out
    }
}
