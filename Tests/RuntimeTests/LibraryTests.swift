import Foundation
import Glibc
import Linux
import Runtime
import TestSupport
import Testing

/// What is read in shared libraries, and what is concluded from it.
@Suite struct LibraryTests {
    private func object(_ path: String) throws -> SharedObject? {
        RootFile(try OwnedDescriptor.open(path)).flatMap { SharedObject($0) }
    }

    /// The host's own loader and libraries are at hand wherever tests run.
    private static var libc: String? {
        guard let bytes = try? Files.read("/etc/ld.so.cache", limit: 64 << 20) else { return nil }
        return LibraryCache(bytes)?.libraries.first { $0.name == "libc.so.6" }?.path
    }

    @Test func theCLibraryTellsItsVersion() throws {
        let path = try #require(Self.libc)
        let object = try #require(try object(path))
        #expect(object.name == "libc.so.6" && object.needed.contains { $0.hasPrefix("ld-linux") })
        let newest = try #require(object.versions.compactMap { GlibcVersion($0) }.max())
        var text = [CChar](repeating: 0, count: 64)
        confstr(CInt(_CS_GNU_LIBC_VERSION), &text, text.count)
        let words = String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self).split(separator: " ")
        let running = try #require(GlibcVersion("GLIBC_\(words.last ?? "")"))
        // Private versions and those of architectures say nothing; a release need not add a symbol.
        #expect(newest <= running && newest.description.hasPrefix("2."))
        let math = try #require(try self.object(path.replacing("libc.so.6", with: "libm.so.6")))
        #expect(math.needed.contains("libc.so.6") && math.neededVersions["libc.so.6"]?.isEmpty == false)
        #expect(try #require(GlibcVersion(neededBy: math)) <= running)
    }

    @Test func versionsAreOrderedByTheirNumbers() throws {
        let versions = ["GLIBC_2.2.5", "GLIBC_2.3", "GLIBC_2.17", "GLIBC_2.34", "GLIBC_ABI_DT_RELR"].map { GlibcVersion($0) }
        #expect(versions.compactMap { $0 }.count == 5 && versions.compactMap { $0 }.sorted().map(\.description).last == "2.36")
        for bad in ["GLIBC_PRIVATE", "GCC_3.0", "GLIBC_2", "GLIBC_2.x", ""] { #expect(GlibcVersion(bad) == nil, "\(bad)") }
    }

    /// Whatever is in a file, it is read or refused.
    @Test func brokenLibrariesDoNoHarm() throws {
        let original = try Files.read(try #require(Self.libc).replacing("libc.so.6", with: "libdl.so.2"), limit: 64 << 20)
        let path = NSTemporaryDirectory() + "/broken-\(UInt32.random(in: 0 ... .max)).so"
        defer { unlink(path) }
        var generator = Generator(state: 71)
        for round in 0..<600 {
            var bytes = original
            // The header, the tables behind it, and everywhere; with values that overflow where they can.
            for _ in 0..<Int.random(in: 1...8, using: &generator) {
                let limit = [64, 1024, bytes.count][round % 3]
                bytes[Int.random(in: 0..<limit, using: &generator)] =
                    [0, 0xff, 0x7f, UInt8.random(in: 0...255, using: &generator)]
                    .randomElement(using: &generator) ?? 0
            }
            if round % 5 == 0 { bytes = Array(bytes.prefix(Int.random(in: 0..<bytes.count, using: &generator))) }
            try Files.replace(path, with: bytes)
            _ = try object(path)
        }
        try Files.replace(path, with: original)
        #expect(try object(path)?.name == "libdl.so.2")
    }

    // MARK: MPI

    @Test func pluginsOfSlurmAreRead() throws {
        let older = "MPI plugin types are...\n\tpmix\n\tnone\n\tcray_shasta\n\tpmi2\nspecific pmix plugin versions available: pmix_v4\n"
        let found = try #require(MPILauncher.plugins(older))
        #expect(found.names == ["pmix", "none", "cray_shasta", "pmi2", "pmix_v4"] && found.management == [.pmix, .pmi1, .pmi2])
        #expect(MPILauncher.plugins("srun: error: no controller of pmix could be reached\n") == nil)
        #expect(MPILauncher.plugins("none\n")?.management == [])
    }

    @Test(arguments: [
        (["PMIX_RANK": "1", "SLURM_STEP_ID": "0", "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "4"], "srun", [ProcessManagement.pmix], 4),
        (["PMI_FD": "5", "PMI_RANK": "0", "SLURM_STEP_ID": "0", "SLURM_PROCID": "0", "PMI_SIZE": "2"], "srun", [.pmi1, .pmi2], 2),
        (["SLURM_STEP_ID": "0", "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "3"], "srun", [], 3),
        (["OMPI_COMM_WORLD_SIZE": "8", "OMPI_COMM_WORLD_RANK": "2", "PMIX_RANK": "2"], "mpirun of Open MPI", [.pmix], 8),
        (["PMI_FD": "5", "PMI_RANK": "0", "PMI_SIZE": "2"], "mpiexec of MPICH", [.pmi1, .pmi2], 2),
        (["FLUX_TASK_RANK": "0", "FLUX_JOB_SIZE": "2"], "flux run", [.flux], 2),
    ]) func aLauncherIsKnownByItsVariables(
        _ environment: [String: String], _ name: String, _ management: [ProcessManagement], _ ranks: Int
    ) throws {
        let launcher = try #require(MPILauncher(environment))
        #expect(launcher.name == name && launcher.management == Set(management) && launcher.ranks == ranks)
    }

    @Test func outsideOfJobsThereIsNone() { #expect(MPILauncher(["SLURM_CONF": "/etc/slurm.conf", "HOME": "/"]) == nil) }

    @Test func networksNeedTheirLibraries() throws {
        let networks = Interconnect.all(devices: ["cxi0", "hfi1_0", "null"], infiniBand: ["mlx5_0", "mlx5_1"])
        #expect(networks.map(\.name) == ["InfiniBand or RoCE (mlx5_0, mlx5_1)", "Omni-Path", "Slingshot"])
        #expect(Interconnect.all(devices: ["null"], infiniBand: []).isEmpty)
    }
}
