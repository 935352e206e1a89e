import Foundation
import Testing

/// What goes wrong, and what is said of it: each message names the culprit, the cause, and what to do.
@Suite(.enabled(if: Site.isPrepared && Site.mayFUSE, "needs scripts/test.sh and /dev/fuse"))
struct FailureTests {
    /// A folder with an image and things that are none.
    private static let place: Result<String, any Error> = Result {
        let folder = Site.folder + "/failures"
        for name in ["root/bin", "root/etc", "root/tmp", "root/dev", "root/proc", "root/sys", "d", "empty"] {
            try FileManager.default.createDirectory(atPath: "\(folder)/\(name)", withIntermediateDirectories: true)
        }
        try FileManager.default.copyItem(atPath: "/bin/busybox", toPath: folder + "/root/bin/busybox")
        for name in ["sh", "true", "cat"] { symlink("busybox", "\(folder)/root/bin/\(name)") }
        let built = try Run.singularity("build", folder + "/i.sif", folder + "/root")
        try #require(built.status == 0, "\(built)")
        try FileManager.default.removeItem(atPath: folder + "/root")
        try Data(contentsOf: URL(filePath: folder + "/i.sif")).prefix(20_000).write(to: URL(filePath: folder + "/cut.sif"))
        try Data("hello\n".utf8).write(to: URL(filePath: folder + "/text"))
        try Data("Bootstrap: docker\nFrom: a\n%psot\n    true\n".utf8).write(to: URL(filePath: folder + "/typo.def"))
        try Data("Bootstrap: dokcer\nFrom: a\n".utf8).write(to: URL(filePath: folder + "/agent.def"))
        try Data("Bootstrap: localimage\nFrom: i.sif\n%post\n    exit 3\n".utf8).write(to: URL(filePath: folder + "/fails.def"))
        try Data("Bootstrap: localimage\nFrom: i.sif\n%files\n    nowhere /x\n".utf8).write(to: URL(filePath: folder + "/files.def"))
        try Data("Bootstrap: localimage\n".utf8).write(to: URL(filePath: folder + "/nofrom.def"))
        _ = try Run.program("/bin/chmod", ["-R", "a+rwX", folder])
        return folder
    }

