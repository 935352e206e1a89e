import CommandSyntax
import Glibc
import Linux
import Runtime

/// Options of `exec`, `run`, `shell`, `test` and `instance start`.
enum Running {
    private static let fileSystems = [
        OptionSpec(
            "bind", "B", .array("src[:dest[:opts]]"), "show a path of the host in the container; opts are ro, rw, image-src= and id=",
            environment: ["BIND", "BINDPATH"]),
        OptionSpec("mount", nil, .array("spec"), "show a path of the host: type=bind,src=...,dst=...[,ro]", environment: ["MOUNT"]),
        OptionSpec("home", "H", .value("src[:dest]"), "directory of the host that is the home in the container", environment: ["HOME"]),
        OptionSpec("no-home", nil, .flag, "do not mount the home directory", environment: ["NO_HOME"]),
        OptionSpec(
            "no-mount", nil, .list("names"),
            "leave mounts out: proc, sys, dev, devpts, home, tmp, hostfs, cwd, bind-paths or a destination", environment: ["NO_MOUNT"]),
        OptionSpec("contain", "c", .flag, "a small /dev, and an empty home, /tmp and /var/tmp", environment: ["CONTAIN"]),
        OptionSpec(
            "containall", "C", .flag, "--contain, with PID and IPC namespaces and a clean environment", environment: ["CONTAINALL"]),
        OptionSpec(
            "compat", nil, .flag, "behave more like Docker: --containall --writable-tmpfs --no-init --no-umask --no-eval",
            environment: ["COMPAT"]),
        OptionSpec(
            "closed", nil, .flag,
            "for images that nobody trusts: --containall, no network, no privileges, nothing of the host but what other options show",
            environment: ["CLOSED"]),
        OptionSpec(
            "overlay", "o", .list("path[:ro]"), "lay a directory or an image over the image; changes go into it",
            environment: ["OVERLAY", "OVERLAYIMAGE"]),
        OptionSpec(
            "data", nil, .list("file:dir[:ro]"), "mount a data container on a directory, for reading and writing unless :ro is given",
            environment: ["DATA"]),
        OptionSpec(
            "scratch", "S", .list("directories"), "empty writable directories in the container", environment: ["SCRATCH", "SCRATCHDIR"]),
        OptionSpec(
            "workdir", "W", .value("path"), "directory of the host for what --contain and --scratch keep", environment: ["WORKDIR"]),
        OptionSpec("writable", "w", .flag, "write into a sandbox directory, or the overlay partition of a SIF", environment: ["WRITABLE"]),
        OptionSpec("writable-tmpfs", nil, .flag, "writes go into memory and are thrown away", environment: ["WRITABLE_TMPFS"]),
        OptionSpec("underlay", nil, .flag, "make missing mount points by bind mounts instead of an overlay", environment: ["UNDERLAY"]),
        OptionSpec(
            "unsquash", nil, .flag, "run an unpacked copy of the image", aliases: ["tmp-sandbox"],
            environment: ["UNSQUASH", "TMP_SANDBOX"]),
        OptionSpec(
            "private-mount", nil, .flag, "mount the image for this container alone, not for all of this user and job",
            environment: ["PRIVATE_MOUNT"]),
        OptionSpec(
            "fusemount", nil, .array("type:command path"), "let a program serve a directory of the container", environment: ["FUSESPEC"]),
    ]

    private static let environment = [
        OptionSpec("cleanenv", "e", .flag, "give no variables of the host to the container", environment: ["CLEANENV"]),
        OptionSpec(
            "cwd", nil, .value("path"), "directory of the container to start in", aliases: ["pwd"],
            environment: ["CWD", "PWD", "TARGET_CWD", "TARGET_PWD"]),
        OptionSpec("env", nil, .array("name=value"), "set a variable in the container"),
        OptionSpec("env-file", nil, .array("path"), "set the variables of a shell script in the container", environment: ["ENV_FILE"]),
        OptionSpec("no-env", nil, .list("names"), "variables of the host that are not passed on", environment: ["NOENV"]),
        OptionSpec("no-eval", nil, .flag, "take variables and arguments literally", environment: ["NO_EVAL"]),
        OptionSpec("no-umask", nil, .flag, "start with the umask 0022", environment: ["NO_UMASK"]),
        OptionSpec("app", nil, .value("name"), "an application of the image (SCIF)", environment: ["APP", "APPNAME"]),
        OptionSpec("dns", nil, .list("addresses"), "name servers for the container's resolv.conf", environment: ["DNS"]),
    ]

