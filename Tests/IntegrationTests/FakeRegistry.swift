import Crypto
import Foundation

/// A registry on loopback that misbehaves as it is told to (OCI distribution specification, pull).
///
/// `@unchecked Sendable`: all state is behind ``lock``.
final class FakeRegistry: @unchecked Sendable {
    struct Request: Sendable {
        var method: String
        var path: String
        var headers: [String: String]
    }

    struct Response: Sendable {
        var status = 200
        var headers: [String: String] = [:]
        var body: [UInt8] = []
        /// The connection breaks after so many bytes of the body.
        var breaksAfter: Int?
    }

    private let listener: CInt
    let port: UInt16
    private let lock = NSLock()
    private var blobs: [String: [UInt8]] = [:]
    private var manifests: [String: (type: String, body: [UInt8])] = [:]
    private var log: [Request] = []
    private var hook: (@Sendable (Request) -> Response?)?
    private var rate: Int?

    var address: String { "127.0.0.1:\(port)" }

    init() throws {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let bound = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, length) == 0 && getsockname(descriptor, $0, &length) == 0
            }
        }
        guard bound, listen(descriptor, 64) == 0 else { throw CocoaError(.fileReadUnknown) }
        listener = descriptor
        port = UInt16(bigEndian: address.sin_port)
        let thread = Thread { [self] in accept() }
        thread.start()
    }

    func stop() {
        shutdown(listener, Int32(SHUT_RDWR))
        close(listener)
    }

    /// What was asked so far.
    var requests: [Request] { lock.withLock { log } }

    /// Answers first; nil leaves the request to the registry.
    func answer(_ hook: @escaping @Sendable (Request) -> Response?) { lock.withLock { self.hook = hook } }

    /// Sends no more than so many bytes a second on each connection.
    func limit(to rate: Int) { lock.withLock { self.rate = rate } }

    static func digest(_ bytes: [UInt8]) -> String { "sha256:" + SHA256.hash(data: bytes).map { String(format: "%02x", $0) }.joined() }

    @discardableResult
    func add(blob: [UInt8]) -> String {
        let digest = Self.digest(blob)
        lock.withLock { blobs[digest] = blob }
        return digest
    }

    @discardableResult
    func add(manifest: [UInt8], type: String, tag: String, repository: String = "image") -> String {
        let digest = Self.digest(manifest)
        lock.withLock {
            manifests["\(repository)/\(tag)"] = (type, manifest)
            manifests["\(repository)/\(digest)"] = (type, manifest)
        }
        return digest
    }

    /// Adds an image.
    /// - Parameter layers: plain tars; each becomes a layer of the media type that `mediaType` gives.
    /// - Returns: the manifest's digest.
    @discardableResult
    func add(
        layers: [[UInt8]], tag: String = "latest", mediaType: String = "application/vnd.oci.image.layer.v1.tar",
        configuration: [String: Any] = [:], size: Int? = nil
    ) throws -> String {
        let descriptors = layers.map { layer -> [String: Any] in
            ["mediaType": mediaType, "digest": add(blob: layer), "size": size ?? layer.count]
        }
        let config: [String: Any] = [
            "architecture": "amd64", "os": "linux", "config": configuration,
            "rootfs": ["type": "layers", "diff_ids": layers.map(Self.digest)],
        ]
        let configBytes = [UInt8](try JSONSerialization.data(withJSONObject: config, options: .sortedKeys))
        let manifest: [String: Any] = [
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": [
                "mediaType": "application/vnd.oci.image.config.v1+json", "digest": add(blob: configBytes), "size": configBytes.count,
            ], "layers": descriptors,
        ]
        let bytes = [UInt8](try JSONSerialization.data(withJSONObject: manifest, options: .sortedKeys))
        return add(manifest: bytes, type: "application/vnd.oci.image.manifest.v1+json", tag: tag)
    }

    // MARK: Serving

    private func accept() {
        while true {
            let connection = Glibc.accept(listener, nil, nil)
            if connection < 0 { return }
            let thread = Thread { [self] in
                serve(connection)
                close(connection)
            }
            thread.start()
        }
    }

    private func serve(_ connection: CInt) {
        var pending: [UInt8] = []
        while let request = Self.readRequest(connection, &pending) {
            let response =
                lock.withLock { () -> Response? in
                    log.append(request)
                    return hook?(request)
                } ?? standard(request)
            var head = "HTTP/1.1 \(response.status) X\r\nContent-Length: \(response.body.count)\r\n"
            for (name, value) in response.headers { head += "\(name): \(value)\r\n" }
            var bytes = Array((head + "\r\n").utf8)
            if request.method != "HEAD" { bytes += response.body.prefix(response.breaksAfter ?? .max) }
            let rate = lock.withLock { self.rate }
            let piece = rate.map { max($0 / 50, 1) } ?? .max
            var done = 0
            while done < bytes.count {
                let count = bytes[done...].withUnsafeBytes { send(connection, $0.baseAddress, min($0.count, piece), Int32(MSG_NOSIGNAL)) }
                if count <= 0 { return }
                done += count
                if rate != nil { usleep(20_000) }
            }
            if response.breaksAfter != nil { return }
        }
    }

    private static func readRequest(_ connection: CInt, _ pending: inout [UInt8]) -> Request? {
        while true {
            let text = String(decoding: pending, as: UTF8.self)
            if let end = text.range(of: "\r\n\r\n") {
                let lines = text[..<end.lowerBound].components(separatedBy: "\r\n")
                pending.removeFirst(text[..<end.upperBound].utf8.count)
                let words = lines[0].split(separator: " ").map(String.init)
                var headers: [String: String] = [:]
                for line in lines.dropFirst() {
                    guard let colon = line.firstIndex(of: ":") else { continue }
                    headers[line[..<colon].lowercased()] = line[line.index(after: colon)...].trimmingCharacters(in: .whitespaces)
                }
                return Request(method: words[0], path: words.count > 1 ? words[1] : "", headers: headers)
            }
            var buffer = [UInt8](repeating: 0, count: 16 << 10)
            let count = recv(connection, &buffer, buffer.count, 0)
            if count <= 0 { return nil }
            pending += buffer[..<count]
        }
    }

    /// What a registry without faults answers.
    func standard(_ request: Request) -> Response {
        let parts = request.path.split(separator: "/").map(String.init)
        guard parts.first == "v2" else { return Response(status: 404) }
        if parts.count == 1 { return Response(body: Array("{}".utf8)) }
        guard parts.count >= 4, let name = parts.last else { return Response(status: 404) }
        let repository = parts[1..<(parts.count - 2)].joined(separator: "/")
        return lock.withLock {
            if parts[parts.count - 2] == "manifests" {
                guard let found = manifests["\(repository)/\(name)"] else {
                    return Response(
                        status: 404, body: Array(#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#.utf8))
                }
                return Response(headers: ["Content-Type": found.type, "Docker-Content-Digest": Self.digest(found.body)], body: found.body)
            }
            guard let blob = blobs[name] else { return Response(status: 404) }
            if let range = request.headers["range"], let start = Int(range.dropFirst("bytes=".count).prefix { $0.isNumber }),
                start < blob.count
            {
                return Response(
                    status: 206, headers: ["Content-Range": "bytes \(start)-\(blob.count - 1)/\(blob.count)"], body: Array(blob[start...]))
            }
            return Response(headers: ["Content-Type": "application/octet-stream"], body: blob)
        }
    }
}