    /// Command lines, words separated by blanks, and what the message must say.
    static let failures: [(String, [String])] = [
        // The command line itself
        ("nonsense", ["unknown command \"nonsense\"", "singularity --help"]), ("exec", ["requires at least 2 arg(s)", "Usage:"]),
        ("build x.sif", ["accepts 2 arg(s), received 1", "Usage:"]), ("exec --nonsense i.sif true", ["unknown flag: --nonsense"]),
        ("pull", ["requires at least 1 arg(s)"]), ("completion tcsh", ["\"tcsh\"", "bash, zsh, fish"]),
        ("--config none exec i.sif true", ["configuration file none", "No such file"]),
        // Images
        ("exec none.sif true", ["none.sif", "no such file or directory"]),
        ("exec text true", ["text", "neither SIF, SquashFS nor ext3"]), ("exec cut.sif true", ["cut.sif is damaged"]),
        ("exec empty true", ["\"true\": executable file not found"]), ("exec i.sif nothing", ["\"nothing\"", "$PATH of the container"]),
        ("exec i.sif /etc", ["\"/etc\"", "it is a directory", "name a program"]),
        ("run --app none i.sif", ["the container application: none"]), ("exec --app ../x i.sif true", ["--app ../x is not the name"]),
        ("exec instance://none true", ["no instance found with name none", "instance list"]),
        // Addresses
        ("exec docker://127.0.0.1:1/x true", ["127.0.0.1:1: connection refused", "check the name, the network and the proxy"]),
        ("exec docker:// true", ["invalid image reference \"\""]), ("exec docker://a/B:c true", ["a/B:c", "must be lowercase"]),
        ("exec --offline docker://127.0.0.1:1/x true", ["not in the cache", "pull it once without --offline"]),
        ("exec nonsense://x true", ["Unsupported transport type: nonsense", "there are docker://"]),
        ("exec oci:/nowhere true", ["/nowhere", "no index.json"]), ("exec oci:d true", ["d: it has no index.json"]),
        ("exec oci-archive:text true", ["text", "not a valid tar archive"]), ("exec docker-archive:none true", ["none", "No such file"]),
        ("exec http://127.0.0.1:1/x.sif true", ["127.0.0.1:1: connection refused"]),
        ("exec oras://127.0.0.1:1/x:y true", ["127.0.0.1:1: connection refused"]),
        ("exec library://x/y/z true", ["no container library is set", "--library"]),
        ("pull i.sif docker://127.0.0.1:1/a", ["\"i.sif\" - will not overwrite", "--force"]),
        ("pull x.sif nonsense://a", ["Unsupported transport type: nonsense"]),
        // Mounts
        ("exec --bind /nowhere i.sif true", ["the host has no /nowhere", "create it or leave the bind out"]),
        ("exec --bind /tmp:rel i.sif true", ["--bind /tmp:rel", "an absolute path"]),
        ("exec --bind /tmp:/mnt:rx i.sif true", ["rx is not a valid bind option", "there are ro, rw"]),
        ("exec --bind /tmp:/ i.sif true", ["--bind /tmp:/ would hide the whole image"]),
        ("exec --mount type=tmpfs,dst=/x i.sif true", ["the type \"tmpfs\" is not supported", "there is bind"]),
        ("exec --mount src=/tmp i.sif true", ["--mount src=/tmp", "an absolute destination are needed"]),
        (
            "exec --pwd /nowhere i.sif true",
            ["failed to set working directory /nowhere: No such file", "--pwd names a directory of the container"]
        ),
        ("exec --home nowhere:rel i.sif true", ["--home nowhere:rel", "absolute path"]),
        ("exec --home a:b:c i.sif true", ["--home a:b:c: give source"]),
        ("exec --workdir /nowhere --scratch /x i.sif true", ["--workdir /nowhere", "create it first"]),
        ("exec --scratch rel i.sif true", ["--scratch rel", "an absolute path"]),
        ("exec --fusemount x i.sif true", ["--fusemount x: give TYPE:COMMAND MOUNTPOINT"]),
        ("exec --overlay none i.sif true", ["--overlay none: there is no such", "overlay create"]),
        ("exec --overlay text i.sif true", ["text", "neither SIF, SquashFS nor ext3"]),
        ("exec --overlay d --overlay empty i.sif true", ["--overlay empty: only one overlay can be written", "add :ro"]),
        ("exec --writable i.sif true", ["immutable image", "overlay create", "--writable-tmpfs"]),
        ("exec --data none.sif:/mnt i.sif true", ["none.sif", "No such file"]),
        ("exec --data text:/mnt i.sif true", ["text", "neither SIF"]), ("exec --data x i.sif true", ["--data x: give FILE:DIRECTORY"]),
        // Environment
        ("exec --env novalue i.sif true", ["novalue must be formatted as key=value"]),
        ("exec --env-file none i.sif true", ["--env-file none: there is no such file"]),
        // Namespaces and networks
        ("exec --hostname a_b i.sif true", ["--hostname a_b", "use letters, digits"]),
        ("exec --network nonsense i.sif true", ["--network nonsense", "none, slirp4netns or pasta"]),
        ("exec --net --network-args portmap=x i.sif true", ["portmap=x: give portmap=HOSTPORT:CONTAINERPORT"]),
        ("exec --publish 0:1 i.sif true", ["--publish 0:1: give HOSTPORT:CONTAINERPORT"]),
        ("exec --network none --publish 1:1 i.sif true", ["the network none has no ports"]),
        ("exec --group ../x i.sif true", ["--group ../x is not a name", "use letters"]),
        ("exec --netns-path /nowhere i.sif true", ["--netns-path /nowhere", "No such file", "/proc/PID/ns/net"]),
        ("exec --dns x i.sif true", ["--dns x is not an IP address"]),
        // Rights, devices, limits
        ("exec --security x i.sif true", ["--security x: give uid:N"]),
        ("exec --security uid:x i.sif true", ["x is not a user or group id"]),
        ("exec --security seccomp:none i.sif true", ["seccomp:none: there is no such file"]),
        ("exec --allow-setuid i.sif true", ["--allow-setuid requires root"]),
        ("exec --keep-privs i.sif true", ["--keep-privs requires root"]),
        ("exec --oci i.sif true", ["--oci: there is no OCI mode"]), ("exec --device x i.sif true", ["--device x: give VENDOR/CLASS=NAME"]),
        ("exec --device a.b/c=0 --cdi-dirs d i.sif true", ["a.b/c=0: there is no such device"]),
        ("exec --cpus 0 i.sif true", ["--cpus 0", "0.01 - "]), ("exec --memory x i.sif true", ["--memory: invalid memory value: x"]),
        ("exec --pids-limit x i.sif true", ["--pids-limit x: give a number"]),
        ("exec --apply-cgroups none i.sif true", ["--apply-cgroups none", "No such file"]),
        ("exec --apply-cgroups text i.sif true", ["--apply-cgroups text", "line 1"]),
        // Builds
        ("build x.sif none.def", ["none.def does not exist", "docker://"]),
        ("build x.sif text", ["text:1:1", "a header line is \"key: value\"", "  1 | hello"]),
        ("build x.sif typo.def", ["typo.def:3", "%psot", "%post"]), ("build x.sif agent.def", ["dokcer", "docker"]),
        ("build x.sif nofrom.def", ["From"]), ("build x.sif fails.def", ["%post", "fails.def", "3"]),
        ("build x.sif files.def", ["files.def:4", "nowhere: no such file", "relative names start at"]),
        ("build x.sif docker://127.0.0.1:1/a", ["127.0.0.1:1: connection refused"]),
        ("build /nowhere/x.sif d", ["there is no directory /nowhere", "create it first"]),
        ("build --sandbox i.sif d", ["i.sif is a file", "name a directory"]),
        ("build --compression x x.sif d", ["--compression x: choose zstd"]), ("build --level 99 x.sif d", ["--level 99", "1 to 22"]),
        ("build --block-size 3 x.sif d", ["--block-size 3", "a power of two"]),
        ("build --build-arg x x.sif d", ["--build-arg x: give NAME=value"]),
        ("build --format x x.sif d", ["--format x: choose sif"]), ("build --encrypt x.sif d", ["--encrypt needs a key", "--passphrase"]),
        ("build --pem-path none x.sif d", ["could not read the key none"]),
        // Looking into images
        ("inspect none.sif", ["none.sif", "no such file"]), ("inspect text", ["text", "neither SIF"]),
        ("inspect --app none i.sif", ["no app none", "--list-apps"]), ("inspect --sbom --format x i.sif", ["--format x: choose spdx"]),
        ("sbom diff i.sif none", ["none: no such file"]), ("explain mpi text", ["text", "neither SIF"]),
        ("explain mpi i.sif", ["the image has no MPI library", "install one"]),
        ("sif list none", ["none", "No such file"]), ("sif list text", ["text is not a SIF image"]),
        ("sif info x i.sif", ["\"x\" is not a number"]), ("sif info 99 i.sif", ["object not found"]),
        ("sif del 99 i.sif", ["object not found"]),
        ("sif add i.sif text", ["--datatype is needed, with a number from 1 to 11"]),
        ("sif new i.sif", ["i.sif is there already", "--force"]),
        // Trust
        ("exec --verify i.sif true", ["its signatures are not accepted"]),
        ("exec --verify=none.pem i.sif true", ["none.pem", "neither a fingerprint nor a file", "nothing is run"]),
        ("sign i.sif", ["keyring is empty", "key newpair"]), ("sign --key none i.sif", ["open none: no such file"]),
        ("verify i.sif", ["signature not found"]), ("verify text", ["text is not a SIF image"]),
        ("key import none", ["none: No such file"]), ("key import text", ["text: these are no OpenPGP keys"]),
        ("key remove x", ["x is not a fingerprint of 40 digits"]), ("key pull x", ["a keyid(16 chars) or a full fingerprint(40 chars)"]),
        ("key search --url http://127.0.0.1:1 x", ["127.0.0.1:1 gives no answer: connection refused", "check its address"]),
        ("recipient list i.sif", ["no encrypted partition"]),
        // Data
        ("overlay create --size x x.img", ["--size x: give a number of MiB"]),
        ("overlay info i.sif", ["has no writable partition", "overlay create"]),
        ("overlay check text", ["neither a SIF nor an ext file system"]),
        ("overlay restore i.sif none", ["there is no snapshot none"]), ("data create i.sif", ["i.sif is there already"]),
        ("data package x.sif none", ["none", "to be packaged"]),
        ("data export i.sif out", ["i.sif is no data container", "build --sandbox"]),
        ("data attach none x.sif:/mnt", ["no instance none runs", "instance list"]),
        ("commit i.sif", ["give a name for the new image, or --replace"]),
        ("commit i.sif x.sif", ["has no writable partition", "overlay create"]),
        ("commit --overlay none i.sif x.sif", ["none: No such file"]),
        ("commit --keep --overlay d i.sif x.sif", ["--keep is for --replace"]), ("diff none i.sif", ["none: no such file"]),
        ("history text", ["text is not a SIF"]), ("rollback i.sif", ["no former image", "commit --replace --keep"]),
        ("copy none x", ["none: No such file"]),
        // Instances
        ("instance start i.sif a/b", ["a/b is not a name for an instance", "use letters"]),
        ("instance start none.sif a", ["none.sif", "no such file"]),
        ("instance start --restart x i.sif a", ["--restart x: choose no, on-failure"]),
        ("instance start --health-cmd true --health-interval x i.sif a", ["--health-interval x: give a time such as"]),
        ("instance start --log-max-size 1 i.sif a", ["--log-max-size 1: give a size of 4096 bytes or more"]),
        ("instance stop none", ["no instance found with name none"]),
        ("instance stop", ["no instance name or pattern was given", "--all"]),
        ("instance stop --signal XX --all", ["--signal XX: there is no such signal"]),
        ("instance logs none", ["no instance found with name none", "instance list"]),
        ("instance health none", ["no instance none runs", "instance list"]),
        // The rest
        ("cache clean --type x", ["--type x: choose of"]),
        ("cache clean --older-than x", ["--older-than x: give a number", "such as 30d"]),
    ]