    private static let namespaces = [
        OptionSpec(
            "userns", "u", .flag, "new user namespace (always for users that are not root)", environment: ["USERNS", "UNSHARE_USERNS"]),
        OptionSpec("fakeroot", "f", .flag, "be root in the container", environment: ["FAKEROOT"]),
        OptionSpec(
            "ignore-subuid", nil, .flag, "with --fakeroot: do not use the ranges of /etc/subuid", environment: ["IGNORE_SUBUID"],
            hidden: true),
        OptionSpec("pid", "p", .flag, "new PID namespace", environment: ["PID", "UNSHARE_PID"]),
        OptionSpec("no-pid", nil, .flag, "no new PID namespace, whatever other options imply", environment: ["NO_PID"]),
        OptionSpec("no-init", nil, .flag, "start no init process in a PID namespace", environment: ["NOSHIMINIT"]),
        OptionSpec("ipc", "i", .flag, "new IPC namespace", environment: ["IPC", "UNSHARE_IPC"]),
        OptionSpec("uts", nil, .flag, "new UTS namespace", environment: ["UTS", "UNSHARE_UTS"]),
        OptionSpec("hostname", nil, .value("name"), "host name of the container (implies --uts)", environment: ["HOSTNAME"]),
        OptionSpec("net", "n", .flag, "new network namespace", environment: ["NET", "UNSHARE_NET"]),
        OptionSpec(
            "network", nil, .list("names"),
            "network of the new namespace: none, slirp4netns, pasta, or for root the names of CNI networks (default bridge)",
            environment: ["NETWORK"]),
        OptionSpec(
            "network-args", nil, .list("arguments"), "for the network, such as portmap=8080:80/tcp", environment: ["NETWORK_ARGS"]),
        OptionSpec(
            "publish", nil, .list("[address:]port:port[/udp]"), "a port of the host leads to a port of the container's own network",
            environment: ["PUBLISH"]),
        OptionSpec(
            "group", nil, .value("name"), "share a private network with the containers of this group, which are reached by their names",
            environment: ["GROUP"]),
        OptionSpec(
            "scheduler", nil, .flag, "the host's commands of Slurm, PBS, LSF and others work in the container; they run on the host",
            environment: ["SCHEDULER"]),
        OptionSpec("netns-path", nil, .value("path"), "join a network namespace", environment: ["NETNS_PATH"]),
    ]

    private static let rights = [
        OptionSpec("add-caps", nil, .list("capabilities"), "capabilities to add", environment: ["ADD_CAPS"]),
        OptionSpec("drop-caps", nil, .list("capabilities"), "capabilities to take away", environment: ["DROP_CAPS"]),
        OptionSpec("keep-privs", nil, .flag, "let root keep all capabilities (root only)", environment: ["KEEP_PRIVS"]),
        OptionSpec("no-privs", nil, .flag, "take all capabilities from root", environment: ["NO_PRIVS"]),
        OptionSpec(
            "verify", nil, .optionalValue("key|policy"),
            "run the image only if it is signed: by a key of a keyring, by this key (fingerprint or PEM file), or as a policy asks",
            environment: ["VERIFY"]),
        OptionSpec("allow-setuid", nil, .flag, "set-user-id programs of the image work (root only)", environment: ["ALLOW_SETUID"]),
        OptionSpec(
            "security", nil, .list("what:value"), "uid:N, gid:N[:N...], selinux:LABEL, apparmor:PROFILE or seccomp:FILE",
            environment: ["SECURITY"]),
    ]

    private static let devices = [
        OptionSpec("nv", nil, .flag, "show NVIDIA's devices and the files of their driver", environment: ["NV"]),
        OptionSpec("nvccli", nil, .flag, "as --nv; the files are found without nvidia-container-cli", environment: ["NVCCLI"]),
        OptionSpec("rocm", nil, .flag, "show AMD's devices and the files of their driver", environment: ["ROCM"]),
        OptionSpec("no-nv", nil, .flag, "not --nv, whatever the configuration says", environment: ["NV_OFF", "NO_NV"], hidden: true),
        OptionSpec(
            "no-rocm", nil, .flag, "not --rocm, whatever the configuration says", environment: ["ROCM_OFF", "NO_ROCM"], hidden: true),
        OptionSpec("device", nil, .list("vendor/class=name"), "devices by their vendor's description (CDI)"),
        OptionSpec("cdi-dirs", nil, .list("directories"), "where the descriptions are (default /etc/cdi and /var/run/cdi)"),
        OptionSpec(
            "containlibs", nil, .list("paths"), "files to show among the libraries of drivers", environment: ["CONTAINLIBS"], hidden: true),
    ]

