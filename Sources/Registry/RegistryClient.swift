import AsyncHTTPClient
import FoundationEssentials
import Glibc
import Linux
import NIOCore
import NIOHTTP1

/// Reads images from registries and writes them there (OCI distribution specification 1.1, and the Docker registry protocol v2 before it).
public actor RegistryClient {
    private let transport = HTTPTransport()
    private let credentials: CredentialStore
    private let allowHTTP: Bool
    private let mirrors: Mirrors
    private let limits: RateLimits
    /// http or https, by host, once that is known.
    private var schemes: [String: String] = [:]
    /// Authorization headers by host and repository.
    private var authorizations: [String: String] = [:]
    private var probes: [String: Task<String, any Error>] = [:]

    /// Attempts at one request.
    static let attempts = 4

    /// - Parameters:
    ///   - allowHTTP: --no-https.
    ///   - cacheFolder: where it is noted that registries ask for patience.
    public init(credentials: CredentialStore, allowHTTP: Bool, mirrors: Mirrors, cacheFolder: String) {
        limits = RateLimits(cache: cacheFolder)
        self.credentials = credentials
        self.allowHTTP = allowHTTP
        self.mirrors = mirrors
    }

    public func shutdown() async { await transport.shutdown() }

    // MARK: Manifests

    public struct FetchedManifest: Sendable {
        public var bytes: [UInt8]
        public var mediaType: String?
        public var digest: Digest
    }

    /// The digest that a tag stands for, where the registry tells without sending the manifest.
    public func resolve(_ reference: ImageReference) async throws -> Digest? {
        let response = try await request(
            .HEAD, "manifests/\(reference.manifestReference)", reference, headers: [("Accept", MediaType.accepted)],
            accept: { $0 < 300 || $0 == 405 })
        for try await _ in response.body {}
        return response.headers.first(name: "Docker-Content-Digest").flatMap { Digest($0) }
    }

    /// A manifest or index.
    /// - Throws: ``RegistryError/digestMismatch(what:expected:found:)`` where it was asked for by digest and is another.
    public func manifest(_ reference: ImageReference, digest: Digest? = nil) async throws -> FetchedManifest {
        let wanted = digest ?? reference.digest
        let response = try await request(
            .GET, "manifests/\(wanted?.description ?? reference.tag)", reference, headers: [("Accept", MediaType.accepted)])
        var buffer: ByteBuffer
        do { buffer = try await response.body.collect(upTo: ManifestDocument.largest) } catch is NIOTooManyBytesError {
            throw RegistryError.badDocument(what: "\(reference)", why: "its manifest is larger than \(ManifestDocument.largest) bytes")
        }
        let bytes = buffer.readBytes(length: buffer.readableBytes) ?? []
        var hasher = StreamHash(wanted?.algorithm ?? "sha256")
        bytes.withUnsafeBytes { hasher.update($0) }
        let found = hasher.finish()
        if let wanted, wanted.description != found {
            throw RegistryError.digestMismatch(what: "the manifest of \(reference)", expected: wanted.description, found: found)
        }
        guard let computed = Digest(found) else { throw RegistryError.badDocument(what: "\(reference)", why: "no digest") }
        return FetchedManifest(bytes: bytes, mediaType: response.headers.first(name: "Content-Type"), digest: computed)
    }

    // MARK: Blobs

    /// Starts to receive a blob from byte `offset` on.
    /// - Returns: the answer, and where its bytes start: 0 where the registry does not do ranges.
    func blob(
        _ digest: Digest, _ reference: ImageReference, from offset: UInt64, foreignURLs: [String]
    ) async throws -> (response: HTTPClientResponse, start: UInt64) {
        let headers = offset > 0 ? [("Range", "bytes=\(offset)-")] : []
        do {
            let response = try await request(.GET, "blobs/\(digest)", reference, headers: headers)
            return (response, response.status == .partialContent ? offset : 0)
        } catch RegistryError.notFound(let what, let detail) {
            for url in foreignURLs {
                guard let address = WebAddress(url) else { continue }
                let response = try await transport.send(.GET, address, headers: headers)
                if response.status.code < 300 { return (response, response.status == .partialContent ? offset : 0) }
            }
            throw RegistryError.notFound(reference: what, detail: detail)
        }
    }

    // MARK: Requests

    /// Sends a request to the repository of a reference, with credentials as the registry asks, again after passing faults.
    private func request(
        _ method: HTTPMethod, _ path: String, _ reference: ImageReference, headers: [(String, String)],
        accept: (UInt) -> Bool = { $0 < 300 }
    ) async throws -> HTTPClientResponse {
        var last: any Error = RegistryError.unreachable(host: reference.host, why: "no answer")
        for endpoint in try mirrors.endpoints(for: reference) {
            do {
                return try await exchange(
                    method, .path(path), reference, endpoint, headers: headers, attempts: Self.attempts, changes: false, body: nil,
                    accept: accept
                ).response
            } catch {
                // A mirror that fails is passed over; the registry itself comes last and its error counts.
                last = error
            }
        }
        throw last
    }

    /// Where a request goes.
    enum Target {
        /// Below the repository.
        case path(String)
        /// What the registry has named.
        case address(WebAddress)
    }

    /// Sends a request that changes the repository of a reference. It goes to the registry itself, never to a mirror.
    /// - Parameter body: made for each attempt.
    /// - Returns: the answer, and the address that it is of.
    func change(
        _ method: HTTPMethod, _ target: Target, _ reference: ImageReference, headers: [(String, String)] = [],
        attempts: Int = RegistryClient.attempts,
        body: (@Sendable () throws -> HTTPClientRequest.Body)? = nil, accept: (UInt) -> Bool = { $0 < 300 }
    ) async throws -> (response: HTTPClientResponse, address: WebAddress) {
        guard let endpoint = try mirrors.endpoints(for: reference).last else {
            throw RegistryError.unreachable(host: reference.host, why: "it has no address")
        }
        return try await exchange(
            method, target, reference, endpoint, headers: headers, attempts: attempts, changes: true, body: body, accept: accept)
    }

    private func exchange(
        _ method: HTTPMethod, _ target: Target, _ reference: ImageReference, _ endpoint: Mirrors.Endpoint,
        headers: [(String, String)], attempts: Int, changes: Bool, body: (@Sendable () throws -> HTTPClientRequest.Body)?,
        accept: (UInt) -> Bool
    ) async throws -> (response: HTTPClientResponse, address: WebAddress) {
        let key = endpoint.key + (changes ? " push" : "")
        var attempt = 0
        var challenged = false
        while true {
            var fault: any Error = RegistryError.unreachable(host: endpoint.host, why: "no answer")
            if let seconds = limits.wait(for: endpoint.host) {
                // Jitter, so that the processes of a whole job do not come back in the same moment.
                try await Task.sleep(nanoseconds: UInt64(Double(seconds) * Double.random(in: 1...1.25) * 1e9))
                continue
            }
            attempt += 1
            do {
                let scheme = try await scheme(endpoint)
                let root = WebAddress(scheme: scheme, hostAndPort: endpoint.host, path: "/v2/\(endpoint.repository)/")
                let url: WebAddress
                switch target {
                case .path(let path): url = WebAddress(scheme: scheme, hostAndPort: endpoint.host, path: root.path + path)
                case .address(let address): url = address
                }
                var all = headers
                if let authorization = authorizations[key], url.origin == root.origin { all.append(("Authorization", authorization)) }
                let response = try await transport.send(method, url, headers: all, body: body)
                let status = response.status.code
                if accept(status) { return (response, url) }
                if status == 401, !challenged {
                    challenged = true
                    attempt -= 1
                    for try await _ in response.body {}
                    try await authorize(response, endpoint, reference, changes: changes)
                    continue
                }
                let detail = try await Self.detail(response)
                switch status {
                case 401, 403: throw RegistryError.unauthorized(reference: "\(reference)", detail: detail)
                case 404: throw RegistryError.notFound(reference: "\(reference)", detail: detail)
                case 429:
                    let seconds = response.headers.first(name: "Retry-After").flatMap(RateLimits.seconds)
                    fault = RegistryError.tooManyRequests(host: endpoint.host, retryAfter: seconds)
                    limits.note(endpoint.host, seconds: seconds ?? 1 << attempt)
                    if (seconds ?? 0) > RateLimits.patience { throw fault }
                case 408, 500, 502, 503, 504:
                    fault = RegistryError.badStatus(method: "\(method)", url: url.text, status: Int(status), detail: detail)
                default:
                    throw RegistryError.badStatus(method: "\(method)", url: url.text, status: Int(status), detail: detail)
                }
            } catch let error as TransportError {
                fault = RegistryError.unreachable(host: error.host, why: error.reason)
            }
            if attempt >= attempts { throw fault }
            try await Task.sleep(nanoseconds: 200_000_000 << UInt64(attempt * 2 - 2))
        }
    }

    /// The registry's own words for an error.
    private static func detail(_ response: HTTPClientResponse) async throws -> String {
        struct Body: Decodable {
            struct Item: Decodable {
                var code: String?
                var message: String?
            }
            var errors: [Item]?
        }
        guard let buffer = try? await response.body.collect(upTo: 64 << 10) else { return "" }
        let bytes = Data(buffer.readableBytesView)
        if let items = (try? JSONDecoder().decode(Body.self, from: bytes))?.errors {
            return items.map { [$0.code, $0.message].compactMap { $0 }.joined(separator: ": ") }.joined(separator: "; ")
        }
        return ""
    }

    // MARK: https or http

    private func scheme(_ endpoint: Mirrors.Endpoint) async throws -> String {
        if let known = schemes[endpoint.host] { return known }
        if let running = probes[endpoint.host] { return try await running.value }
        let allow = allowHTTP || endpoint.insecure
        let transport = transport
        let task = Task { try await Self.probe(endpoint.host, allowHTTP: allow, transport) }
        probes[endpoint.host] = task
        defer { probes[endpoint.host] = nil }
        let scheme = try await task.value
        schemes[endpoint.host] = scheme
        return scheme
    }

    /// Loopback registries rarely have TLS; anything else must have it unless the user says otherwise.
    private static func probe(_ host: String, allowHTTP: Bool, _ transport: HTTPTransport) async throws -> String {
        let isLoopback = HTTPTransport.isLoopback(WebAddress(scheme: "http", hostAndPort: host, path: "/").host)
        guard allowHTTP || isLoopback else { return "https" }
        let order = isLoopback ? ["http", "https"] : ["https", "http"]
        var last: any Error = RegistryError.unreachable(host: host, why: "no answer")
        for scheme in order {
            do {
                let response = try await transport.send(.GET, WebAddress(scheme: scheme, hostAndPort: host, path: "/v2/"))
                for try await _ in response.body {}
                // A TLS server answers plain http with 400.
                if scheme == "http" && response.status.code == 400 { continue }
                return scheme
            } catch { last = error }
        }
        throw last
    }

    // MARK: Authorization

    /// Asks a registry whether it takes a credential.
    /// - Parameter host: with its port, as a user writes it.
    /// - Throws: ``RegistryError/unauthorized(reference:detail:)`` where it does not.
    public func checkLogin(_ host: String) async throws {
        let endpoint = Mirrors.endpoint(host, insecure: false)
        let url = WebAddress(scheme: try await scheme(endpoint), hostAndPort: endpoint.host, path: "/v2/")
        func send(_ headers: [(String, String)]) async throws -> HTTPClientResponse {
            do { return try await transport.send(.GET, url, headers: headers) } catch let error as TransportError {
                throw RegistryError.unreachable(host: error.host, why: error.reason)
            }
        }
        var response = try await send([])
        // One that asks for no login takes any.
        if response.status.code == 401 {
            for try await _ in response.body {}
            let credential = try credentials.credential(registry: host, repository: "")
            guard let challenge = Challenge.first(in: response.headers["WWW-Authenticate"]) else {
                throw RegistryError.unauthorized(reference: host, detail: "the registry does not say how to log in")
            }
            let authorization: String
            switch (challenge.scheme, credential) {
            case (.basic, .basic(let user, let password)): authorization = Self.basic(user, password)
            default: authorization = "Bearer " + (try await token(challenge, credential, endpoint, host, scope: nil))
            }
            response = try await send([("Authorization", authorization)])
        }
        let detail = try await Self.detail(response)
        switch response.status.code {
        case ..<300: return
        case 401, 403: throw RegistryError.unauthorized(reference: host, detail: detail)
        default: throw RegistryError.badStatus(method: "GET", url: url.text, status: Int(response.status.code), detail: detail)
        }
    }

    private func authorize(
        _ response: HTTPClientResponse, _ endpoint: Mirrors.Endpoint, _ reference: ImageReference, changes: Bool
    ) async throws {
        let key = endpoint.key + (changes ? " push" : "")
        let credential = try credentials.credential(registry: endpoint.credentialKey, repository: endpoint.repository)
        if case .registryToken(let token) = credential {
            authorizations[key] = "Bearer \(token)"
            return
        }
        guard let challenge = Challenge.first(in: response.headers["WWW-Authenticate"]) else {
            throw RegistryError.unauthorized(reference: "\(reference)", detail: "the registry does not say how to log in")
        }
        switch challenge.scheme {
        case .basic:
            guard case .basic(let user, let password) = credential else {
                throw RegistryError.unauthorized(reference: "\(reference)", detail: "it asks for a user name and password")
            }
            authorizations[key] = Self.basic(user, password)
        case .bearer:
            let scope = "repository:\(endpoint.repository):" + (changes ? "pull,push" : "pull")
            authorizations[key] = "Bearer " + (try await token(challenge, credential, endpoint, "\(reference)", scope: scope))
        }
    }

    private static func basic(_ user: String, _ password: String) -> String {
        "Basic " + Data("\(user):\(password)".utf8).base64EncodedString()
    }

    private struct TokenAnswer: Decodable {
        var token: String?
        var access_token: String?
    }

    private func token(
        _ challenge: Challenge, _ credential: Credential?, _ endpoint: Mirrors.Endpoint, _ what: String, scope: String?
    ) async throws -> String {
        guard let realm = challenge.parameters["realm"], let address = WebAddress(realm) else {
            throw RegistryError.unauthorized(reference: what, detail: "its token service has no address")
        }
        guard address.scheme == "https" || schemes[endpoint.host] == "http" else {
            throw RegistryError.unauthorized(reference: what, detail: "its token service \(realm) has no TLS")
        }
        let query = [("service", challenge.parameters["service"] ?? ""), ("scope", scope ?? "")].filter { !$0.1.isEmpty }
        var headers: [(String, String)] = []
        var response: HTTPClientResponse
        if case .identityToken(let token) = credential {
            let form = query + [("grant_type", "refresh_token"), ("client_id", "singularity"), ("refresh_token", token)]
            response = try await transport.send(
                .POST, address, headers: [("Content-Type", "application/x-www-form-urlencoded")],
                body: { .bytes(ByteBuffer(bytes: Array(Self.encode(form).utf8))) })
        } else {
            if case .basic(let user, let password) = credential { headers = [("Authorization", Self.basic(user, password))] }
            let separator = address.path.contains("?") ? "&" : "?"
            let url = WebAddress(
                scheme: address.scheme, hostAndPort: address.hostAndPort, path: address.path + separator + Self.encode(query))
            response = try await transport.send(.GET, url, headers: headers)
        }
        guard response.status == .ok else {
            throw RegistryError.unauthorized(reference: what, detail: try await Self.detail(response))
        }
        let buffer = try await response.body.collect(upTo: 1 << 20)
        let answer = try? JSONDecoder().decode(TokenAnswer.self, from: Data(buffer.readableBytesView))
        guard let token = answer?.token ?? answer?.access_token, !token.isEmpty else {
            throw RegistryError.unauthorized(reference: what, detail: "its token service gave no token")
        }
        return token
    }

    private static func encode(_ pairs: [(String, String)]) -> String {
        func escape(_ text: String) -> String {
            text.utf8.map { byte in
                let character = Character(UnicodeScalar(byte))
                return byte < 128 && (character.isLetter || character.isNumber || "-._~".contains(character))
                    ? String(character) : "%" + Digest.hex([byte]).uppercased()
            }.joined()
        }
        return pairs.map { "\(escape($0.0))=\(escape($0.1))" }.joined(separator: "&")
    }
}
