import CLinux
import FoundationEssentials
import Glibc
import Linux

/// What a registry is told about who asks.
public enum Credential: Sendable, Equatable {
    case basic(user: String, password: String)
    /// Exchanged for a bearer token.
    case identityToken(String)
    /// A bearer token as it is.
    case registryToken(String)
}

/// Finds the credentials for a registry in the places where Docker and the peers keep them.
public struct CredentialStore: Sendable {
    /// Given by option or environment: then no file is looked at.
    public var explicit: Credential?
    /// --authfile.
    public var authFile: String?
    /// What `registry login` keeps.
    public var loginFile: String?
    public var home: String

    public init(explicit: Credential? = nil, authFile: String? = nil, loginFile: String? = nil, home: String) {
        self.explicit = explicit
        self.authFile = authFile
        self.loginFile = loginFile
        self.home = home
    }

    private struct ConfigFile: Codable {
        struct Entry: Codable {
            var auth: String?
            var username: String?
            var password: String?
            var identitytoken: String?
            var registrytoken: String?
        }
        var auths: [String: Entry]?
        var credsStore: String?
        var credHelpers: [String: String]?
    }

    /// The credentials for a repository, nil to ask anonymously.
    public func credential(registry: String, repository: String) throws(RegistryError) -> Credential? {
        if let explicit { return explicit }
        for path in files where Files.status(path) != nil {
            if let found = try credential(in: path, registry: registry, repository: repository) { return found }
        }
        return nil
    }

    private func credential(in path: String, registry: String, repository: String) throws(RegistryError) -> Credential? {
        guard let config = try LoginFile(path).decoded(as: ConfigFile.self) else { return nil }
        let key = LoginFile.key(registry)
        let helper = config.credHelpers?[registry] ?? config.credHelpers?[key] ?? config.credsStore
        if let helper, let found = try ask(helper: helper, key: key) { return found }
        let entries = config.auths ?? [:]
        for candidate in ["\(registry)/\(repository)", key, registry] {
            if let entry = entries[candidate] ?? entries.first(where: { Self.plain($0.key) == candidate })?.value {
                return try credential(entry, path: path)
            }
        }
        return nil
    }

    /// Where this program, the peers, Docker and Podman (containers-auth.json(5)) keep what was said at a login.
    private var files: [String] {
        if let authFile { return [authFile] }
        var files = [
            loginFile ?? "\(home)/.singularity/docker-config.json", "\(home)/.apptainer/docker-config.json",
            (Environment["DOCKER_CONFIG"] ?? "\(home)/.docker") + "/config.json",
        ]
        if let folder = Environment["XDG_RUNTIME_DIR"] { files.append(folder + "/containers/auth.json") }
        return files + ["\(home)/.config/containers/auth.json"]
    }

    /// Docker's older files have addresses as keys.
    private static func plain(_ key: String) -> String {
        var rest = Substring(key)
        for scheme in ["https://", "http://"] where rest.hasPrefix(scheme) { rest = rest.dropFirst(scheme.count) }
        return String(rest.prefix { $0 != "/" })
    }

    private func credential(_ entry: ConfigFile.Entry, path: String) throws(RegistryError) -> Credential? {
        if let token = entry.registrytoken, !token.isEmpty { return .registryToken(token) }
        if let token = entry.identitytoken, !token.isEmpty { return .identityToken(token) }
        if let auth = entry.auth, !auth.isEmpty {
            guard let data = Data(base64Encoded: auth) else {
                throw .credentials("an \"auth\" value in \(path) is not base64: log in again")
            }
            let text = String(decoding: data, as: UTF8.self)
            guard let colon = text.firstIndex(of: ":") else { return nil }
            return .basic(user: String(text[..<colon]), password: String(text[text.index(after: colon)...].drop { $0 == "\0" }))
        }
        if let user = entry.username, let password = entry.password { return .basic(user: user, password: password) }
        return nil
    }

    private struct HelperAnswer: Codable {
        var Username: String
        var Secret: String
    }

    /// Runs `docker-credential-NAME get`.
    private func ask(helper: String, key: String) throws(RegistryError) -> Credential? {
        guard !helper.contains("/") else { throw .credentials("the credential helper name \"\(helper)\" has a slash") }
        let program = "docker-credential-\(helper)"
        let result: ChildProcess.Result
        do { result = try ChildProcess.run([program, "get"], input: Array(key.utf8)) } catch {
            throw .credentials(
                "the credential helper \(program) could not be run (\(error.reason)): install it, or remove it from the Docker configuration"
            )
        }
        guard result.status == 0 else {
            let text = String(decoding: result.output, as: UTF8.self)
            if text.contains("not found") { return nil }
            throw .credentials("the credential helper \(program) failed: \(text.prefix(200))")
        }
        guard let answer = try? JSONDecoder().decode(HelperAnswer.self, from: Data(result.output)) else {
            throw .credentials("the credential helper \(program) gave an answer that is not JSON")
        }
        return answer.Username == "<token>"
            ? .identityToken(answer.Secret) : .basic(user: answer.Username, password: answer.Secret)
    }
}
