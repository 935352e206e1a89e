import Definition
import Linux
import Runtime
import SquashFS
import Trust

/// How a build is done, as the user said it.
public struct BuildOptions: Sendable {
    public var image: ImageOptions
    /// Compressor, level or block size were asked for; otherwise those of a base image are kept, whose blocks can then
    /// be taken over as they are.
    public var hasWriterOptions: Bool
    public var fetch: FetchOptions
    /// Images made of addresses.
    public var convertedFolder: String
    public var layers: LayerCache
    /// For changes of sections while they run.
    public var temporaryFolder: String
    /// Names of `--section`; nil for all.
    public var sections: Set<String>?
    /// The source is data, not a container: nothing is added to it.
    public var isData = false
    public var runsTests = true
    public var usesLayerCache = true
    /// Nothing of what is downloaded or made is kept (`--disable-cache`).
    public var keepsNothing = false
    /// The stage in which a section failed is kept in a directory.
    public var keepsFailed = false
    /// A shell in the stage in which a section failed.
    public var shellOnError = false
    /// Labels and help of the base are replaced.
    public var force = false
    public var binds: [BindSpec] = []
    /// Drivers that sections and tests see (`--nv`, `--rocm`).
    public var drivers = DriverBinds()
    public var ignoresRanges = false
    /// Where packages that sections download are kept for the next build; nil where they are not.
    public var packageFolder: String?
    /// Makes all of a sandbox readable and writable for its owner.
    public var fixesPermissions = false
    public var showsPrefix = false
    /// When what sections make gets the time of the first base, where SOURCE_DATE_EPOCH names no other.
    public enum Reproducibility: Sendable {
        case never
        /// Where the recipe names all its bases by digest.
        case ofPinnedRecipes
        case always
    }

    public var reproducibility = Reproducibility.never
    /// What sections print is kept in the image although its times are set back.
    var keepsLog = false
    /// What signatures of bases are checked with.
    public var keyring: Keyring?
    /// For a base that is encrypted.
    public var sourceKeys = ImageKeys.none
    /// Events as JSON lines on standard output.
    public var reportsJSON = false

    public init(
        image: ImageOptions, hasWriterOptions: Bool, fetch: FetchOptions, convertedFolder: String, layers: LayerCache,
        temporaryFolder: String
    ) {
        self.image = image
        self.hasWriterOptions = hasWriterOptions
        self.fetch = fetch
        self.convertedFolder = convertedFolder
        self.layers = layers
        self.temporaryFolder = temporaryFolder
    }

    /// What is known of sandboxes.
    var originFolder: String { layers.folder + "/sandboxes" }

    func runs(_ kind: Section.Kind) -> Bool {
        guard let sections, !sections.contains("all") else { return true }
        return sections.contains(kind.rawValue)
    }
}
