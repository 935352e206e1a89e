import AsyncHTTPClient
import Glibc
import Linux
import NIOCore
import NIOHTTP1

/// Servers of OpenPGP keys (HKP, draft-shaw-openpgp-hkp).
public struct KeyServer: Sendable {
    private let address: WebAddress

    /// - Parameter url: `https://`, `http://`, `hkps://` or `hkp://`, whose port is 11371 where none is given.
    public init(_ url: String) throws(RegistryError) {
        var text = url
        if url.hasPrefix("hkps://") { text = "https://" + url.dropFirst(7) }
        if url.hasPrefix("hkp://") {
            text = "http://" + url.dropFirst(6)
            let host = text.dropFirst(7).prefix { $0 != "/" }
            if !host.contains(":") { text = "http://\(host):11371" + text.dropFirst(7 + host.count) }
        }
        guard let address = WebAddress(text) else {
            throw .badReference(url, why: "a key server has an address such as https://keys.openpgp.org")
        }
        self.address = address
    }

    public var name: String { "\(address.scheme)://\(address.hostAndPort)" }

    /// Bytes of an answer at the most.
    private static let largest = 16 << 20

    /// The keys of a fingerprint or key identifier, armored.
    public func get(_ digits: String) async throws -> [UInt8] {
        try await exchange(.GET, "lookup?op=get&options=mr&exact=on&search=0x\(digits)", missing: "no key 0x\(digits)")
    }

    /// Keys that a text matches, in the server's machine-readable form.
    public func index(_ text: String) async throws -> [KeyServerEntry] {
        let answer = try await exchange(
            .GET, "lookup?op=index&options=mr&fingerprint=on&search=\(PercentEncoding.encoded(text))", missing: "no key for \(text)")
        return KeyServerEntry.parse(String(decoding: answer, as: UTF8.self))
    }

    /// Hands a key over.
    /// - Parameter armored: the public key.
    public func add(_ armored: [UInt8]) async throws {
        let body = Array("keytext=\(PercentEncoding.encoded(String(decoding: armored, as: UTF8.self)))".utf8)
        _ = try await exchange(.POST, "add", body: body, missing: "it takes no keys")
    }

    private func exchange(_ method: HTTPMethod, _ request: String, body: [UInt8]? = nil, missing: String) async throws -> [UInt8] {
        let folder = address.path.hasSuffix("/") ? String(address.path.dropLast()) : address.path
        let url = WebAddress(scheme: address.scheme, hostAndPort: address.hostAndPort, path: "\(folder)/pks/\(request)")
        let headers = body == nil ? [] : [("Content-Type", "application/x-www-form-urlencoded")]
        return try await WebExchange.send(method, url, headers: headers, body: body, limit: Self.largest, missing: missing)
    }
}

/// One exchange with a server, whole.
public enum WebExchange {
    /// Sends a body to an address and returns the answer.
    public static func post(_ body: [UInt8], to url: String, contentType: String, limit: Int) async throws -> [UInt8] {
        guard let address = WebAddress(url) else { throw RegistryError.badReference(url, why: "it is not a web address") }
        return try await send(.POST, address, headers: [("Content-Type", contentType)], body: body, limit: limit, missing: "nothing there")
    }

    static func send(
        _ method: HTTPMethod, _ url: WebAddress, headers: [(String, String)], body: [UInt8]?, limit: Int, missing: String
    ) async throws -> [UInt8] {
        guard let answer = try await answer(method, url, headers: headers, body: body, limit: limit) else {
            throw RegistryError.noAnswer(host: "\(url.scheme)://\(url.hostAndPort)", why: missing)
        }
        return answer
    }

    /// - Returns: nil where nothing is there (404).
    static func answer(
        _ method: HTTPMethod, _ url: WebAddress, headers: [(String, String)] = [], body: [UInt8]? = nil, limit: Int
    ) async throws -> [UInt8]? {
        let transport = HTTPTransport()
        do {
            let response = try await transport.send(
                method, url, headers: headers, body: body.map { bytes in { @Sendable in .bytes(ByteBuffer(bytes: bytes)) } })
            guard response.status.code == 200 else {
                for try await _ in response.body {}
                if response.status.code == 404 {
                    await transport.shutdown()
                    return nil
                }
                throw RegistryError.noAnswer(host: "\(url.scheme)://\(url.hostAndPort)", why: "status \(response.status.code)")
            }
            var buffer = try await response.body.collect(upTo: limit)
            await transport.shutdown()
            return buffer.readBytes(length: buffer.readableBytes) ?? []
        } catch {
            await transport.shutdown()
            if let error = error as? TransportError { throw RegistryError.noAnswer(host: error.host, why: error.reason) }
            throw error
        }
    }
}
