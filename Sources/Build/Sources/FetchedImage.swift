import Linux
import Registry

/// Image files of registries, libraries and web servers, in the cache.
enum FetchedImage {
    /// - Returns: where the file is, and what names its content.
    static func path(
        of source: ImageSource, _ options: FetchOptions, observer: any PullObserver
    ) throws -> (path: String, identity: String) {
        switch source {
        case .oras(let name):
            let reference = try ImageReference(name)
            // Run straight from the cache, where nobody else can change it later.
            let cache = try BlobCache(options.cacheFolder)
            let client = try options.registryClient()
            let (path, digest) = try Blocking.run {
                try await client.fetchSIF(reference, cache: cache, options: options.pull, observer: observer)
            }
            return (path, "\(digest)")
        case .library(let name):
            guard let library = options.library else {
                throw BuildError.badSource(
                    "library://\(name)",
                    why: "no container library is set: name one with --library, SINGULARITY_LIBRARY or a line \"Library:\"")
            }
            let reference = name.contains(":") ? name : name + ":latest"
            let base = library.hasSuffix("/") ? String(library.dropLast()) : library
            let url = "\(base)/v1/imagefile/\(reference)?arch=\(options.pull.platform.architecture)"
            return try web(url, options, observer)
        case .web(let url): return try web(url, options, observer)
        default: throw BuildError.refused("\(source.name) is not an image file")
        }
    }

    private static func web(_ url: String, _ options: FetchOptions, _ observer: any PullObserver) throws -> (String, String) {
        let file = try WebFile(url, folder: options.cacheFolder + "/../net")
        let path = try Blocking.run { try await file.fetch(offline: options.pull.offline, observer: observer) }
        return (path, "sha256:" + (try FileDigests(folder: options.cacheFolder + "/../build/digests").digest(of: path)))
    }
}
