import Linux
import TOMLKit

/// Where else the images of a registry can be had (containers-registries.conf(5), version 2).
public struct Mirrors: Sendable {
    struct Endpoint: Sendable {
        var host: String
        var repository: String
        var insecure: Bool
        /// What credentials are looked up under.
        var credentialKey: String
        var key: String { "\(host)/\(repository)" }
    }

    private struct Rule: Sendable {
        var prefix: String
        var location: String
        var insecure: Bool
        var blocked: Bool
        var mirrors: [(location: String, insecure: Bool)]
    }

    private var rules: [Rule] = []

    public init() {}

    /// Reads the user's file, or else the system's.
    /// - Throws: ``RegistryError/credentials(_:)`` that names a file which cannot be read.
    public init(home: String) throws(RegistryError) {
        let candidates = [
            Environment["CONTAINERS_REGISTRIES_CONF"] ?? "", "\(home)/.config/containers/registries.conf",
            "/etc/containers/registries.conf",
        ]
        guard let path = candidates.first(where: { !$0.isEmpty && Files.status($0) != nil }) else { return }
        let text: String
        do { text = try Files.readText(path) } catch { throw .system(error) }
        do { try parse(text) } catch {
            throw .credentials("the registry configuration \(path) is not valid: \(error)")
        }
    }

    /// - Throws: the parser's error.
    init(parsing text: String) throws { try parse(text) }

    private mutating func parse(_ text: String) throws {
        let table = try TOMLTable(string: text)
        for entry in table["registry"]?.array ?? TOMLArray() {
            guard let entry = entry.table else { continue }
            let location = entry["location"]?.string ?? entry["prefix"]?.string ?? ""
            rules.append(
                Rule(
                    prefix: entry["prefix"]?.string ?? location, location: location,
                    insecure: entry["insecure"]?.bool ?? false, blocked: entry["blocked"]?.bool ?? false,
                    mirrors: (entry["mirror"]?.array ?? TOMLArray()).compactMap { mirror in
                        guard let mirror = mirror.table, let location = mirror["location"]?.string else { return nil }
                        return (location, mirror["insecure"]?.bool ?? false)
                    }))
        }
    }

    /// The places to ask, in order; the registry itself is the last.
    func endpoints(for reference: ImageReference) -> [Endpoint] {
        let own = Endpoint(
            host: reference.host, repository: reference.repository, insecure: false, credentialKey: reference.registry)
        let names = [reference.registry, reference.registry == ImageReference.dockerHub ? "docker.io" : reference.registry]
        let paths = names.map { "\($0)/\(reference.repository)" }
        var best: (rule: Rule, rest: String)?
        for rule in rules {
            for path in paths where path == rule.prefix || path.hasPrefix(rule.prefix + "/") {
                if rule.prefix.count > best?.rule.prefix.count ?? -1 {
                    best = (rule, String(path.dropFirst(rule.prefix.count)))
                }
            }
        }
        guard let best else { return [own] }
        var out = best.rule.mirrors.map { Self.endpoint($0.location + best.rest, insecure: $0.insecure) }
        if best.rule.location == best.rule.prefix || best.rule.location.isEmpty {
            out.append(Endpoint(host: own.host, repository: own.repository, insecure: best.rule.insecure, credentialKey: own.credentialKey))
        } else {
            out.append(Self.endpoint(best.rule.location + best.rest, insecure: best.rule.insecure))
        }
        return out
    }

    private static func endpoint(_ location: String, insecure: Bool) -> Endpoint {
        let host = String(location.prefix { $0 != "/" })
        let isHub = host == "docker.io" || host == ImageReference.dockerHub
        return Endpoint(
            host: isHub ? "registry-1.docker.io" : host, repository: String(location.dropFirst(host.count + 1)),
            insecure: insecure, credentialKey: host)
    }
}
