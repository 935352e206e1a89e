import Linux

/// A package that is installed in an image.
public struct InstalledPackage: Sendable, Hashable {
    /// Whose package database it is in; the types of package URLs.
    public enum Ecosystem: String, Sendable, CaseIterable {
        case deb, rpm, apk, alpm, pypi, conda, npm, cran
    }

    public var ecosystem: Ecosystem
    public var name: String
    public var version: String
    public var architecture: String?
    /// As the package says it; an SPDX expression where it knows of such.
    public var license: String?
    public var supplier: String?
    public var homepage: String?
    /// What its package URL needs beside: build, channel, epoch.
    public var qualifiers: [String: String] = [:]
    /// The file that told of it, from the image's root on.
    public var source: String

    public init(
        _ ecosystem: Ecosystem, name: String, version: String, architecture: String? = nil, license: String? = nil, supplier: String? = nil,
        homepage: String? = nil, source: String
    ) {
        self.ecosystem = ecosystem
        self.name = name
        self.version = version
        self.architecture = architecture
        self.license = license
        self.supplier = supplier
        self.homepage = homepage
        self.source = source
    }

    /// The package URL ("Package URL specification").
    /// - Parameter distribution: of the image, for packages of distributions.
    public func url(_ distribution: Distribution) -> String {
        var namespace: String?
        var shown = name
        var all = qualifiers
        switch ecosystem {
        case .deb, .rpm, .apk, .alpm:
            namespace = distribution.id.isEmpty ? nil : distribution.id
            if let architecture { all["arch"] = architecture }
            if ecosystem != .alpm, !distribution.id.isEmpty {
                all["distro"] = distribution.version.isEmpty ? distribution.id : "\(distribution.id)-\(distribution.version)"
            }
        // Names of Python packages are the same whatever their case and separators (PEP 503).
        case .pypi: shown = String(name.lowercased().map { "._".contains($0) ? "-" : $0 })
        case .npm:
            if name.hasPrefix("@"), let slash = name.firstIndex(of: "/") {
                namespace = String(name[..<slash])
                shown = String(name[name.index(after: slash)...])
            }
        case .conda, .cran: break
        }
        var url = "pkg:\(ecosystem.rawValue)/"
        if let namespace { url += Self.encoded(namespace) + "/" }
        url += "\(Self.encoded(shown))@\(Self.encoded(version))"
        let tail = all.sorted { $0.key < $1.key }.map { "\($0.key)=\(Self.encoded($0.value))" }.joined(separator: "&")
        return tail.isEmpty ? url : "\(url)?\(tail)"
    }

    private static func encoded(_ text: String) -> String { PercentEncoding.encoded(text, keeping: ":") }
}

/// The distribution that an image is made of (os-release(5)).
public struct Distribution: Sendable, Equatable {
    /// `ID` and `VERSION_ID`; empty where there are none.
    public var id = ""
    public var version = ""
    public var name = ""

    public init() {}

    init(osRelease text: String) {
        for line in text.split(whereSeparator: \.isNewline) {
            guard let equals = line.firstIndex(of: "=") else { continue }
            let value = line[line.index(after: equals)...].filter { $0 != "\"" && $0 != "'" }
            switch line[..<equals] {
            case "ID": id = value
            case "VERSION_ID": version = value
            case "PRETTY_NAME": name = value
            default: break
            }
        }
    }
}