    private static let limits = [
        OptionSpec("cpus", nil, .value("number"), "processors' worth of time, such as 1.5", environment: ["CPUS"]),
        OptionSpec("cpu-shares", nil, .value("number"), "share of the processors where they are scarce", environment: ["CPU_SHARES"]),
        OptionSpec("cpuset-cpus", nil, .value("list"), "processors to run on, such as 0-3", environment: ["CPUSET_CPUS"]),
        OptionSpec("cpuset-mems", nil, .value("list"), "memory nodes to use", environment: ["CPUSET_MEMS"]),
        OptionSpec("memory", nil, .value("size"), "limit of the memory, such as 2g", environment: ["MEMORY"]),
        OptionSpec("memory-reservation", nil, .value("size"), "soft limit of the memory", environment: ["MEMORY_RESERVATION"]),
        OptionSpec("memory-swap", nil, .value("size"), "limit of memory and swap together, -1 for none", environment: ["MEMORY_SWAP"]),
        OptionSpec("oom-kill-disable", nil, .flag, "never kill for lack of memory", environment: ["OOM_KILL_DISABLE"]),
        OptionSpec("pids-limit", nil, .value("number"), "number of processes, -1 for no limit", environment: ["PIDS_LIMIT"]),
        OptionSpec("blkio-weight", nil, .value("number"), "weight of block I/O, 10 to 1000", environment: ["BLKIO_WEIGHT"]),
        OptionSpec(
            "blkio-weight-device", nil, .list("device:weight"), "weights of single devices", environment: ["BLKIO_WEIGHT_DEVICE"]),
        OptionSpec("apply-cgroups", nil, .value("path"), "limits in a TOML file", environment: ["APPLY_CGROUPS"]),
    ]

    /// Of the peers; each is accepted where it asks for what is so anyway, and refused with a reason otherwise.
    private static let others = [
        OptionSpec("runscript-timeout", nil, .value("duration"), "accepted; nothing waits for scripts", hidden: true),
        OptionSpec("sharens", nil, .flag, "accepted; containers of one job share their user namespace anyway", hidden: true),
        OptionSpec("ignore-fakeroot-command", nil, .flag, "accepted; the command fakeroot is not used", hidden: true),
        OptionSpec("ignore-userns", nil, .flag, "not possible", hidden: true),
        OptionSpec("no-tmp-sandbox", nil, .flag, "accepted", hidden: true), OptionSpec("sif-fuse", nil, .flag, "accepted", hidden: true),
        OptionSpec("no-oci", nil, .flag, "accepted; there is no other mode", hidden: true),
        OptionSpec("no-compat", nil, .flag, "accepted", hidden: true), OptionSpec("no-setgroups", nil, .flag, "accepted", hidden: true),
        OptionSpec("oci", nil, .flag, "not possible", hidden: true),
        OptionSpec("compat32", nil, .flag, "accepted", hidden: true), OptionSpec("intel-hpu", nil, .flag, "not possible", hidden: true),
        OptionSpec("dmtcp-launch", nil, .value("name"), "not possible", hidden: true),
        OptionSpec("dmtcp-restart", nil, .value("name"), "not possible", hidden: true),
        OptionSpec("docker-host", nil, .value("address"), "accepted", hidden: true),
        OptionSpec("proot", nil, .value("path"), "accepted", hidden: true),
    ]

    static let explaining = [
        OptionSpec("explain", nil, .flag, "print what would be done, and why, and do nothing"),
        OptionSpec("json", nil, .flag, "with --explain: print it for programs"),
    ]

    static let options =
        fileSystems + environment + namespaces + rights + devices + limits + others + explaining + EncryptionOptions.opening
        + ImageFetching.options

    static let shellOptions = [
        OptionSpec("shell", "s", .value("path"), "shell of the container to start", environment: ["SHELL"]),
        OptionSpec(
            "login", nil, .flag, "a login shell: the account's own, which reads /etc/profile and the start-up files in the home directory",
            environment: ["LOGIN"]),
    ]
}