    @Test(arguments: failures) func eachFailureSaysWhatToDo(_ line: String, _ parts: [String]) throws {
        let folder = try Self.place.get()
        let scratch = try Scratch("failure")
        let before = Set(try FileManager.default.contentsOfDirectory(atPath: folder))
        let result = try Run.program(
            Site.program, line.split(separator: " ").map(String.init), as: .ordinaryUser,
            environment: [
                "SINGULARITY_CONFIGDIR": scratch.file("conf"), "SINGULARITY_CACHEDIR": scratch.file("cache"),
                "SINGULARITY_KEYSDIR": scratch.file("keys"),
            ], in: folder, timeout: 30)
        // Commands of keys end with 2, as the peers' do.
        #expect([1, 2, 255].contains(result.status), "\(line): \(result)")
        let said = result.error + result.output
        for part in parts { #expect(said.contains(part), "\(line): \(part) is missing in \(said)") }
        // Nothing of this program's inside, and nothing half-made.
        for word in ["Optional(", "Error(", "Runtime.", "NSError", "Fatal error"] { #expect(!said.contains(word), "\(line): \(said)") }
        let made = Set(try FileManager.default.contentsOfDirectory(atPath: folder)).subtracting(before)
        #expect(made.filter { !$0.hasSuffix(".former") }.isEmpty, "\(line): \(made)")
    }

    @Test func thereAreManyOfThem() { #expect(Self.failures.count >= 100) }

    @Test func aShellThatIsNotThereIsTold() throws {
        let folder = try Self.place.get()
        let result = try Run.program(
            Site.program, ["shell", "--shell", "/nowhere", "i.sif"], as: .ordinaryUser, input: "echo in $0\n", in: folder)
        #expect(result.output == "in /bin/sh\n" && result.error.contains("WARNING: --shell /nowhere"), "\(result)")
    }
}
