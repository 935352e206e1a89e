import Foundation
import Testing

/// The names of a site's users and groups in containers. The host's name service asks a source that is in no file of a system's
/// own (libnss-extrausers), for these tests alone: its configuration is changed in a mount namespace.
@Suite(.enabled(if: Site.isPrepared && Site.mayFUSE && Site.isRoot, "needs root"), .serialized)
final class AccountNameTests {
    private let folder: Scratch

    init() throws {
        folder = try Scratch()
        _ = try folder.write("nsswitch.conf", Array("passwd: files extrausers\ngroup: files extrausers\n".utf8))
        var users = "ada:x:5001:6000:Ada Lovelace:/home/ada:/bin/sh\ngrace:x:5002:6000::/home/grace:/bin/sh\n"
        // What an image has itself, and what is of the system, is not the host's.
        users += "daemon:x:5003:6000:of the host::\nhostonly:x:499:6000:::\n"
        var groups = "lab:x:6000:\n"
        for number in 1...1000 { groups += "project\(number):x:\(6000 + number):ada,grace\n" }
        try FileManager.default.createDirectory(atPath: folder.path + "/extrausers", withIntermediateDirectories: true)
        _ = try folder.write("extrausers/passwd", Array(users.utf8))
        _ = try folder.write("extrausers/group", Array(groups.utf8))
        _ = try folder.write("extrausers/shadow", [])
        chmod(folder.path, 0o755)
    }

    /// Runs a script on a host with such a name service.
    private func onSite(_ script: String, as user: String? = nil) throws -> Run {
        let prefix = user.map { "setpriv --reuid \($0) --regid \($0) --init-groups " } ?? ""
        let text = """
            set -e
            mount --bind "$1/nsswitch.conf" /etc/nsswitch.conf
            mkdir -p /var/lib/extrausers
            mount --bind "$1/extrausers" /var/lib/extrausers
            exec \(prefix)sh -c "$2"
            """
        return try Run.program(
            "/usr/bin/unshare", ["-m", "sh", "-c", text, "sh", folder.path, script],
            environment: ["HOME": "/nowhere", "SINGULARITY": Site.program, "IMAGE": Site.debian.get()])
    }

    @Test(arguments: ["root", Site.user])
    func aSitesUsersAndGroupsHaveTheirNamesInContainers(user: String) throws {
        let inside = """
            getent passwd ada; getent passwd 5002; getent group project7 6000
            id -G grace | tr ' ' '\\n' | grep -c .
            getent passwd daemon | cut -d: -f3; getent passwd 499 hostonly; echo $?; getent passwd nobody-knows; echo $?
            """
        let run = try onSite("\"$SINGULARITY\" exec \"$IMAGE\" sh -c '\(inside.replacingOccurrences(of: "'", with: "'\\''"))'", as: user)
        #expect(
            run.output == """
                ada:x:5001:6000:Ada Lovelace:/home/ada:/bin/sh
                grace:x:5002:6000::/home/grace:/bin/sh
                project7:x:6007:ada,grace
                lab:x:6000:
                1001
                1
                2
                2

                """, "\(run)")
        #expect(run.error.isEmpty, "\(run)")
    }

    @Test func whoIsInTheDirectoryAloneIsKnownInTheContainer() throws {
        let run = try onSite(
            "exec setpriv --reuid 5001 --regid 6000 --clear-groups \"$SINGULARITY\" exec \"$IMAGE\" sh -c 'whoami; id -gn; id -un 5002'")
        #expect(run.output == "ada\nlab\ngrace\n", "\(run)")
    }

    @Test func closedContainersAndThoseThatWantNoneHaveNone() throws {
        for options in ["--containall", "--fakeroot", "--no-mount accounts", "--config $1/no.conf"] {
            _ = try folder.write("no.conf", Array("host accounts = no\n".utf8))
            let words = options.replacingOccurrences(of: "$1", with: folder.path).replacingOccurrences(of: "--config", with: "")
            let global = options.hasPrefix("--config") ? "--config" + words : ""
            let run = try onSite(
                "\"$SINGULARITY\" \(global) exec \(global.isEmpty ? words : "") \"$IMAGE\" sh -c 'getent passwd ada; echo $?; ls /run/nscd'",
                as: Site.user)
            #expect(run.output == "2\n", "\(options): \(run)")
        }
        // On a host whose accounts are all in its files nothing is started.
        let plain = try Run.singularity("exec", "--explain", Site.debian.get(), "true")
        #expect(!plain.output.contains("nscd"), "\(plain)")
        let asked = try onSite("\"$SINGULARITY\" exec --explain \"$IMAGE\" true")
        #expect(asked.output.contains("on /var/run/nscd") && asked.output.contains("--no-mount accounts"), "\(asked)")
    }

    private var hasEnded: Bool {
        Wait.until(10) { (try? Run.program("/usr/bin/pgrep", ["-r", "S,R,D", "singularity-acc"]))?.status == 1 }
    }

    /// Twenty containers that ask at once, of which each has its own files; what asks other things gets no answer, and the next
    /// question one.
    @Test func oneProcessAnswersAllContainersAndEndsWithTheLast() throws {
        // Those of other tests' hosts.
        #expect(hasEnded)
        let inside = "for i in 1 2 3; do getent passwd ada grace || echo failed; done; getent hosts localhost >/dev/null || echo no hosts"
        let run = try onSite(
            "for i in $(seq 20); do \"$SINGULARITY\" exec \"$IMAGE\" sh -c '\(inside)' & done; wait; sleep 1; pgrep -c -r S,R,D singularity-acc",
            as: Site.user)
        let lines = run.output.split(separator: "\n")
        #expect(lines.count == 121 && lines.last == "1", "\(run)")
        #expect(!run.output.contains("no hosts") && !run.output.contains("failed"), "\(run)")
        #expect(hasEnded)
    }

    /// Junk at the socket, and its server killed: programs go on with the files that they have, and the next container has
    /// a server again.
    @Test func aServerThatIsAskedNonsenseOrKilledHarmsNobody() throws {
        let script = """
            import glob, os, socket, struct
            def ask(data):
                s = socket.socket(socket.AF_UNIX)
                s.connect([p for f in ('/tmp/.singularity-*', '/run/user/*/singularity') for p in glob.glob(f + '/accounts-*.d/socket')][0])
                s.sendall(data); s.shutdown(socket.SHUT_WR)
                try: return s.recv(4096)
                except ConnectionResetError: return b''
            for data in [b'', b'x', b'\\xff' * 4096, struct.pack('3i', 2, 1, 1024), struct.pack('3i', 2, 99, 2) + b'a\\0']:
                assert ask(data) == b'', data
            assert b'Ada Lovelace' in ask(struct.pack('3i', 2, 1, 5) + b'5001\\0')
            print('asked')
            """
        let path = try folder.write("ask.py", Array(script.utf8))
        let run = try onSite(
            """
            "$SINGULARITY" exec "$IMAGE" sh -c 'getent passwd ada | cut -d: -f1; sleep 2; getent passwd daemon | cut -d: -f3; getent passwd ada; echo $?' &
            sleep 0.5; python3 \(path); pkill -KILL singularity-acc; wait
            "$SINGULARITY" exec "$IMAGE" getent passwd 5002 | cut -d: -f1
            """, as: Site.user)
        #expect(run.output == "ada\nasked\n1\n2\ngrace\n", "\(run)")
    }
}
