import Glibc
import Linux
import Runtime

extension StageBuild {
    /// Where packages that this stage downloads are kept for its next build.
    func packageStore() throws -> PackageStore? {
        guard let folder = options.packageFolder else { return nil }
        let recipe = Files.resolved(definition.name) ?? definition.name
        let header = stage.header
        let name = LayerKey(base: recipe).appending(
            [stage.name ?? "", header.agent, header["from"] ?? "", options.fetch.pull.platform.description]
        ).text
        try Files.makeDirectories(folder, mode: 0o700)
        let store = "\(folder)/\(name)"
        try Files.makeDirectories(store)
        utimes(store, nil)
        try Files.replace(LayerCache.notePath(of: store), with: Array("\(recipe)\n".utf8), mode: 0o600)
        return PackageStore(store)
    }
}
