import Foundation
import Testing

/// Jobs of a real Slurm, with a real Open MPI in the image.
@Suite(
    .enabled(if: Site.isPrepared && Site.mayFUSE && Site.isRoot && !Site.slurm.isEmpty, "needs root, Slurm, munge and Open MPI"),
    .serialized)
final class ClusterTests {
    /// An image with MPI, made once.
    private static let image: Result<String, any Error> = Result {
        let folder = Site.folder + "/mpi"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        let source = """
            #include <mpi.h>
            #include <stdio.h>
            int main(int argc, char **argv) {
                static char buffer[1 << 20];
                int rank, size, sum = 0;
                MPI_Init(&argc, &argv);
                MPI_Comm_rank(MPI_COMM_WORLD, &rank);
                MPI_Comm_size(MPI_COMM_WORLD, &size);
                buffer[sizeof buffer - 1] = (char)rank;
                if (rank == 0)
                    for (int other = 1; other < size; other++) {
                        MPI_Recv(buffer, sizeof buffer, MPI_CHAR, other, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
                        sum += buffer[sizeof buffer - 1];
                    }
                else MPI_Send(buffer, sizeof buffer, MPI_CHAR, 0, 0, MPI_COMM_WORLD);
                printf("rank %d of %d: %d\\n", rank, size, sum);
                MPI_Finalize();
                return 0;
            }
            """
        let file = folder + "/ranks.c"
        try source.write(toFile: file, atomically: true, encoding: .utf8)
        let compiled = try Run.program("/usr/bin/mpicc", ["-o", folder + "/ranks", file])
        try #require(compiled.status == 0, "\(compiled)")
        // MPI is installed in the image by its definition file; the program is the one that the host has.
        return try Site.image("mpi", packages: "openmpi-bin", files: ["\(folder)/ranks /usr/local/bin/ranks"])
    }

    private func slurm(_ program: String, _ words: [String], timeout: Double = 60) throws -> Run {
        try Run.program(
            "/usr/bin/" + program, words, as: .ordinaryUser, environment: ["SLURM_CONF": Site.slurm, "OMPI_MCA_btl": "self,vader"],
            in: Site.folder, timeout: timeout)
    }

    /// Living processes of this suite's image.
    private func processes(_ comm: String) throws -> Int { Processes.living(named: comm, with: try Self.image.get()).count }

    private func expected(_ size: Int) -> Set<String> {
        Set((0..<size).map { "rank \($0) of \(size): \($0 == 0 ? size * (size - 1) / 2 : 0)" })
    }
    private func lines(_ result: Run) -> Set<String> { Set(result.output.split(separator: "\n").map(String.init)) }

    @Test func ranksOfAJobTalkToEachOther() throws {
        let image = try Self.image.get()
        for type in ["pmix", "pmi2"] where type == "pmix" {
            let result = try slurm("srun", ["--mpi=\(type)", "-n4", Site.program, "exec", image, "ranks"])
            #expect(lines(result) == expected(4), "\(result)")
        }
        #expect(Wait.until(8) { (try? processes("singularity-fs")) == 0 })
    }

    /// An image with another kind of MPI, made once.
    private static let mpich: Result<String, any Error> = Result { try Site.image("mpich", packages: "mpich") }

