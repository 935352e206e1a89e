import AsyncHTTPClient
import Glibc
import Linux
import NIOCore
import NIOHTTP1
import NIOSSL

/// Sends requests: redirects without leaking credentials, proxies, time-outs. Retrying is the caller's matter.
final class HTTPTransport: Sendable {
    private let direct: HTTPClient
    private let proxied: [String: HTTPClient]
    private let noProxy: [String]

    /// Redirects that are followed at the most.
    private static let mostRedirects = 10

    init() {
        let environment = Environment.all
        func variable(_ name: String) -> String? {
            (environment[name.lowercased()] ?? environment[name]).flatMap { $0.isEmpty ? nil : $0 }
        }
        direct = HTTPClient(eventLoopGroupProvider: .singleton, configuration: Self.configuration(proxy: nil, environment))
        var proxied: [String: HTTPClient] = [:]
        for scheme in ["http", "https"] {
            guard let address = variable("\(scheme.uppercased())_PROXY"), let proxy = Self.proxy(address) else { continue }
            proxied[scheme] = HTTPClient(
                eventLoopGroupProvider: .singleton, configuration: Self.configuration(proxy: proxy, environment))
        }
        self.proxied = proxied
        noProxy = (variable("NO_PROXY") ?? "").split(separator: ",").map { String($0).trimmed }
    }

    func shutdown() async {
        try? await direct.shutdown()
        for client in proxied.values { try? await client.shutdown() }
    }

    private static func configuration(
        proxy: HTTPClient.Configuration.Proxy?, _ environment: [String: String]
    ) -> HTTPClient.Configuration {
        var configuration = HTTPClient.Configuration(
            redirectConfiguration: .disallow,
            timeout: .init(connect: .seconds(15), read: .seconds(90)), decompression: .disabled)
        configuration.proxy = proxy
        configuration.httpVersion = .http1Only
        // Attempts are counted by the caller, who knows what is worth another one.
        configuration.connectionPool.retryConnectionEstablishment = false
        if let file = environment["SSL_CERT_FILE"], !file.isEmpty {
            var tls = TLSConfiguration.makeClientConfiguration()
            tls.trustRoots = .file(file)
            configuration.tlsConfiguration = tls
        }
        return configuration
    }

    private static func proxy(_ address: String) -> HTTPClient.Configuration.Proxy? {
        var rest = Substring(address)
        if let range = rest.range(ofScheme: "://") { rest = rest[range...] }
        let host = rest.prefix { $0 != "/" }
        guard let colon = host.lastIndex(of: ":"), let port = Int(host[host.index(after: colon)...]) else { return nil }
        return .server(host: String(host[..<colon].split(separator: "@").last ?? ""), port: port)
    }

    private func client(for url: WebAddress) -> HTTPClient {
        let host = url.host
        if Self.isLoopback(host) { return direct }
        let excluded = noProxy.contains { entry in
            entry == "*" || host == entry || host.hasSuffix(entry.hasPrefix(".") ? entry : ".\(entry)")
        }
        return excluded ? direct : proxied[url.scheme] ?? direct
    }

    static func isLoopback(_ host: String) -> Bool {
        host == "localhost" || host.hasSuffix(".localhost") || host == "[::1]" || host == "::1" || host.hasPrefix("127.")
    }

    /// One exchange; redirects of GET and HEAD are followed, and credentials never leave the host they are for.
    func send(
        _ method: HTTPMethod, _ url: WebAddress, headers: [(String, String)] = [],
        body: (@Sendable () throws -> HTTPClientRequest.Body)? = nil
    ) async throws -> HTTPClientResponse {
        var url = url
        var headers = headers
        for _ in 0...Self.mostRedirects {
            var request = HTTPClientRequest(url: url.text)
            request.method = method
            for (name, value) in headers { request.headers.replaceOrAdd(name: name, value: value) }
            request.headers.replaceOrAdd(name: "User-Agent", value: "singularity/5.0.0")
            if let body { request.body = try body() }
            let response: HTTPClientResponse
            do { response = try await client(for: url).execute(request, deadline: .distantFuture) } catch {
                throw TransportError(host: url.hostAndPort, underlying: error)
            }
            guard [301, 302, 303, 307, 308].contains(Int(response.status.code)), method == .GET || method == .HEAD,
                let location = response.headers.first(name: "Location"), let next = url.resolving(location)
            else { return response }
            for try await _ in response.body {}
            if next.origin != url.origin { headers.removeAll { $0.0.lowercased() == "authorization" } }
            if url.scheme == "https" && next.scheme == "http" && !Self.isLoopback(next.host) {
                throw RegistryError.unreachable(host: url.hostAndPort, why: "it redirects from https to http (\(next.hostAndPort))")
            }
            url = next
        }
        throw RegistryError.unreachable(host: url.hostAndPort, why: "more than \(Self.mostRedirects) redirects")
    }
}

