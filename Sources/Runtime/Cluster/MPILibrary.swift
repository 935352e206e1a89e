/// How ranks of an MPI program find each other when a resource manager has started them.
package enum ProcessManagement: String, Sendable, CaseIterable, Comparable {
    case pmi1 = "PMI-1"
    case pmi2 = "PMI-2"
    case pmix = "PMIx"
    case flux = "Flux"

    package static func < (left: ProcessManagement, right: ProcessManagement) -> Bool { left.rawValue < right.rawValue }
}

/// An MPI library in an image, or on the host.
package struct MPILibrary {
    /// Who made it, as far as programs must know.
    package enum Family: String, Sendable {
        case openMPI = "Open MPI"
        case mpich = "MPICH"
    }

    package var family: Family
    package var path: String
    /// What programs were linked with: those of one can run with another library that has the same.
    package var soname: String
    /// Such as 4.1.4; nil where it does not say.
    package var version: String?
    /// What it can be started by.
    package var management: Set<ProcessManagement>
    /// Of the PMIx library, where it uses one.
    package var pmixVersion: String?

    /// Names of the library, in the order in which they are looked for. MPICH's is also that of Intel MPI, MVAPICH and Cray
    /// MPICH (the MPICH ABI initiative); Debian calls it differently.
    private static let names: [(String, Family)] = [
        ("libmpi.so.40", .openMPI), ("libmpi.so.20", .openMPI), ("libmpi.so.12", .mpich), ("libmpich.so.12", .mpich),
        ("libmpi_cray.so.12", .mpich),
    ]

    /// Directories that sites and distributions keep it in without telling the loader.
    private static let folders = [
        "/usr/lib64/openmpi/lib", "/usr/lib64/mpich/lib", "/usr/lib64/mvapich2/lib", "/usr/local/lib", "/usr/local/lib64",
        "/usr/local/openmpi/lib", "/usr/local/mpi/lib", "/usr/local/mpich/lib", "/opt/conda/lib", "/opt/intel/oneapi/mpi/latest/lib",
        "/opt/intel/oneapi/mpi/latest/lib/release",
    ]

    private static func folders(_ view: RootView) -> [String] { folders + view.names(in: "/opt").map { "/opt/\($0)/lib" } }

    /// The one that the loader would take first; nil where there is none.
    /// - Parameter looksForVersions: all of the library is read for it.
    package init?(_ libraries: ImageLibraries, looksForVersions: Bool = true) {
        let others = Self.folders(libraries.view)
        guard
            let (path, soname, family) = Self.names.lazy.compactMap({ name, family in
                libraries.path(of: name, others: others).map { ($0, name, family) }
            }).first
        else { return nil }
        self.family = family
        self.path = path
        self.soname = soname
        management = []
        func text(_ path: String) -> LibraryText? { looksForVersions ? libraries.view.file(path).flatMap { LibraryText($0) } : nil }
        version = text(path)?.version(prefix: family == .openMPI ? "v" : "")
        let pmix = libraries.path(of: "libpmix.so.2", others: others)
        switch family {
        case .openMPI: management = Self.openMPI(libraries, path, hasPMIx: pmix != nil)
        case .mpich: management = Self.mpich(libraries.object(path)?.needed ?? [])
        }
        guard management.contains(.pmix), let pmix else { return }
        pmixVersion = text(pmix)?.word(after: "OpenPMIx ")
    }

    /// From 5 on there is nothing but PMIx, and no plug-ins for it; before, it depends on the plug-ins, which are in a directory
    /// beside the library, or wholly in it.
    private static func openMPI(_ libraries: ImageLibraries, _ path: String, hasPMIx: Bool) -> Set<ProcessManagement> {
        let folder = path.split(separator: "/").dropLast().map { "/" + $0 }.joined()
        let places = ["\(folder)/openmpi", "\(folder)/openmpi/lib/openmpi3", "\(folder)/openmpi/lib/openmpi", "\(folder)/openmpi3"]
        let names = places.lazy.map { libraries.view.names(in: $0).filter { $0.hasPrefix("mca_pmix_") } }.first { !$0.isEmpty } ?? []
        if names.isEmpty { return [.pmix] }
        var out: Set<ProcessManagement> = []
        for name in names {
            let plugin = name.dropFirst("mca_pmix_".count).prefix { $0 != "." }
            switch plugin {
            case "s1": out.insert(.pmi1)
            case "s2": out.insert(.pmi2)
            case "flux": out.insert(.flux)
            // An external library may have been left out.
            case let name where name.hasPrefix("ext"): if hasPMIx { out.insert(.pmix) }
            case let name where name.hasPrefix("pmix"): out.insert(.pmix)
            default: break
            }
        }
        return out
    }

    /// The library that it was linked with; its own, where it has none, speaks PMI-1, which Slurm's plug-in pmi2 understands too.
    private static func mpich(_ needed: [String]) -> Set<ProcessManagement> {
        if needed.contains(where: { $0.hasPrefix("libpmix.so") }) { return [.pmix] }
        if needed.contains(where: { $0.hasPrefix("libpmi2.so") }) { return [.pmi2] }
        return [.pmi1, .pmi2]
    }
}

/// Texts in a library's bytes.
struct LibraryText {
    private let bytes: [UInt8]

    init?(_ file: RootFile) {
        guard file.size <= 256 << 20, let bytes = file.bytes(at: 0, count: file.size) else { return nil }
        self.bytes = bytes
    }

    /// The first text that is a version of three numbers and nothing else.
    func version(prefix: String) -> String? {
        var start = 0
        let first = prefix.utf8.first
        while let end = bytes[start...].firstIndex(of: 0) {
            defer { start = end + 1 }
            guard (5...24).contains(end - start), first == nil ? bytes[start] >= 0x30 && bytes[start] <= 0x39 : bytes[start] == first else {
                continue
            }
            let text = String(decoding: bytes[start..<end], as: UTF8.self).dropFirst(prefix.count)
            let parts = text.split(separator: ".", omittingEmptySubsequences: false)
            guard parts.count == 3, parts.prefix(2).allSatisfy({ Int($0) != nil }), parts[2].first?.isNumber ?? false,
                text.allSatisfy({ $0.isASCII && ($0.isNumber || $0.isLetter || $0 == ".") })
            else { continue }
            return String(text)
        }
        return nil
    }

    /// The word behind a text.
    func word(after text: String) -> String? {
        let wanted = Array(text.utf8)
        guard bytes.count > wanted.count else { return nil }
        for start in 0..<bytes.count - wanted.count where bytes[start] == wanted[0] {
            guard bytes[start..<start + wanted.count].elementsEqual(wanted) else { continue }
            let word = bytes[(start + wanted.count)...].prefix(24).prefix { $0 > 0x20 && $0 < 0x7f }
            if let first = word.first, first >= 0x30, first <= 0x39 { return String(decoding: word, as: UTF8.self) }
        }
        return nil
    }
}
