import Definition
import Glibc
import ImageTree
import Linux
import Messages
import Registry
import Runtime
import SquashFS

/// Builds one stage: its base and then section by section, each a layer.
///
/// This process has one thread, as what sections run in is made by forks; all that needs threads is done in children.
final class StageBuild {
    let stage: DefinitionFile.Stage
    let definition: DefinitionFile
    let options: BuildOptions
    let identity: BuildIdentity
    let temporary: TemporaryFolder
    private let earlier: [String: StageBuild]
    private let log: Log
    private let events: BuildEvents
    let base: StageBase
    private(set) var tree: StageTree
    /// What was done so far, from which the layers have their keys.
    private var steps: [[String]]
    /// Layers that were made before the base's identity was known: for how many steps, what they are of, and where they are.
    private var unnamed: [(steps: Int, note: String, path: String)] = []
    /// What was printed by the sections, for the record.
    private(set) var logs: [(title: String, path: String)] = []
    /// Files of the host that went in, with their digests.
    private(set) var inputs: [String] = []
    private var count = 0
    /// Keeps others from removing layers that this build uses.
    private var marks: [FileLock] = []
    private var writer: WriterOptions

    init(
        _ stage: DefinitionFile.Stage, of definition: DefinitionFile, base: StageBase, earlier: [String: StageBuild],
        identity: BuildIdentity, options: BuildOptions, temporary: TemporaryFolder, log: Log
    ) {
        self.stage = stage
        self.definition = definition
        self.base = base
        self.earlier = earlier
        self.identity = identity
        self.options = options
        self.temporary = temporary
        self.log = log
        events = BuildEvents(isOn: options.reportsJSON, stage: stage.name ?? "")
        tree = StageTree(base: base.path)
        // With a time of its own an image depends on nothing but what the sandbox shows.
        if let path = base.path, options.usesLayerCache, !options.keepsNothing, !options.hasWriterOptions, options.image.latestTime == nil {
            tree.origins = SandboxOrigins(of: path, in: options.originFolder)
        }
        writer = options.image.writer
        if !options.hasWriterOptions, let (superblock, size) = tree.baseFormat, superblock.compressor.levels != nil {
            writer = WriterOptions(compressor: superblock.compressor, threads: writer.threads)
            writer.blockSize = size
        }
        let kind: String
        switch identity {
        case .root: kind = "root"
        case .ranges: kind = "ranges"
        case .recorded: kind = "recorded"
        }
        // Programs see SOURCE_DATE_EPOCH, and some do other things then.
        let time = options.image.latestTime.map { ["time \($0)"] } ?? []
        steps = [[kind, options.fetch.pull.platform.description, "\(writer.compressor.name) \(writer.blockSize) \(writer.level)"] + time]
    }

    /// The key of what there is so far. Waits for the base's identity.
    var key: LayerKey { get throws { try key(steps.count) } }

    private func key(_ count: Int) throws -> LayerKey {
        steps[..<count].reduce(LayerKey(base: try base.identity.text)) { $0.appending($1) }
    }

    /// How files are written, here and in the final image.
    var writerOptions: WriterOptions { writer }

    /// Owners of files of a directory.
    var ownership: HostTree.Ownership {
        switch identity {
        case .root: .asStored
        case .ranges: .mapped
        case .recorded: .recorded
        }
    }

    /// Does everything that the stage says, but for what the image knows of itself.
    func run() throws {
        try host(.pre)
        if let tool = base.tool { try bootstrap(tool) }
        try addBaseFiles()
        try addApps()
        for section in stage.sections where section.sourceStage != nil { try copyFromStage(section) }
        try host(.setup)
        for section in stage.sections where section.kind == .files && section.sourceStage == nil { try copyFromHost(section) }
        try post()
    }

    // MARK: Layers

