/// Files of graphics drivers as binds, for sections of a build.
public struct DriverBinds: Sendable {
    /// What was asked for.
    public let nvidia: Bool
    public let rocm: Bool
    public private(set) var binds: [BindSpec] = []
    /// Where programs find the libraries; nil where there are none.
    public private(set) var libraryPath: String?
    /// What was asked for and is not on this host.
    public private(set) var warnings: [String] = []

    /// Looks for the drivers of this host.
    public init(nvidia: Bool = false, rocm: Bool = false) {
        (self.nvidia, self.rocm) = (nvidia, rocm)
        for kind in (nvidia ? [DriverFiles.nvidia] : []) + (rocm ? [DriverFiles.rocm] : []) {
            let found = DriverFiles(kind)
            if found.isEmpty { warnings.append(kind.missing) }
            if !found.libraries.isEmpty { libraryPath = EnvironmentPlan.libraries }
            binds += (found.libraries + found.others).map { BindSpec(source: $0.source, destination: $0.destination, isReadOnly: true) }
        }
    }
}
