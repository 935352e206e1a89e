/// What the throw-away layer over an image holds: mount points that the image lacks, and small generated files.
package struct SessionLayer: Equatable {
    package enum Content: Equatable {
        case directory(mode: UInt16)
        case file([UInt8])
    }

    package struct Entry: Equatable {
        /// Names from the root down.
        package var path: [String]
        package var content: Content
    }

    /// Permission bits of the image's root directory, which the layer's root covers.
    package var rootMode: UInt16
    /// Parents before what is in them.
    package private(set) var entries: [Entry] = []
    /// Mounts that have no place, by their number in the plan, and why.
    package private(set) var unreachable: [Int: String] = [:]
    private var known: [[String]: Int] = [:]

    /// - Parameter isDirectory: of the source of each mount of the plan.
    package init(_ plan: LaunchPlan, _ view: RootView, isDirectory: [Bool]) {
        rootMode = view.mode([]) ?? 0o755
        var covered: [[String]] = []
        for (index, mount) in plan.mounts.enumerated() {
            guard let place = view.resolve(mount.destination) else {
                unreachable[index] = "in the image, a part of \(mount.destination) is a file, not a directory"
                continue
            }
            let path = place.existing + place.missing
            // What lies in an earlier mount is there or not: nothing is made in the user's directories.
            if !covered.contains(where: { path.count > $0.count && path.starts(with: $0) }) {
                if place.missing.isEmpty {
                    if (place.kind == .directory) != isDirectory[index] {
                        unreachable[index] =
                            "\(mount.destination) is a \(isDirectory[index] ? "file" : "directory") in the image, and what shall be mounted there is not"
                        continue
                    }
                } else {
                    addParents(of: path, view)
                    add(path, isDirectory[index] ? .directory(mode: 0o755) : .file([]))
                }
            }
            covered.append(path)
        }
        for file in plan.files { add((file.path, file.content), covered, view) }
    }

    private mutating func add(_ file: (path: String, content: [UInt8]), _ covered: [[String]], _ view: RootView) {
        guard let slash = file.path.lastIndex(of: "/"), let folder = view.resolve("/\(file.path[..<slash])"),
            folder.missing.isEmpty, folder.kind == .directory
        else { return }
        // The name itself is taken, not what a link of that name leads to.
        let path = folder.existing + [String(file.path[slash...].dropFirst())]
        guard !covered.contains(where: { path.starts(with: $0) }) else { return }
        addParents(of: path, view)
        add(path, .file(file.content))
    }

    private mutating func addParents(of path: [String], _ view: RootView) {
        for count in 1..<max(1, path.count) {
            let parent = Array(path.prefix(count))
            if known[parent] == nil { add(parent, .directory(mode: view.mode(parent) ?? 0o755)) }
        }
    }

    private mutating func add(_ path: [String], _ content: Content) {
        if let index = known[path] {
            if case .file = content { entries[index].content = content }
            return
        }
        known[path] = entries.count
        entries.append(Entry(path: path, content: content))
    }
}
