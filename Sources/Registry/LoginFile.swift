import FoundationEssentials
import Glibc
import Linux

/// The file in which logins are kept, of Docker's form (`auths` by registry). What else is in it stays as it is.
public struct LoginFile: Sendable {
    public let path: String

    public init(_ path: String) { self.path = path }

    /// The registries that somebody has logged in to, sorted.
    public var registries: [String] {
        get throws(RegistryError) { (try read()["auths"]?.fields ?? [:]).keys.map(Self.name).sorted() }
    }

    /// Remembers a login.
    public func add(_ registry: String, user: String, password: String) throws(RegistryError) {
        try change { auths in
            let text = Data("\(user):\(password)".utf8).base64EncodedString()
            auths[Self.key(registry)] = .object(["auth": .string(text)])
        }
    }

    /// Forgets a login.
    /// - Returns: whether there was one.
    public func remove(_ registry: String) throws(RegistryError) -> Bool {
        var isThere = false
        try change { auths in
            for key in [Self.key(registry), registry] where auths.removeValue(forKey: key) != nil { isThere = true }
        }
        return isThere
    }

    private static let hubKey = "https://index.docker.io/v1/"

    /// What a registry's login is called in the file.
    static func key(_ registry: String) -> String { ImageReference.isDockerHub(registry) ? hubKey : registry }

    private static func name(_ key: String) -> String { key == hubKey ? "docker.io" : key }

    // MARK: The file

    /// What is in the file; nil where there is nothing in it.
    /// - Throws: ``RegistryError/credentials(_:)`` for something else.
    func decoded<T: Decodable>(as type: T.Type) throws(RegistryError) -> T? {
        do {
            let bytes = try Files.read(path, limit: 4 << 20)
            if bytes.allSatisfy({ $0 == 0x20 || $0 == 0x0a }) { return nil }
            return try JSONDecoder().decode(type, from: Data(bytes))
        } catch let error as SystemError { throw .system(error) } catch {
            throw .credentials("the credentials file \(path) is not valid JSON of Docker's form: correct it or remove it")
        }
    }

    private func read() throws(RegistryError) -> [String: JSONTree] {
        Files.status(path) == nil ? [:] : try decoded(as: [String: JSONTree].self) ?? [:]
    }

    /// The file is replaced as a whole, by one process at a time.
    private func change(_ body: (inout [String: JSONTree]) -> Void) throws(RegistryError) {
        let lock: SharedDescriptor
        do { lock = try locked() } catch { throw .system(error) }
        defer { flock(lock.rawValue, LOCK_UN) }
        var fields = try read()
        var auths = fields["auths"]?.fields ?? [:]
        body(&auths)
        fields["auths"] = .object(auths)
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        guard let data = try? encoder.encode(JSONTree.object(fields)) else { throw .credentials("\(path) cannot be written as JSON") }
        do { try Files.replace(path, with: Array(data) + [UInt8(ascii: "\n")], mode: 0o600) } catch { throw .system(error) }
    }

    private func locked() throws(SystemError) -> SharedDescriptor {
        let folder = path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "."
        if !folder.isEmpty { try Files.makeDirectories(folder, mode: 0o700) }
        let lock = SharedDescriptor(try OwnedDescriptor.open(path + ".lock", O_RDWR | O_CREAT | O_NOFOLLOW, mode: 0o600))
        let raw = lock.rawValue
        guard retryingOnInterrupt({ flock(raw, LOCK_EX) }) == 0 else { throw SystemError.last("lock \(path)") }
        return lock
    }
}

/// A JSON value, whatever it is.
private enum JSONTree: Codable {
    case null
    case bool(Bool)
    case number(Double)
    case string(String)
    case array([JSONTree])
    case object([String: JSONTree])

    var fields: [String: JSONTree]? {
        if case .object(let fields) = self { return fields }
        return nil
    }

    init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if container.decodeNil() {
            self = .null
        } else if let value = try? container.decode(Bool.self) {
            self = .bool(value)
        } else if let value = try? container.decode(Double.self) {
            self = .number(value)
        } else if let value = try? container.decode(String.self) {
            self = .string(value)
        } else if let value = try? container.decode([JSONTree].self) {
            self = .array(value)
        } else {
            self = .object(try container.decode([String: JSONTree].self))
        }
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .null: try container.encodeNil()
        case .bool(let value): try container.encode(value)
        case .number(let value): try container.encode(value)
        case .string(let value): try container.encode(value)
        case .array(let values): try container.encode(values)
        case .object(let fields): try container.encode(fields)
        }
    }
}