    /// Adds a layer, from the cache where it is there.
    private func add(
        _ title: String, line: Int, parts: [String], make body: (String) throws -> Void
    ) throws {
        try Interruption.check()
        steps.append(parts)
        let note = "\(definition.name):\(line) \(title)"
        let start = BuildEvents.now
        func make(_ path: String) throws {
            events.section(title, line: line, state: "started")
            do { try body(path) } catch {
                events.section(title, line: line, state: "failed", seconds: BuildEvents.now - start)
                throw error
            }
        }
        var result: (path: String, isCached: Bool)
        if options.usesLayerCache, base.identity.isKnown {
            try nameLayers()
            let key = try key
            result = try options.layers.layer(key, note: note, make: make)
            // Who cleans up may take it before it is marked as used.
            marking: while true {
                switch FileLock.share(result.path) {
                case .taken(let mark):
                    marks.append(mark)
                    break marking
                case .unknown: break marking
                case .gone: result = try options.layers.layer(key, note: note, make: make)
                }
            }
        } else {
            var path: String
            // Other stages have their layers in the same folder.
            repeat {
                count += 1
                path = "\(temporary.path)/layer\(count).sqfs"
            } while Files.status(path) != nil
            try make(path)
            if options.usesLayerCache { unnamed.append((steps.count, note, path)) }
            result = (path, false)
        }
        if result.isCached, line > 0 { log.info("Using cached layer of \(title) (line \(line))") }
        events.section(
            title, line: line, state: result.isCached ? "cached" : "done", seconds: BuildEvents.now - start,
            bytes: Files.status(result.path).map { UInt64($0.st_size) })
        let image = try LayerFile.open(result.path)
        if try LayerFile.isWhole(image) { tree = StageTree() }
        // Nothing but a root directory: nothing to mount.
        if image.superblock.inodeCount > 1 { tree.layers.append(result.path) }
        let logPath = result.path + ".log"
        if Files.status(logPath) != nil { logs.append((title, logPath)) }
    }

    /// Puts the layers into the cache that were made before it was known what they lie on. Waits for that.
    func nameLayers() throws {
        for layer in unnamed {
            let key = try key(layer.steps)
            _ = try options.layers.layer(key, note: layer.note) { try LayerFile.duplicate(layer.path, to: $0) }
            if Files.status(layer.path + ".log") != nil {
                try? LayerFile.duplicate(layer.path + ".log", to: options.layers.path(key) + ".log")
            }
        }
        unnamed = []
    }

    /// Writes a layer of changes that are made in memory.
    private func writeLayer(_ path: String, _ body: (ChangeTree) throws -> Void) throws {
        try BuildChild.run(log) {
            try enterForDirectories()
            let changes = ChangeTree(try tree.merged(ownership), time: options.image.latestTime ?? 0)
            try body(changes)
            try LayerFile.write(changes.layer, to: path, options: writer)
            return []
        }
    }

    /// Files of a directory may be unreadable but for root.
    func enterForDirectories() throws {
        if let path = tree.base, Files.isDirectory(path), identity != .root { try identity.enter() }
    }

    private func addBaseFiles() throws {
        if options.isData { return }
        // What was converted from an address has them, and so has nearly every container.
        if base.path != nil, !base.isContainer { return }
        if base.isContainer, let lower = try tree.lowers.first, BaseFiles.isComplete(in: RootView(lower)) { return }
        try add("base files", line: 0, parts: ["base files"]) { path in
            try writeLayer(path) { changes in
                try BaseFiles.fill(changes, time: options.image.latestTime ?? 0, overwrite: !base.isContainer)
            }
        }
    }

    // MARK: Files

    private func copyFromHost(_ section: Section, root: String = "/") throws {
        guard options.runs(.files) || section.kind == .appfiles else { return }
        let copies = HostCopies(section: section, file: definition.name, destinationRoot: root)
        let items = try copies.items()
        for item in items { log.info("Copying \(item.source) to \(item.destination)") }
        let fingerprint = try copies.fingerprint(of: items, options.layers.digests)
        inputs += items.map(\.source)
        try add(section.title, line: section.line, parts: [section.title] + fingerprint) { path in
            try writeLayer(path) { try copies.copy(items, into: $0) }
        }
    }

    private func copyFromStage(_ section: Section) throws {
        guard options.runs(.files), let name = section.sourceStage, let source = earlier[name] else { return }
        try add(section.title, line: section.line, parts: [section.title, try source.key.text, section.body]) { path in
            try writeLayer(path) { changes in
                try StageCopies(section: section, file: definition.name, stage: name).copy(
                    from: try source.tree.merged(source.ownership), into: changes)
            }
        }
    }

    private func addApps() throws {
        for app in stage.apps {
            let files = AppFiles(app, stage)
            try add("app \(app)", line: files.line, parts: ["app"] + files.parts) { path in
                try writeLayer(path) { try files.write(into: $0, time: options.image.latestTime ?? 0) }
            }
            if let section = stage.section(.appfiles, app: app) { try copyFromHost(section, root: "/scif/apps/\(app)/") }
        }
    }

    // MARK: Programs

