import Linux

/// Why something could not be had from a registry. Each sentence names the image or address and says what to do.
public enum RegistryError: Error, CustomStringConvertible {
    case badReference(String, why: String)
    case unreachable(host: String, why: String)
    /// A server that is no registry: of keys, or of states of certificates.
    case noAnswer(host: String, why: String)
    case unauthorized(reference: String, detail: String)
    case notFound(reference: String, detail: String)
    case tooManyRequests(host: String, retryAfter: Int?)
    case badStatus(method: String, url: String, status: Int, detail: String)
    case digestMismatch(what: String, expected: String, found: String)
    case sizeMismatch(what: String, expected: Int64, found: Int64)
    case badDocument(what: String, why: String)
    case noPlatform(wanted: String, reference: String, available: [String])
    case offline(String)
    /// A configuration file forbids the registry.
    case blocked(reference: String, by: String)
    case credentials(String)
    case system(SystemError)

    public var description: String {
        switch self {
        case .badReference(let text, let why): "invalid image reference \"\(text)\": \(why)"
        case .unreachable(let host, let why):
            "could not reach the registry \(host): \(why); check the name, the network and the proxy settings, and use --no-https for a registry without TLS"
        case .noAnswer(let host, let why):
            "the server \(host) gives no answer: \(why); check its address, the network and the proxy settings"
        case .unauthorized(let reference, let detail):
            "access to \(reference) was refused\(Self.detail(detail)): check the name, or log in (`singularity registry login`, `docker login`, --docker-login, SINGULARITY_DOCKER_USERNAME and SINGULARITY_DOCKER_PASSWORD, --authfile)"
        case .notFound(let reference, let detail): "\(reference) was not found\(Self.detail(detail)): check its name and tag"
        case .tooManyRequests(let host, let seconds):
            "the registry \(host) refuses more requests for now (429)\(seconds.map { ", it asks to wait \($0) s" } ?? ""): log in for a higher limit, or try later"
        case .badStatus(let method, let url, let status, let detail):
            "\(method) \(url): the registry answered \(status)\(Self.detail(detail))"
        case .digestMismatch(let what, let expected, let found):
            "\(what) is not what its digest says: \(expected) was expected, \(found) was received; the download was thrown away"
        case .sizeMismatch(let what, let expected, let found):
            "\(what) has \(found) bytes where its manifest says \(expected); the download was thrown away"
        case .badDocument(let what, let why): "\(what) cannot be used: \(why)"
        case .noPlatform(let wanted, let reference, let available):
            "no child with platform \(wanted) in index \(reference); it has \(available.joined(separator: ", ")): choose one with --platform or --arch"
        case .offline(let what): "\(what) is not in the cache and --offline forbids to ask the network: pull it once without --offline"
        case .blocked(let reference, let file):
            "\(reference) may not be fetched: \(file) blocks its registry (blocked = true); take an image from another one, or ask who keeps the file"
        case .credentials(let why): why
        case .system(let error): "\(error)"
        }
    }

    private static func detail(_ text: String) -> String { text.isEmpty ? "" : " (\(text))" }
}
