import Glibc
import Linux

/// The private directory that a container is put together in: a tmpfs that only its mount namespace sees.
///
/// All paths are relative to it, and it is the working directory from ``init()`` until the root is changed.
struct Session {
    static let layer = "layer"
    static let image = "image"
    static let root = "root"
    static let devices = "dev"
    private static let upper = "upper"
    private static let work = "work"

    private let isUserNamespace: Bool

    /// Where it may be: any directory will do, as what it covers is of no use any more.
    static let places = ["/tmp", "/var/tmp", "/mnt", "/srv", "/opt", "/var"]

    /// - Parameters:
    ///   - given: a directory to take, nil for any.
    ///   - size: bytes that it may hold, nil for the kernel's own limit.
    init(isUserNamespace: Bool, place given: String? = nil, size: UInt64? = nil) throws(SystemError) {
        self.isUserNamespace = isUserNamespace
        guard let place = given ?? Self.places.first(where: Files.isDirectory) else {
            throw SystemError(
                "find a directory to put the container together in (tried \(Self.places.joined(separator: ", ")))", errno: ENOENT)
        }
        try Mounting.mount(
            "tmpfs", source: "singularity", on: place, flags: [.noSuid, .noDev], options: "mode=0755" + (size.map { ",size=\($0)" } ?? ""))
        guard chdir(place) == 0 else { throw .last("chdir \(place)") }
        umask(0)
        for name in [Self.layer, Self.image, Self.root, Self.devices] { try Self.makeDirectory(name, mode: 0o755) }
    }

    static func makeDirectory(_ path: String, mode: mode_t) throws(SystemError) {
        guard mkdir(path, mode) == 0 || errno == EEXIST else { throw .last("mkdir \(path)") }
        // The mode of mkdir(2) has no sticky bit on all systems, and an existing directory has another mode.
        guard chmod(path, mode) == 0 else { throw .last("chmod \(path)") }
    }

    /// Fills the throw-away layer.
    func write(_ layer: SessionLayer) throws(SystemError) {
        try Self.makeDirectory(Self.layer, mode: mode_t(layer.rootMode))
        for entry in layer.entries {
            let path = Self.layer + "/" + entry.path.joined(separator: "/")
            switch entry.content {
            case .directory(let mode): try Self.makeDirectory(path, mode: mode_t(mode | 0o700))
            case .file(let bytes): try Self.writeFile(path, bytes)
            }
        }
    }

    static func writeFile(_ path: String, _ bytes: [UInt8]) throws(SystemError) {
        let file = try OwnedDescriptor.open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, mode: 0o644)
        try Files.writeAll(bytes, to: file.rawValue, name: path)
    }

    /// Directory of the overlay with a number.
    static func overlay(_ number: Int) -> String { "overlay\(number)" }

    /// Directory of the data image with a number.
    static func data(_ number: Int) -> String { "data\(number)" }

    /// What is laid over the image.
    struct Layers {
        /// Directories, the topmost first.
        var lowers: [String]
        /// The directories of changes and of the kernel's work; nil where nothing can be changed.
        var upper: (changes: String, work: String)?
    }

    /// Directories for changes in memory.
    func memoryUpper() throws(SystemError) -> (changes: String, work: String) {
        for name in [Self.upper, Self.work] { try Self.makeDirectory(name, mode: 0o755) }
        return (Self.upper, Self.work)
    }

    /// Lays layers over each other with the kernel's overlay file system.
    func mountOverlay(_ layers: Layers, allowsSetuid: Bool) throws(SystemError) {
        var options = "lowerdir=\(layers.lowers.joined(separator: ":"))"
        var flags: MountFlags = allowsSetuid ? [.noDev] : [.noSuid, .noDev]
        if let upper = layers.upper {
            options += ",upperdir=\(upper.changes),workdir=\(upper.work)"
        } else {
            flags.insert(.readOnly)
        }
        // In a user namespace the overlay may not use trusted extended attributes.
        if isUserNamespace { options += ",userxattr" }
        try Mounting.mount("overlay", source: "overlay", on: Self.root, flags: flags, options: options)
    }

    /// The same with the program fuse-overlayfs.
    func mountFuseOverlay(_ layers: Layers, withoutACLs: Bool) throws(SystemError) {
        guard let program = FuseOverlay.program else {
            throw SystemError("find fuse-overlayfs (Debian's package of that name)", errno: ENOENT)
        }
        var upper = layers.upper
        if upper == nil { upper = try memoryUpper() }
        guard let upper else { return }
        let changes = try OwnedDescriptor.open(upper.changes, O_RDONLY | O_DIRECTORY)
        let work = try OwnedDescriptor.open(upper.work, O_RDONLY | O_DIRECTORY)
        try FuseOverlay.mount(
            program, lowers: layers.lowers, upper: changes.rawValue, work: work.rawValue, on: Self.root, isReadOnly: layers.upper == nil,
            diesWithParent: false, withoutACLs: withoutACLs)
    }
}
