import Definition
import ImageTree
import Messages

/// An app of the Scientific Filesystem in a container: its folders and scripts below `/scif/apps/NAME`.
struct AppFiles {
    let name: String
    private let stage: DefinitionFile.Stage

    init(_ name: String, _ stage: DefinitionFile.Stage) {
        self.name = name
        self.stage = stage
    }

    private func section(_ kind: Section.Kind) -> Section? { stage.section(kind, app: name) }

    /// Of its first section.
    var line: Int { stage.sections.first { $0.kind.isForApp && $0.app == name }?.line ?? 0 }

    /// What its files depend on.
    var parts: [String] {
        [name]
            + stage.sections.filter { $0.app == name && $0.kind != .appfiles && $0.kind != .appinstall }.flatMap {
                [$0.title, $0.arguments, $0.body]
            }
    }

    /// The name as a part of a variable's name.
    static func variable(_ name: String) -> String {
        String(name.map { $0.isASCII && ($0.isLetter || $0.isNumber) ? $0 : "_" })
    }

    /// Writes folders, environment, scripts and labels.
    func write(into changes: ChangeTree, time: Int64) throws {
        let root = "/scif/apps/\(name)"
        for folder in ["bin", "lib", "scif/env"] { try changes.makeDirectory("\(root)/\(folder)") }
        for folder in ["input", "output"] { try changes.makeDirectory("/scif/data/\(name)/\(folder)") }
        func put(_ path: String, _ text: String, _ mode: UInt16 = 0o755) throws {
            let content: FileContent = text.isEmpty ? .empty : .bytes(Array(text.utf8))
            try changes.replace(root + path, with: Node(.file(content), Attributes(mode: mode, modificationTime: time)))
        }
        try put("/scif/env/01-base.sh", baseEnvironment)
        try put("/scif/env/90-environment.sh", "#!/bin/sh\n" + (section(.appenv)?.body ?? ""))
        if let run = section(.apprun) { try put("/scif/runscript", SectionScript.standalone(run)) }
        if let start = section(.appstart) { try put("/scif/startscript", SectionScript.standalone(start)) }
        if let test = section(.apptest) { try put("/scif/test", SectionScript.standalone(test)) }
        if let help = section(.apphelp) { try put("/scif/runscript.help", help.body, 0o644) }
        var labels = ["SCIF_APP_NAME": name]
        for (key, value) in section(.applabels)?.labels ?? [] { labels[key] = value }
        try put("/scif/labels.json", JSONValue.object(sorted: labels).indented, 0o644)
    }

    private var baseEnvironment: String {
        let root = "/scif/apps/\(name)"
        let values = [
            ("SCIF_APPNAME", name), ("SCIF_APPROOT", root), ("SCIF_APPMETA", "\(root)/scif"), ("SCIF_DATA", "/scif/data"),
            ("SCIF_APPDATA", "/scif/data/\(name)"), ("SCIF_APPINPUT", "/scif/data/\(name)/input"),
            ("SCIF_APPOUTPUT", "/scif/data/\(name)/output"),
        ]
        return "#!/bin/sh\n" + values.map { "\($0.0)=\(ShellText.quoted($0.1))\nexport \($0.0)\n" }.joined()
    }

    /// `94-appsbase.sh`: where each app is, for programs that use several.
    static func overview(_ apps: [String]) -> String {
        apps.map { app in
            let name = variable(app)
            let root = "/scif/apps/\(app)"
            let values = [
                ("SCIF_APPDATA_\(name)", "/scif/data/\(app)"), ("SCIF_APPROOT_\(name)", root), ("SCIF_APPBIN_\(name)", "\(root)/bin"),
                ("SCIF_APPLIB_\(name)", "\(root)/lib"), ("SCIF_APPMETA_\(name)", "\(root)/scif"),
                ("SCIF_APPENV_\(name)", "\(root)/scif/env/90-environment.sh"), ("SCIF_APPLABELS_\(name)", "\(root)/scif/labels.json"),
                ("SCIF_APPRUN_\(name)", "\(root)/scif/runscript"),
            ]
            return values.map { "\($0.0)=\(ShellText.quoted($0.1))\nexport \($0.0)\n" }.joined()
        }.joined()
    }
}