    private func bootstrap(_ tool: BootstrapTool) throws {
        log.info("Bootstrapping with \(stage.header.agent)")
        let line = stage.header.entries.first?.line ?? 0
        try add("bootstrap", line: line, parts: ["bootstrap", tool.identity]) { path in
            let script = SectionOutput.traceSetting + "\n" + tool.script
            try execute(
                "bootstrap", line: line, script: script, program: ["/bin/sh", "-ex", nextHostScript], place: .host,
                environment: tool.environment, layer: path)
        }
    }

    /// `%pre` and `%setup`, which see the host. What they read there is unknown, so they are always run; what follows
    /// depends on what they have changed.
    private func host(_ kind: Section.Kind) throws {
        guard options.runs(kind), let section = stage.section(kind) else { return }
        log.info("Running \(kind.rawValue) scriptlet")
        let path = "\(temporary.path)/\(kind.rawValue).sqfs"
        let script = try SectionScript(section, body: section.body, path: nextHostScript)
        var lines = ScriptLines()
        lines.append(section)
        try execute(
            section.title, line: section.line, script: script.text, lines: lines, program: script.program, place: .host,
            environment: [:], layer: path)
        let digest = try options.layers.digests.digest(of: path)
        try add(section.title, line: section.line, parts: [section.title, digest]) { target in
            try LayerFile.duplicate(path, to: target)
        }
        unlink(path)
    }

    private func post() throws {
        guard options.runs(.post) else { return }
        var body = stage.section(.post)?.body ?? ""
        var lines = ScriptLines()
        if let section = stage.section(.post) { lines.append(section) }
        for app in stage.apps {
            guard let section = stage.section(.appinstall, app: app) else { continue }
            let before = "\ncd /scif/apps/\(app)\n. /scif/apps/\(app)/scif/env/01-base.sh\n"
            lines.append(before)
            lines.append(section)
            lines.append("\ncd /\n")
            body += before + section.body + "\ncd /\n"
        }
        guard let section = stage.section(.post) ?? stage.sections.first(where: { $0.kind == .appinstall }), !body.isEmpty else { return }
        let script = try SectionScript(
            Section(kind: .post, app: "", arguments: section.kind == .post ? section.arguments : "", body: body, line: section.line),
            body: body, path: SectionRun.containerScript)
        let binds = (options.binds + options.drivers.binds).map { "\($0.source):\($0.destination):\($0.isReadOnly)" }
        let packages = options.packageFolder == nil ? [] : ["packages are taken out"]
        try add("%post", line: section.line, parts: ["post", body, section.arguments] + binds + packages) { path in
            log.info("Running post scriptlet")
            try execute(
                "%post", line: section.line, script: script.text, lines: lines, program: script.program, place: .container,
                environment: try ContainerEnvironment(try tree.lowers, log).variables, layer: path)
        }
    }

    /// `%test` of a stage that is not the image.
    func test() throws {
        guard options.runsTests, options.runs(.test), let section = stage.section(.test) else { return }
        log.info("Running testscript")
        try execute(
            "%test", line: section.line, script: SectionScript.standalone(section), program: [SectionRun.containerScript],
            place: .container, environment: try ContainerEnvironment(try tree.lowers, log).variables, layer: nil)
    }

    /// Where the script of the next section on the host will be.
    private var nextHostScript: String { "\(temporary.path)/section\(count + 1).script" }

    /// Runs a script over what there is so far.
    /// - Parameter layer: file that gets the changes; nil where they are thrown away.
    private func execute(
        _ title: String, line: Int, script: String, lines: ScriptLines = ScriptLines(), program: [String], place: SectionRun.Place,
        environment: [String: String], layer: String?
    ) throws {
        let hostScript = nextHostScript
        count += 1
        let work = WorkFolder("\(temporary.path)/section\(count)")
        var run = SectionRun(lowers: try tree.lowers, identity: identity, work: work, script: script)
        run.place = place
        run.program = program
        run.environment = environment
        run.binds = options.binds
        if place == .container {
            if layer != nil { run.packages = try packageStore() }
            run.drivers = options.drivers.binds
            if let path = options.drivers.libraryPath {
                run.environment["LD_LIBRARY_PATH"] = [environment["LD_LIBRARY_PATH"], path].compactMap(\.self).joined(separator: ":")
            }
        }
        if place == .host {
            try Files.replace(hostScript, with: Array(script.utf8), mode: 0o700)
            run.scriptPath = hostScript
            run.environment = HostEnvironment.variables(work.hostRoot).merging(environment) { _, new in new }
        }
        var (outcome, result) = try attempt(run, title, layer)
        if case .noOverlay(let cause) = outcome {
            try unpack(&run, because: cause)
            (outcome, result) = try attempt(run, title, layer)
        }
        switch outcome {
        case .ended(0): break
        case .ended(let status):
            throw BuildError.section(
                SectionFailure(
                    file: definition.name, title: title, line: line, status: status, last: lines.last(result),
                    command: result.lastCommand, run: run, tree: tree))
        case .noOverlay(let cause): throw BuildError.refused("\(title) cannot be run on this host: \(cause)")
        case .failed: throw BuildError.told
        }
        TemporaryFolder.remove(work.path, identity)
    }

