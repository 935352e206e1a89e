import Glibc
import Linux
import Messages

/// The mounts of a plan, made while the host's files are in reach and attached when only the container's are.
struct PreparedMounts {
    private final class Item {
        let plan: PlannedMount
        /// Nil where it could not be made, or has been attached.
        var tree: DetachedMount?
        init(_ plan: PlannedMount, _ tree: consuming DetachedMount?) {
            self.plan = plan
            self.tree = tree
        }
    }

    private var items: [Item] = []
    private let log: Log

    /// Copies what the binds show. Nothing of the session exists yet, so no bind can show it.
    init(_ mounts: [PlannedMount], _ log: Log) throws(RuntimeError) {
        self.log = log
        for mount in mounts { items.append(Item(mount, try Self.tree(mount, log))) }
    }

    /// Whether what each mount shows is a directory.
    /// - Parameter images: tells it of a path in a data image.
    static func areDirectories(_ mounts: [PlannedMount], images: (Int, String) -> Bool = { _, _ in true }) -> [Bool] {
        mounts.map { mount in
            switch mount.kind {
            case .bind(let source, _): Files.isDirectory(source)
            case .image(let number, let path, _): images(number, path)
            default: true
            }
        }
    }

    private static func tree(_ mount: PlannedMount, _ log: Log) throws(RuntimeError) -> DetachedMount? {
        do throws(SystemError) {
            switch mount.kind {
            case .bind(let source, let readOnly):
                let tree = try DetachedMount(copyOf: source, recursive: true)
                try restrict(tree, source, readOnly: readOnly)
                return tree
            case .workFolder(let source, let mode):
                try Files.makeDirectories(source, mode: mode)
                let tree = try DetachedMount(copyOf: source, recursive: true)
                try restrict(tree, source, readOnly: false)
                return tree
            case .proc: return try processes(log)
            case .sysfs:
                if let own = try? DetachedMount("sysfs", [.noSuid, .noDev, .noExec, .readOnly]) { return own }
                return try DetachedMount(copyOf: "/sys", recursive: true)
            case .minimalDev, .empty, .image: return nil
            }
        } catch {
            return try report(error, mount, log)
        }
    }

    /// A /proc for the new PID namespace. What hides parts of the host's, as Docker and Kubernetes do, forbids new ones: then
    /// the host's is shown, in which a process finds itself under another number.
    private static func processes(_ log: Log) throws(SystemError) -> DetachedMount {
        do { return try DetachedMount.ofProcesses() } catch {
            guard error.errno == EPERM else { throw error }
            log.warning(
                "parts of /proc are hidden here, as in a container of Docker or Kubernetes, and so the kernel allows no new one: /proc shows the processes outside as well, with their own numbers. `singularity doctor` names the remedy"
            )
            return try DetachedMount(copyOf: "/proc", recursive: true)
        }
    }

    private static func restrict(_ tree: borrowing DetachedMount, _ source: String, readOnly: Bool) throws(SystemError) {
        // The host's own devices, processes and kernel objects are shown as they are.
        let isOwn = ["/dev", "/proc", "/sys"].contains { LaunchPlanner.isPath(source, within: $0) }
        var attributes: DetachedMount.Attributes = isOwn ? [] : [.noSuid, .noDev]
        if readOnly { attributes.insert(.readOnly) }
        if attributes.isEmpty { return }
        do throws(SystemError) { try tree.restrict(attributes, recursive: true) } catch {
            // Some file systems below refuse; the one that was asked for must not, where it shall be read-only.
            if readOnly { throw error }
            try? tree.restrict(attributes, recursive: false)
        }
    }

    private static func report(
        _ error: SystemError, _ mount: PlannedMount, _ log: Log
    ) throws(RuntimeError) -> DetachedMount? {
        let what = "mounting \(mount.destination) (\(mount.reason))"
        if mount.isRequired {
            var hint = ""
            if case .bind(let source, _) = mount.kind, error.errno == ENOENT {
                hint = "the host has no \(source): create it or leave the bind out"
            }
            throw .step(what, error, hint: hint)
        }
        log.verbose("skipped \(what): \(error)")
        return nil
    }

    /// Makes what lives in the session: empty directories and the small /dev. The session is the working directory.
    mutating func makeSessionParts(_ devices: DeviceFolder) throws(RuntimeError) {
        for (index, item) in items.enumerated() {
            do throws(SystemError) {
                switch item.plan.kind {
                case .minimalDev:
                    try devices.make(in: Session.devices)
                    item.tree = try DetachedMount(copyOf: Session.devices, recursive: true)
                case .empty(let mode):
                    let name = "empty\(index)"
                    try Session.makeDirectory(name, mode: mode)
                    item.tree = try DetachedMount(copyOf: name, recursive: false)
                case .image(let number, let path, let readOnly):
                    // Links in the image lead nowhere else.
                    let root = try OwnedDescriptor.open(Session.data(number), O_RDONLY | O_DIRECTORY)
                    let file = try Files.open(inRoot: root.rawValue, path, O_PATH_FLAG)
                    let tree = try DetachedMount(copyOf: file.rawValue, recursive: false)
                    if readOnly { try tree.restrict([.readOnly], recursive: false) }
                    item.tree = .some(tree)
                default: break
                }
            } catch { throw .step("making \(item.plan.destination) (\(item.plan.reason))", error, hint: "") }
        }
    }

    /// Shows generated files by mounts, where there is no layer to put them into.
    mutating func addFiles(_ files: [(path: String, content: [UInt8])]) throws(RuntimeError) {
        for (index, file) in files.enumerated() {
            do throws(SystemError) {
                let name = "file\(index)"
                try Session.writeFile(name, file.content)
                let kind = PlannedMount.Kind.bind(source: name, readOnly: false)
                items.append(
                    Item(
                        PlannedMount(kind, file.path, isRequired: false, reason: "generated file"),
                        try DetachedMount(copyOf: name, recursive: false)))
            } catch { throw .step("making \(file.path)", error, hint: "") }
        }
    }

    /// Attaches all, in the plan's order. The container's root is the root directory.
    /// - Parameters:
    ///   - unreachable: mounts that have no place, by number, and why.
    ///   - missingIsWarned: the root has no layer: what it lacks cannot be added.
    mutating func attach(unreachable: [Int: String], missingIsWarned: Bool) throws(RuntimeError) {
        for (index, item) in items.enumerated() {
            if let why = unreachable[index] {
                if item.plan.isRequired { throw .badOption("\(item.plan.reason): \(why)") }
                log.verbose("skipped \(item.plan.destination) (\(item.plan.reason)): \(why)")
                continue
            }
            guard let tree = item.tree.take() else { continue }
            do throws(SystemError) { try tree.attach(to: item.plan.destination) } catch {
                let what = "mounting \(item.plan.destination) (\(item.plan.reason))"
                guard !item.plan.isRequired else {
                    throw .step(what, error, hint: "the container has no \(item.plan.destination): create it where it would have to be")
                }
                if missingIsWarned { log.warning("skipped \(what): \(error)") } else { log.verbose("skipped \(what): \(error)") }
            }
        }
    }
}
