import CLinux
import Definition
import Encryption
import Glibc
import Linux
import Messages
import Registry
import Runtime

/// Builds an image from a definition: stage by stage, then the target from the last one.
///
/// The target appears, by rename, when all is done and tested; until then an older one stays as it is.
public struct DefinitionBuild {
    private let definition: DefinitionFile
    private var options: BuildOptions
    private let arguments: [String: String]
    private let observer: any PullObserver
    private let log: Log

    public init(
        _ definition: DefinitionFile, _ options: BuildOptions, arguments: [String: String] = [:], observer: any PullObserver, log: Log
    ) {
        self.definition = definition
        self.options = options
        self.arguments = arguments
        self.observer = observer
        self.log = log
    }

    /// Builds. Only for a process with one thread.
    /// - Parameter update: an existing sandbox is changed instead of a base.
    public mutating func build(_ target: BuildTarget, update: Bool = false) throws {
        let identity = BuildIdentity.available(ignoresRanges: options.ignoresRanges)
        let temporary = try TemporaryFolder(in: options.temporaryFolder, identity: identity)
        if options.keepsNothing {
            options.fetch.cacheFolder = temporary.path + "/blob"
            options.convertedFolder = temporary.path + "/converted"
            options.layers = LayerCache(temporary.path + "/layers")
            options.usesLayerCache = false
            options.packageFolder = nil
        }
        options.layers.removeLeftovers()
        UnfinishedDirectory.removeLeftovers(beside: target.path)
        Interruption.watch()
        defer {
            temporary.remove()
            Interruption.end()
        }
        log.info("Starting build...")
        log.verbose("sections run \(identity.explanation)")
        var stages: [String: StageBuild] = [:]
        var all: [StageBuild] = []
        // Also of a build that has failed: the next one goes on there.
        defer { keepLayers(of: all) }
        var last: StageBuild?
        for (index, stage) in definition.stages.enumerated() {
            let build = try stageBuild(stage, stages, all.map(\.base), identity, temporary, update ? target.path : nil)
            all.append(build)
            do { try build.run() } catch let BuildError.section(failure) { throw try report(failure, build, target) }
            if index < definition.stages.count - 1 {
                do { try build.test() } catch let BuildError.section(failure) { throw try report(failure, build, target) }
            }
            if let name = stage.name { stages[name] = build }
            last = build
        }
        guard let last else { return }
        let events = BuildEvents(isOn: options.reportsJSON)
        events.target(target.path, state: "started")
        do { try write(last, target, update, temporary) } catch {
            events.target(target.path, state: "failed")
            throw error
        }
        events.target(target.path, state: "done")
        options.layers.shrink(keeping: last.tree.layers)
        if let folder = options.packageFolder { PackageStore.shrink(folder, limit: options.layers.limit) }
    }

    /// Layers without names are of use to the next build, not to this one: nobody waits for them who wants to stop.
    private func keepLayers(of stages: [StageBuild]) {
        do {
            try Interruption.check()
            for stage in stages { try stage.nameLayers() }
        } catch { log.verbose("layers of this build are not kept: \(error)") }
        for stage in stages { stage.base.identity.end() }
    }

    private mutating func stageBuild(
        _ stage: DefinitionFile.Stage, _ earlier: [String: StageBuild], _ bases: [StageBase], _ identity: BuildIdentity,
        _ temporary: TemporaryFolder, _ sandbox: String?
    ) throws -> StageBuild {
        var header = stage.header
        if let sandbox { header = Header(agent: "localimage", from: sandbox) }
        let base = try BaseFinder(options: options, earlier: bases, observer: observer, temporary: temporary.path, log: log).find(header)
        if options.image.latestTime == nil { try takeTime(of: base) }
        return StageBuild(
            stage, of: definition, base: base, earlier: earlier, identity: identity, options: options, temporary: temporary, log: log)
    }

    /// Every stage begins with an image that is named by its digest, or with nothing.
    private var isPinned: Bool {
        let stages = definition.stages.map(\.header)
        return stages.allSatisfy {
            $0.agent == "scratch" || ["docker", "oras"].contains($0.agent) && $0["from"]?.contains("@sha256:") ?? false
        }
            && stages.first?.agent != "scratch"
    }

    /// The year 1980, in Unix seconds.
    private static let firstTime: Int64 = 315_532_800

    /// Nothing in the image shall be newer than its base, whenever it is built.
    private mutating func takeTime(of base: StageBase) throws {
        switch options.reproducibility {
        case .never: return
        case .ofPinnedRecipes:
            guard isPinned else { return }
            // Nobody has asked for it: what is of use without it stays.
            options.keepsLog = true
        case .always: break
        }
        guard let path = base.path, let time = try? RebuildComparison.buildTime(of: path) else {
            throw BuildError.refused(
                "--reproducible: \(base.name.isEmpty ? "what the first stage begins with" : base.name) has no time of its own that would be the same again: set SOURCE_DATE_EPOCH to a number of seconds"
            )
        }
        // Of images without a time programs in sections would be told one that archives cannot have.
        let latest = max(time, Self.firstTime)
        options.image.latestTime = latest
        setenv("SOURCE_DATE_EPOCH", "\(latest)", 1)
    }