    /// Runs a section once.
    private func attempt(_ run: SectionRun, _ title: String, _ layer: String?) throws -> (SectionRun.Outcome, SectionOutput.Result) {
        var run = run
        let output = try SectionOutput(
            prefix: options.showsPrefix ? "[\(stage.name.map { "\($0) " } ?? "")\(title)]" : "",
            log: layer.map { $0.replacingSuffix(".part", "") + ".log" }, isQuiet: log.level < .info,
            outputTo: options.reportsJSON ? 2 : 1)
        run.output = (output.output, output.errors)
        do {
            let outcome = try run.run(log) { changes in
                guard let layer else { return }
                try self.harvest(changes, to: layer, isWhole: run.writableTree != nil)
            }
            return (outcome, output.finish())
        } catch {
            _ = output.finish()
            throw error
        }
    }

    /// Makes a directory of all there is, for a host that lays no overlay over an image where the changes shall go.
    private func unpack(_ run: inout SectionRun, because cause: String) throws {
        log.warning(
            !identity.mayRunContainers
                ? "the section runs in an unpacked copy by chroot, without /proc and without namespaces: \(cause). `singularity doctor` names the remedy"
                : "the section runs in an unpacked copy, as this host has no view of an image with changes in \(temporary.path) (\(cause)): a directory of a local disk (--tmpdir) may help, and `singularity doctor` tells more"
        )
        let path = run.work.path + "/tree"
        try BuildChild.run(log) {
            try Files.makeDirectories(run.work.path)
            if identity != .root { try identity.enter() }
            try SandboxSink(path, asRoot: identity != .recorded, latestTime: nil).write(try tree.merged(ownership), threads: writer.threads)
            return []
        }
        run.lowers = []
        run.writableTree = path
        run.packages = nil
    }

    // MARK: After a failure

    /// A shell in a stage whose section has failed.
    func openShell(_ failure: SectionFailure) throws {
        var run = failure.run
        run.place = .container
        run.output = nil
        run.script = ""
        run.scriptPath = SectionRun.containerScript
        run.program = ["/bin/sh", "-i"]
        run.environment = try ContainerEnvironment(run.lowers, log).variables
        run.binds = options.binds
        run.packages = nil
        _ = try run.run(log) { _ in }
    }

    /// Unpacks a stage whose section has failed into a directory.
    /// - Returns: the directory.
    func keep(_ failure: SectionFailure, beside target: String) throws -> String {
        let path = "\(target).failed-\(getpid())"
        let layer = "\(temporary.path)/failed.sqfs"
        try BuildChild.run(log) {
            try identity.enter()
            let whole = failure.run.writableTree
            try failure.run.work.check()
            try harvest(SectionRun.Changes(upper: whole ?? failure.run.work.upper), to: layer, isWhole: whole != nil)
            return []
        }
        try BuildChild.run(log) {
            var tree = failure.tree
            tree.layers.append(layer)
            try SandboxSink(path, asRoot: identity == .root, latestTime: nil).write(
                try tree.merged(ownership), threads: writer.threads)
            return []
        }
        return path
    }

    /// Writes what a section has changed as a layer. In the section's user namespace.
    /// - Parameter isWhole: all there is, not what has changed.
    private func harvest(_ changes: SectionRun.Changes, to path: String, isWhole: Bool) throws {
        let others = changes.others.mapValues { (uid: $0.uid, gid: $0.gid) }
        let upper = try HostTree.read(changes.upper, ownership: identity == .recorded ? .recorded : .asStored, others: others)
        if changes.hasMarkers { LayerTree.replaceMarkers(in: upper) }
        if isWhole { LayerTree.makeOpaque(upper) }
        try LayerFile.write(upper, to: path, options: writer)
    }
}

extension String {
    fileprivate func replacingSuffix(_ suffix: String, _ other: String) -> String {
        hasSuffix(suffix) ? String(dropLast(suffix.count)) + other : self
    }
}
