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

    /// - Parameter given: a directory to take, nil for any.
    init(isUserNamespace: Bool, place given: String? = nil) throws(SystemError) {
        self.isUserNamespace = isUserNamespace
        guard let place = given ?? Self.places.first(where: Files.isDirectory) else {
            throw SystemError(
                "find a directory to put the container together in (tried \(Self.places.joined(separator: ", ")))", errno: ENOENT)
        }
        try Mounting.mount("tmpfs", source: "singularity", on: place, flags: [.noSuid, .noDev], options: "mode=0755")
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

    /// Lays the layer over the image.
    func mountOverlay(_ layer: LaunchPlan.RootLayer) throws(SystemError) {
        var options = "lowerdir=\(Self.layer):\(Self.image)"
        var flags: MountFlags = [.noSuid, .noDev]
        if layer == .writableTmpfs {
            for name in [Self.upper, Self.work] { try Self.makeDirectory(name, mode: 0o755) }
            options += ",upperdir=\(Self.upper),workdir=\(Self.work)"
        } else {
            flags.insert(.readOnly)
        }
        // In a user namespace the overlay may not use trusted extended attributes.
        if isUserNamespace { options += ",userxattr" }
        try Mounting.mount("overlay", source: "overlay", on: Self.root, flags: flags, options: options)
    }
}