/// A request that got no answer.
struct TransportError: Error {
    let host: String
    let underlying: any Error

    /// A sentence without the library's type names.
    var reason: String {
        let text = String(describing: underlying)
        if text.contains("ECONNREFUSED") || text.contains("connection refused") || text.contains("Connection refused") {
            return "connection refused"
        }
        if text.contains("connectTimeout") { return "no answer within 15 s" }
        if text.contains("readTimeout") { return "the registry stopped sending" }
        if text.contains("CERTIFICATE_VERIFY_FAILED") {
            return "its TLS certificate is not trusted (add its authority to the system, or name it in SSL_CERT_FILE)"
        }
        if text.contains("remoteConnectionClosed") || text.contains("uncleanShutdown") { return "the connection was dropped" }
        if text.contains("NIOConnectionError") || text.contains("SocketAddressError") || text.contains("getaddrinfo") {
            return "the name cannot be resolved or the host does not answer"
        }
        return text
    }

    /// Whether the server does not speak TLS.
    var isPlainHTTPServer: Bool { String(describing: underlying).contains("WRONG_VERSION_NUMBER") }
}

/// An http or https address, just as much of it as a registry client needs.
struct WebAddress: Sendable {
    let scheme: String
    /// Host with port where one is given.
    let hostAndPort: String
    /// From the slash on.
    let path: String

    init?(_ text: String) {
        guard let start = Substring(text).range(ofScheme: "://") else { return nil }
        scheme = String(text.prefix { $0 != ":" }).lowercased()
        guard scheme == "http" || scheme == "https" else { return nil }
        let rest = text[start...]
        hostAndPort = String(rest.prefix { $0 != "/" && $0 != "?" })
        let tail = String(rest.dropFirst(hostAndPort.count))
        path = tail.isEmpty ? "/" : tail.hasPrefix("?") ? "/\(tail)" : tail
        guard !hostAndPort.isEmpty, !hostAndPort.contains("@") else { return nil }
    }

    init(scheme: String, hostAndPort: String, path: String) {
        self.scheme = scheme
        self.hostAndPort = hostAndPort
        self.path = path
    }

    var text: String { "\(scheme)://\(hostAndPort)\(path)" }
    var origin: String { "\(scheme)://\(hostAndPort.lowercased())" }
    var host: String {
        if hostAndPort.hasPrefix("[") { return String(hostAndPort.prefix { $0 != "]" }) + "]" }
        return String(hostAndPort.prefix { $0 != ":" })
    }

    /// A `Location` header's meaning, seen from this address.
    func resolving(_ location: String) -> WebAddress? {
        if let absolute = WebAddress(location) { return absolute }
        if location.hasPrefix("//") { return WebAddress("\(scheme):\(location)") }
        if location.hasPrefix("/") { return WebAddress(scheme: scheme, hostAndPort: hostAndPort, path: location) }
        let folder = path.prefix { $0 != "?" }.split(separator: "/", omittingEmptySubsequences: false).dropLast()
        return WebAddress(scheme: scheme, hostAndPort: hostAndPort, path: (folder + [Substring(location)]).joined(separator: "/"))
    }
}

extension Substring {
    /// Where the text behind `separator` starts.
    func range(ofScheme separator: String) -> Index? {
        var index = startIndex
        while index < endIndex {
            if self[index...].hasPrefix(separator) { return self.index(index, offsetBy: separator.count) }
            index = self.index(after: index)
        }
        return nil
    }
}

extension String {
    var trimmed: String {
        var text = Substring(self)
        while let first = text.first, first.isWhitespace { text = text.dropFirst() }
        while let last = text.last, last.isWhitespace { text = text.dropLast() }
        return String(text)
    }
}
