/// What two images have that differs, by package.
public struct InventoryComparison: Sendable {
    public enum Change: Sendable, Equatable {
        case added(InstalledPackage)
        case removed(InstalledPackage)
        /// Versions before and after.
        case changed(InstalledPackage, from: String, to: String)
    }

    public let changes: [Change]

    public init(_ old: [InstalledPackage], _ new: [InstalledPackage]) {
        struct Key: Hashable, Comparable {
            var ecosystem: String
            var name: String
            var architecture: String
            static func < (left: Key, right: Key) -> Bool {
                (left.ecosystem, left.name, left.architecture) < (right.ecosystem, right.name, right.architecture)
            }
        }
        func grouped(_ packages: [InstalledPackage]) -> [Key: [InstalledPackage]] {
            Dictionary(grouping: packages) { Key(ecosystem: $0.ecosystem.rawValue, name: $0.name, architecture: $0.architecture ?? "") }
        }
        let (before, after) = (grouped(old), grouped(new))
        var changes: [Change] = []
        for key in Set(before.keys).union(after.keys).sorted() {
            // The same version in several places is there once.
            let was = Dictionary((before[key] ?? []).map { ($0.version, $0) }) { first, _ in first }
            let now = Dictionary((after[key] ?? []).map { ($0.version, $0) }) { first, _ in first }
            let gone = was.keys.filter { now[$0] == nil }.sorted()
            let come = now.keys.filter { was[$0] == nil }.sorted()
            if gone.count == 1, come.count == 1, let package = now[come[0]] {
                changes.append(.changed(package, from: gone[0], to: come[0]))
                continue
            }
            changes += gone.compactMap { was[$0].map(Change.removed) } + come.compactMap { now[$0].map(Change.added) }
        }
        self.changes = changes
    }
}
