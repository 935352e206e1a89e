/// Files of graphics drivers as binds, for sections of a build.
public struct DriverBinds: Sendable {
    public private(set) var binds: [BindSpec] = []
    /// Where programs find the libraries; nil where there are none.
    public private(set) var libraryPath: String?
    /// What was asked for and is not on this host.
    public private(set) var warnings: [String] = []

    /// No driver.
    public init() {}

    /// Looks for the drivers of this host.
    public init(nvidia: Bool, rocm: Bool) {
        for kind in (nvidia ? [DriverFiles.nvidia] : []) + (rocm ? [DriverFiles.rocm] : []) {
            let found = DriverFiles(kind)
            if found.isEmpty { warnings.append("--\(kind.name): no files of the driver were found on this host") }
            if !found.libraries.isEmpty { libraryPath = EnvironmentPlan.libraries }
            binds += (found.libraries + found.others).map { BindSpec(source: $0.source, destination: $0.destination, isReadOnly: true) }
        }
    }
}
