import CLinux
import Glibc
import Linux

/// What package managers have downloaded in the sections of one recipe, kept for its next build.
///
/// A section sees each package where its manager would have put it, as a symbolic link into this directory, which it cannot
/// change. What it downloads is taken over when it has ended. Neither stays in the image. Recipes share nothing: of what apt finds
/// in its cache it checks the size alone, and so one recipe could give another what it likes.
public struct PackageStore: Sendable {
    /// A directory of the host, with the packages at their paths in the container.
    public let folder: String

    public init(_ folder: String) { self.folder = folder }

    /// Where containers see it while a section runs.
    static let place = "/.singularity.packages"

    /// The paths of all packages, without the slash at the beginning.
    var packages: [String] { Self.files(folder) }

    private static func files(_ folder: String) -> [String] {
        var paths: [String] = []
        func add(_ path: String) {
            for name in (try? Files.entries("\(folder)/\(path)")) ?? [] {
                let full = path.isEmpty ? name : "\(path)/\(name)"
                guard let status = Files.status("\(folder)/\(full)", followLinks: false) else { continue }
                if status.st_mode & S_IFMT == S_IFDIR { add(full) }
                if status.st_mode & S_IFMT == S_IFREG { paths.append(full) }
            }
        }
        add("")
        return paths
    }

    // MARK: In the container

    /// Shows the packages to a section, before it begins.
    /// - Parameters:
    ///   - root: the container's root directory, writable.
    ///   - binds: what covers a place; who binds a cache of his own has no use for this one.
    func offer(in root: borrowing OwnedDescriptor, besides binds: [BindSpec]) throws(SystemError) {
        for package in packages where PackagePlace.takes(package) {
            guard let slash = package.lastIndex(of: "/"), !binds.contains(where: { "/\(package)".hasPrefix($0.destination + "/") }) else {
                continue
            }
            let parent = try SectionRoot.makeFolder(String(package[..<slash]), in: root.rawValue)
            // One that the image has is left to it.
            _ = symlinkat("\(Self.place)/\(package)", parent.rawValue, String(package[package.index(after: slash)...]))
        }
    }

    /// Takes packages out of the container that this process sees, those that were offered and those that were downloaded. What a
    /// link or a mount in their place leads to is left as it is.
    func remove() {
        guard let root = try? OwnedDescriptor.open("/", O_RDONLY | O_DIRECTORY) else { return }
        for place in PackagePlace.all { remove(in: place.folder, place, root) }
        // What was made for the links, as far as nothing else is in it.
        for package in packages {
            var path = package[...]
            while let slash = path.lastIndex(of: "/") {
                path = path[..<slash]
                guard let place = PackagePlace.of(String(path)), place.folder != path else { break }
                if unlinkat(root.rawValue, String(path), AT_REMOVEDIR) != 0 { break }
            }
        }
    }

    private func remove(in path: String, _ place: PackagePlace, _ root: borrowing OwnedDescriptor) {
        guard let folder = try? Files.open(beneath: root.rawValue, path, O_RDONLY | O_DIRECTORY) else { return }
        for name in (try? Files.entries("/proc/self/fd/\(folder.rawValue)")) ?? [] {
            var status = stat()
            guard fstatat(folder.rawValue, name, &status, AT_SYMLINK_NOFOLLOW) == 0 else { continue }
            let full = "\(path)/\(name)"
            switch status.st_mode & S_IFMT {
            case S_IFDIR:
                remove(in: full, place, root)
                // pip keeps nothing but packages, in directories that mean nothing.
                if place.endings.isEmpty { unlinkat(folder.rawValue, name, AT_REMOVEDIR) }
            case S_IFREG, S_IFLNK: if PackagePlace.takes(full) { unlinkat(folder.rawValue, name, 0) }
            default: break
            }
        }
    }

    // MARK: After a section

    /// Takes over what a section has downloaded.
    /// - Parameters:
    ///   - packages: names in `hold` by paths, as ``PackageWatch`` has made them.
    ///   - hold: the directory of these names.
    func collect(_ packages: [String: String], from hold: borrowing OwnedDescriptor) {
        for (package, name) in packages {
            let target = "\(folder)/\(package)"
            let raw = openat(hold.rawValue, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
            guard raw >= 0 else { continue }
            let file = OwnedDescriptor(raw)
            guard let status = try? Files.status(raw, name: package), status.st_mode & S_IFMT == S_IFREG,
                let slash = target.lastIndex(of: "/"), (try? Files.makeDirectories(String(target[..<slash]))) != nil
            else { continue }
            // apt downloads as another user.
            fchown(file.rawValue, 0, 0)
            fchmod(file.rawValue, 0o644)
            fremovexattr(file.rawValue, OwnerRecord.attribute)
            futimens(file.rawValue, nil)
            if renameat(hold.rawValue, name, AT_FDCWD, target) == 0 { continue }
            if errno == EXDEV { try? Files.copy("/proc/self/fd/\(file.rawValue)", to: target, mode: 0o644) }
        }
    }

    /// Keeps the stores of all recipes below a limit; what was downloaded longest ago goes first.
    /// - Parameter limit: bytes.
    public static func shrink(_ root: String, limit: UInt64) {
        let packages = files(root).filter { $0.contains("/") }.compactMap { path -> (path: String, status: stat)? in
            Files.status("\(root)/\(path)", followLinks: false).map { ("\(root)/\(path)", $0) }
        }
        var total = packages.reduce(0) { $0 + UInt64($1.status.st_size) }
        for (path, status) in packages.sorted(by: { $0.status.st_mtim.tv_sec < $1.status.st_mtim.tv_sec }) where total > limit {
            if unlink(path) == 0 { total -= UInt64(status.st_size) }
        }
    }
}
