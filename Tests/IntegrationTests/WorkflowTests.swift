import Foundation
import Testing

/// Workflow engines that call this program: the real ones, as an ordinary user.
@Suite(.enabled(if: Site.isPrepared && Site.mayFUSE && !Site.clients.isEmpty, "needs scripts/clients.sh"))
struct WorkflowTests {
    /// A folder with this program under the names that the engines look for.
    private func folder(_ name: String = #function) throws -> (scratch: Scratch, environment: [String: String]) {
        let scratch = try Scratch(name)
        for folder in ["bin", "home"] {
            mkdir(scratch.file(folder), 0o777)
            chmod(scratch.file(folder), 0o777)
        }
        for name in ["singularity", "apptainer"] { symlink(Site.program, scratch.file("bin/\(name)")) }
        let environment = [
            "PATH": "\(scratch.file("bin")):\(Site.clients)/bin:/usr/local/bin:/usr/bin:/bin", "HOME": scratch.file("home"),
            "SINGULARITY_NOHTTPS": "1", "SINGULARITY_CACHEDIR": scratch.file("home/cache"),
        ]
        return (scratch, environment)
    }

    @Test func snakemakeRunsARuleInAContainer() throws {
        let (scratch, environment) = try folder()
        let snakefile = """
            rule all:
                input: "out.txt"
            rule one:
                output: "out.txt"
                container: "\(try Site.debian.get())"
                shell: "head -1 /etc/os-release > {output}; echo $SINGULARITY_NAME >> {output}"
            """
        try scratch.write("Snakefile", Array(snakefile.utf8))
        let result = try Run.program(
            Site.clients + "/bin/snakemake", ["-c1", "--use-singularity", "--singularity-args", "--bind \(scratch.path)"],
            as: .ordinaryUser,
            environment: environment, in: scratch.path)
        #expect(result.status == 0, "\(result)")
        let text = try String(contentsOfFile: scratch.file("out.txt"), encoding: .utf8)
        #expect(text.contains("Debian") && text.contains("debian.sif"))
        // From an address, pulled by the engine into its own folder.
        try scratch.write(
            "Snakefile", Array(snakefile.replacing(try Site.debian.get(), with: "docker://\(Site.registry)/debian:latest").utf8))
        try FileManager.default.removeItem(atPath: scratch.file("out.txt"))
        let pulled = try Run.program(
            Site.clients + "/bin/snakemake", ["-c1", "--use-singularity"], as: .ordinaryUser, environment: environment, in: scratch.path)
        #expect(pulled.status == 0, "\(pulled)")
        #expect(try String(contentsOfFile: scratch.file("out.txt"), encoding: .utf8).contains("Debian"))
    }

    @Test func cwltoolRunsAToolInAContainer() throws {
        let (scratch, environment) = try folder()
        let tool = """
            cwlVersion: v1.2
            class: CommandLineTool
            requirements:
              DockerRequirement:
                dockerPull: \(Site.registry)/debian:latest
              EnvVarRequirement:
                envDef: {GREETING: hello}
            inputs:
              file: {type: File, inputBinding: {position: 1}}
            arguments: [sh, -c, 'cat "$0"; head -1 /etc/os-release; echo $GREETING; id -u; pwd']
            outputs:
              out: stdout
            stdout: out.txt
            """
        try scratch.write("tool.cwl", Array(tool.utf8))
        try scratch.write("input.txt", Array("from outside\n".utf8))
        let result = try Run.program(
            Site.clients + "/bin/cwltool", ["--singularity", "tool.cwl", "--file", "input.txt"], as: .ordinaryUser,
            environment: environment, in: scratch.path)
        #expect(result.status == 0, "\(result)")
        let text = (try? String(contentsOfFile: scratch.file("out.txt"), encoding: .utf8)) ?? ""
        #expect(text.hasPrefix("from outside\nPRETTY_NAME=\"Debian") && text.contains("\nhello\n"), "\(text)")
    }

    @Test func spythonUsesImagesAndInstances() throws {
        let (scratch, environment) = try folder()
        let script = """
            from spython.main import Client
            image = "\(try Site.debian.get())"
            print(Client.version())
            print(Client.execute(image, ["head", "-1", "/etc/os-release"]))
            print("deb" in str(Client.inspect(image)))
            one = Client.instance(image, name="spy")
            print([i.name for i in Client.instances(return_json=False)])
            print(Client.execute(one, ["echo", "inside"]))
            one.stop()
            """
        let file = try scratch.write("script.py", Array(script.utf8))
        let result = try Run.program(Site.clients + "/bin/python", [file], as: .ordinaryUser, environment: environment, in: scratch.path)
        #expect(result.status == 0, "\(result)")
        #expect(
            result.output.contains("singularity version 5.0.0") && result.output.contains("Debian") && result.output.contains("'spy'")
                && result.output.contains("inside"), "\(result)")
    }

    @Test func nextflowsCommandsWork() throws {
        let (scratch, environment) = try folder()
        // What its wrapper scripts send: an empty environment, names without .sif, quiet pulls.
        let script = """
            set -e
            bash -c 'singularity pull --nohttps --name deb.img.pulling.1700000000 docker://\(Site.registry)/debian:latest > /dev/null'
            mv deb.img.pulling.1700000000 deb.img
            set +u
            env - PATH="$PATH" ${TMP:+SINGULARITYENV_TMP="$TMP"} SINGULARITYENV_NXF_TASK_WORKDIR=/work singularity exec --no-home --pid -B "$PWD" deb.img /bin/bash -c "cd $PWD; echo \\$NXF_TASK_WORKDIR; head -1 /etc/os-release; ls"
            """
        let result = try Run.program("/bin/bash", ["-c", script], as: .ordinaryUser, environment: environment, in: scratch.path)
        #expect(result.output.hasPrefix("/work\nPRETTY_NAME=\"Debian") && result.output.contains("deb.img"), "\(result)")
    }
}
