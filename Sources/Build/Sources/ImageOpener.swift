import Glibc
import ImageTree
import Linux
import Registry
import SquashFS

/// How sources are looked for.
public struct FetchOptions: Sendable {
    public var pull: PullOptions
    public var credentials: CredentialStore
    public var allowHTTP: Bool
    /// Where downloads are kept.
    public var cacheFolder: String
    public var home: String
    /// Downloads that the users of a site share; nil for none.
    public var siteFolder: String?
    /// Address of the container library; nil for none.
    public var library: String?

    public init(pull: PullOptions, credentials: CredentialStore, allowHTTP: Bool, cacheFolder: String, home: String) {
        self.pull = pull
        self.credentials = credentials
        self.allowHTTP = allowHTTP
        self.cacheFolder = cacheFolder
        self.home = home
    }
}

extension FetchOptions {
    func registryClient() throws -> RegistryClient {
        RegistryClient(credentials: credentials, allowHTTP: allowHTTP, mirrors: try Mirrors(home: home), cacheFolder: cacheFolder)
    }

    /// The user's cache, with the site's behind it.
    func blobCache() throws -> BlobCache { try BlobCache(cacheFolder, site: siteFolder.map { SiteStore($0) }) }
}

/// Finds the image that a source names.
public enum ImageOpener {
    public static func open(_ source: ImageSource, _ options: FetchOptions, observer: any PullObserver) throws -> OCIImage {
        switch source {
        case .docker(let name): return try registryImage(name, options, observer)
        case .ociLayout(let name): return try OCILayout.open(name, agent: "oci", platform: options.pull.platform)
        case .ociArchive(let name): return try OCIArchive.open(name, platform: options.pull.platform)
        case .dockerArchive(let name): return try DockerArchive.open(name, platform: options.pull.platform)
        case .dockerDaemon(let name): return try DockerDaemon.open(name, options)
        case .unsupported(let scheme):
            throw BuildError.refused(
                "Unsupported transport type: \(scheme); there are docker://, oci:, oci-archive:, docker-archive:, docker-daemon:, oras://, library:// and http(s)://"
            )
        case .oras(let name), .library(let name), .web(let name): throw BuildError.refused("\(name) is an image file, not layers")
        case .path(let path):
            throw BuildError.badSource(path, why: "it is not an image address (docker://, oci:, oci-archive:, docker-archive:)")
        }
    }

    private static func registryImage(
        _ name: String, _ options: FetchOptions, _ observer: any PullObserver
    ) throws -> OCIImage {
        let reference = try ImageReference(name)
        let cache = try options.blobCache()
        let client = try options.registryClient()
        let image = try Blocking.run {
            try await client.open(reference, cache: cache, options: options.pull, observer: observer)
        }
        return OCIImage(
            agent: "docker", from: name, configuration: image.configuration, platform: image.platform,
            layers: image.layerSources)
    }
}