    @Test func whatFitsIsExplained() throws {
        let (image, other) = (try Self.image.get(), try Self.mpich.get())
        func explain(_ image: String) throws -> Run { try slurm("env", [Site.program, "explain", "mpi", image]) }
        let own = try explain(image)
        #expect(
            own.status == 0 && own.output.contains("verdict") && own.output.contains("fits: srun --mpi=pmix -n 4 singularity exec"),
            "\(own)")
        #expect(own.output.contains("Open MPI 4.") && own.output.contains("(libmpi.so.40)") && own.output.contains("PMIx 4."))
        let pmi = try explain(other)
        #expect(pmi.status == 0 && pmi.output.contains("MPICH 4.") && pmi.output.contains("srun --mpi=pmi2 "), "\(pmi)")
        // Without Slurm the host's mpirun is what there is, and it is of another kind.
        let alone = try Run.program(
            Site.program, ["explain", "mpi", "--json", other], as: .ordinaryUser, environment: ["PATH": "/nowhere"])
        #expect(alone.status == 1 && alone.output.contains("mpirun of the host is Open MPI's"), "\(alone)")
        let none = try explain(Site.debian.get())
        #expect(none.status == 1 && none.output.contains("the image has no MPI library"), "\(none)")
        #expect(
            try slurm("srun", ["--mpi=pmix", "-n2", Site.program, "explain", "mpi", image]).output.contains("started by srun of 2 ranks"))
    }

    /// Said once, by the first rank, and only where it is so.
    @Test func ranksThatWouldBeAloneAreTold() throws {
        for (image, type, isTold) in [
            (try Self.image.get(), "pmix", false), (try Self.image.get(), "none", true), (try Self.image.get(), "pmi2", true),
            (try Self.mpich.get(), "pmi2", false), (try Self.mpich.get(), "pmix", true), (try Site.debian.get(), "none", false),
        ] {
            let result = try slurm("srun", ["--mpi=\(type)", "-n3", Site.program, "exec", image, "true"])
            #expect(result.status == 0, "\(result)")
            let lines = result.error.split(separator: "\n").filter { $0.contains("each rank would be a job of its own") }
            #expect(lines.count == (isTold ? 1 : 0), "\(image) \(type): \(result)")
        }
        #expect(try !slurm("srun", ["--mpi=none", "-n1", Site.program, "exec", Self.image.get(), "true"]).error.contains("WARNING"))
        #expect(Wait.until(8) { (try? processes("singularity-fs")) == 0 })
    }

    @Test func manyRanksShareAMountAndAUserNamespace() throws {
        let image = try Self.image.get()
        let script = "readlink /proc/self/ns/user; stat -f -c %i /usr; sleep 2"
        let live = try Run.start(
            "/usr/bin/srun", ["-n64", Site.program, "exec", image, "sh", "-c", script], as: .ordinaryUser,
            environment: ["SLURM_CONF": Site.slurm], in: Site.folder)
        #expect(Wait.until(20) { live.printed().split(separator: "\n").count == 128 })
        #expect(try processes("singularity-fs") == 1)
        let result = live.finish()
        #expect(result.status == 0 && Set(result.output.split(separator: "\n").filter { $0.hasPrefix("user:") }).count == 1, "\(result)")
        #expect(Wait.until(8) { (try? processes("singularity-fs")) == 0 })
    }

    @Test func statusesAndSignalsComeBack() throws {
        let image = try Self.image.get()
        #expect(try slurm("srun", ["-n1", Site.program, "exec", image, "sh", "-c", "exit 3"]).status == 3)
        let caught = try slurm(
            "srun", ["-n1", "--time=1", Site.program, "exec", image, "sh", "-c", "trap 'exit 5' USR1; kill -USR1 $$; sleep 5"])
        #expect(caught.status == 5, "\(caught)")
    }

    @Test func aCancelledJobLeavesNothing() throws {
        let image = try Self.image.get()
        let live = try Run.start(
            "/usr/bin/srun", ["-n2", "--job-name=cancelled", Site.program, "exec", image, "sh", "-c", "echo ready; exec sleep 4324"],
            as: .ordinaryUser,
            environment: ["SLURM_CONF": Site.slurm], in: Site.folder)
        #expect(live.waitFor("ready", seconds: 20))
        #expect(try slurm("scancel", ["--name=cancelled"]).status == 0)
        #expect(live.finish().status != 0)
        #expect(Wait.until(10) { (try? processes("singularity-fs")) == 0 && (try? processes("singularity-own")) == 0 })
        #expect(try Run.program("/usr/bin/pgrep", ["-f", "sleep 4324"]).output.isEmpty)
    }

    @Test func mpirunOfTheHostAndOfTheImageBothWork() throws {
        let image = try Self.image.get()
        let environment = ["OMPI_MCA_btl": "self,vader", "OMPI_MCA_rmaps_base_oversubscribe": "1"]
        let hybrid = try Run.program(
            "/usr/bin/mpirun", ["-n", "3", "--oversubscribe", Site.program, "exec", image, "ranks"], as: .ordinaryUser,
            environment: environment, in: Site.folder)
        #expect(lines(hybrid) == expected(3), "\(hybrid)")
        let contained = try Run.program(
            Site.program, ["exec", image, "mpirun", "-n", "3", "--oversubscribe", "ranks"], as: .ordinaryUser, environment: environment,
            in: Site.folder)
        #expect(lines(contained) == expected(3), "\(contained)")
    }
}
