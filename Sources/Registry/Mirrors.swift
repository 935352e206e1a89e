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
        /// A registry, or a part of its names; `*.example.org` for all hosts below one.
        var prefix: String
        var location: String
        var insecure: Bool
        /// The file that forbids it; nil where it may be used.
        var blockedBy: String?
        var mirrors: [Mirror]

        /// What a name has behind the prefix; nil where the rule is not about it.
        func rest(of name: String) -> Substring? {
            if prefix.hasPrefix("*.") {
                let host = name.prefix { $0 != "/" }
                return host.hasSuffix(prefix.dropFirst()) ? name.dropFirst(host.count) : nil
            }
            return name == prefix || name.hasPrefix(prefix + "/") ? name.dropFirst(prefix.count) : nil
        }
    }

    private struct Mirror: Sendable {
        var location: String
        var insecure: Bool
        /// Only for names with a digest, only for those without, or nil for all.
        var digests: Bool?
    }

    private var rules: [Rule] = []

    public init() {}

    /// Reads the user's file, or else the system's, and what the folders `registries.conf.d` add to it.
    /// - Throws: ``RegistryError/credentials(_:)`` that names a file which cannot be read.
    public init(home: String) throws(RegistryError) {
        let explicit = Environment["CONTAINERS_REGISTRIES_CONF"] ?? ""
        let folders = explicit.isEmpty ? ["/etc/containers", "\(home)/.config/containers"] : []
        let main = explicit.isEmpty ? folders.reversed().map { $0 + "/registries.conf" } : [explicit]
        var paths = Array(main.filter { Files.status($0) != nil }.prefix(1))
        for folder in folders.map({ $0 + "/registries.conf.d" }) {
            let names = ((try? Files.entries(folder)) ?? []).filter { $0.hasSuffix(".conf") }
            paths += names.sorted().map { "\(folder)/\($0)" }
        }
        for path in paths {
            let text: String
            do { text = try Files.readText(path) } catch { throw .system(error) }
            do { try parse(text, path) } catch {
                throw .credentials("the registry configuration \(path) is not valid: \(error)")
            }
        }
    }

    private mutating func parse(_ text: String, _ path: String) throws {
        let table = try TOMLTable(string: text)
        for entry in table["registry"]?.array ?? TOMLArray() {
            guard let entry = entry.table else { continue }
            let location = entry["location"]?.string ?? entry["prefix"]?.string ?? ""
            let digestsOnly = entry["mirror-by-digest-only"]?.bool == true
            rules.append(
                Rule(
                    prefix: entry["prefix"]?.string ?? location, location: location,
                    insecure: entry["insecure"]?.bool ?? false, blockedBy: entry["blocked"]?.bool == true ? path : nil,
                    mirrors: (entry["mirror"]?.array ?? TOMLArray()).compactMap { mirror in
                        guard let mirror = mirror.table, let location = mirror["location"]?.string else { return nil }
                        let digests: Bool? =
                            switch mirror["pull-from-mirror"]?.string {
                            case "digest-only": true
                            case "tag-only": false
                            default: digestsOnly ? true : nil
                            }
                        return Mirror(location: location, insecure: mirror["insecure"]?.bool ?? false, digests: digests)
                    }))
        }
    }

    /// The places to ask, in order; the registry itself is the last.
    /// - Throws: ``RegistryError/blocked(reference:by:)``
    func endpoints(for reference: ImageReference) throws(RegistryError) -> [Endpoint] {
        let own = Endpoint(
            host: reference.host, repository: reference.repository, insecure: false, credentialKey: reference.registry)
        let names = [reference.registry, reference.registry == ImageReference.dockerHub ? "docker.io" : reference.registry]
        let paths = names.map { "\($0)/\(reference.repository)" }
        var best: (rule: Rule, rest: Substring)?
        for rule in rules {
            for path in paths {
                // The longest prefix decides, of equal ones the last.
                guard let rest = rule.rest(of: path), rule.prefix.count >= best?.rule.prefix.count ?? 0 else { continue }
                best = (rule, rest)
            }
        }
        guard let best else { return [own] }
        if let file = best.rule.blockedBy { throw .blocked(reference: "\(reference)", by: file) }
        var out = best.rule.mirrors.filter { $0.digests == nil || $0.digests == (reference.digest != nil) }.map {
            Self.endpoint($0.location + best.rest, insecure: $0.insecure)
        }
        if best.rule.location == best.rule.prefix || best.rule.location.isEmpty {
            out.append(Endpoint(host: own.host, repository: own.repository, insecure: best.rule.insecure, credentialKey: own.credentialKey))
        } else {
            out.append(Self.endpoint(best.rule.location + best.rest, insecure: best.rule.insecure))
        }
        return out
    }

    /// A registry, or a repository of one, by its address.
    static func endpoint(_ location: String, insecure: Bool) -> Endpoint {
        let host = String(location.prefix { $0 != "/" })
        return Endpoint(
            host: ImageReference.isDockerHub(host) ? "registry-1.docker.io" : host, repository: String(location.dropFirst(host.count + 1)),
            insecure: insecure, credentialKey: host)
    }
}