    // MARK: The target

    private func write(_ stage: StageBuild, _ target: BuildTarget, _ update: Bool, _ temporary: TemporaryFolder) throws {
        let assembly = Assembly(stage: stage, options: options, arguments: arguments, isUpdate: update, log: log)
        switch target {
        case .sif(let path):
            log.info("Creating SIF file...")
            let output = try OutputFile(path, mode: 0o755)
            try inChild(stage) { try assembly.writeSIF(output) }
            try test(stage, "/proc/\(getpid())/fd/\(output.descriptor)")
            try Interruption.check()
            try output.commit()
        case .squashFS(let path):
            log.info("Creating SquashFS file...")
            let output = try OutputFile(path, mode: 0o644)
            try inChild(stage) { try assembly.writeSquashFS(output) }
            try test(stage, "/proc/\(getpid())/fd/\(output.descriptor)")
            try Interruption.check()
            try output.commit()
        case .sandbox(let path):
            log.info("Creating sandbox directory...")
            let part = UnfinishedDirectory.name(for: path)
            do {
                try inChild(stage) { try assembly.writeSandbox(part) }
                try test(stage, part)
                try Self.replaceDirectory(path, with: part)
            } catch {
                Files.removeTree(part)
                throw error
            }
        case .ociLayout, .ociArchive, .tar:
            try inChild(stage) {
                try Exports(assembly: assembly, options: options, log: log).write(target, temporary: temporary.path)
            }
        }
    }

    private func inChild(_ stage: StageBuild, _ body: () throws -> Void) throws {
        try BuildChild.run(log, task: "while creating the image: ") {
            try stage.enterForDirectories()
            try body()
            return []
        }
    }

    /// Puts a directory in the place of another.
    private static func replaceDirectory(_ path: String, with part: String) throws {
        if Files.status(path, followLinks: false) == nil {
            guard rename(part, path) == 0 else { throw SystemError.last("rename to \(path)") }
            return
        }
        let exchange: UInt32 = 2
        guard clinux_renameat2(AT_FDCWD, part, AT_FDCWD, path, exchange) == 0 else { throw SystemError.last("exchange with \(path)") }
        Files.removeTree(part)
    }

    /// Runs the image's own test.
    private func test(_ stage: StageBuild, _ image: String) throws {
        guard options.runsTests, options.runs(.test), stage.stage.section(.test) != nil else { return }
        guard stage.identity.mayRunContainers else {
            do { return try stage.test() } catch let BuildError.section(failure) {
                throw BuildError.refused("\(failure.sentence)\nThe image is not kept (--notest leaves the test out)")
            }
        }
        log.info("Running testscript")
        let child = try Process.fork {
            Process.dieWithParent()
            var run = RunOptions(image: image, action: .test([]))
            run.binds = options.binds
            run.nvidia = options.drivers.nvidia
            run.rocm = options.drivers.rocm
            if let encryption = options.image.encryption {
                run.keys = ImageKeys { EncryptionKeys(passphrase: encryption.passphrase) }
            }
            run.writableTmpfs = Environment.setting("WRITABLE_TMPFS") != nil
            // As in the sections: whoever builds is root, and starts in the root directory.
            run.workingDirectory = "/"
            do {
                try Launcher(run, .current(), extractionFolder: options.convertedFolder + "/../rootfs", log).launch()
            } catch {
                log.fatal("\(error)")
                exit(255)
            }
        }
        Process.awaited = child
        let code = Process.exitCode(Process.wait(for: child))
        Process.awaited = 0
        if code != 0 {
            throw BuildError.refused(
                "failed to execute %test script: exit status \(code); the image is not kept (--notest leaves the test out)")
        }
    }

    // MARK: Failures

    private func report(_ failure: SectionFailure, _ stage: StageBuild, _ target: BuildTarget) throws -> any Error {
        var text = failure.sentence
        if options.shellOnError, isatty(0) != 0 {
            log.error(text)
            log.info("A shell in the failed stage; its changes are thrown away when it ends")
            try stage.openShell(failure)
        } else if options.keepsFailed {
            let kept = try stage.keep(failure, beside: target.path)
            text += "\nThe failed stage is kept: enter it with `singularity shell --writable \(kept)`, remove it with `rm -rf`"
        } else {
            text +=
                "\nSections before it are kept: the next build goes on there. --keep-failed or --shell-on-error let you look into the stage"
        }
        return BuildError.refused(text)
    }
}
