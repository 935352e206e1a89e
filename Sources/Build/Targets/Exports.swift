import Linux
import Messages

/// Targets for other container engines.
struct Exports {
    let assembly: Assembly
    let stage: StageBuild
    let log: Log

    func write(_ target: BuildTarget) throws {
        throw BuildError.refused("\(target.path): not yet")
    }
}
