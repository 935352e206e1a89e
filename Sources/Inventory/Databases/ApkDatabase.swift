/// Alpine's packages (the `installed` file of apk).
enum ApkDatabase {
    private static let places = ["/lib/apk/db/installed", "/usr/lib/apk/db/installed"]

    static func packages(_ text: (String) -> String?) -> [InstalledPackage] {
        for path in places {
            guard let content = text(path) else { continue }
            return Paragraphs(content).compactMap { fields in
                guard let name = fields["P"], let version = fields["V"] else { return nil }
                return InstalledPackage(
                    .apk, name: name, version: version, architecture: fields["A"], license: fields["L"], supplier: fields["m"],
                    homepage: fields["U"], source: path)
            }
        }
        return []
    }
}
