import ImageTree
import Runtime

/// The files that every container has in `/.singularity.d`.
enum BaseFiles {
    static let directories = ["dev", "proc", "root", "var/tmp", "tmp", "etc", "sys", "home"]
    static let ownDirectories = ["libs", "actions", "env"]

    /// Links in the root directory, with what they point at.
    static let links = [
        ("singularity", ".singularity.d/runscript"), (".run", ".singularity.d/actions/run"),
        (".exec", ".singularity.d/actions/exec"), (".test", ".singularity.d/actions/test"),
        (".shell", ".singularity.d/actions/shell"), ("environment", ".singularity.d/env/90-environment.sh"),
    ]

    /// Scripts for programs that start the container without the launcher's own handling: path below
    /// `/.singularity.d` and text.
    static let scripts: [(path: String, text: String)] = [
        ("actions/exec", action("exec \"$@\"")),
        (
            "actions/run",
            action(
                """
                if [ -n "${SINGULARITY_APPNAME:-}" ]; then
                    if [ -x "/scif/apps/$SINGULARITY_APPNAME/scif/runscript" ]; then
                        exec "/scif/apps/$SINGULARITY_APPNAME/scif/runscript" "$@"
                    fi
                    echo "No run script for the app $SINGULARITY_APPNAME" 1>&2
                    exit 1
                elif [ -x /.singularity.d/runscript ]; then
                    exec /.singularity.d/runscript "$@"
                fi
                exec /bin/sh "$@"
                """)
        ),
        (
            "actions/shell",
            action(
                """
                for shell in "${SINGULARITY_SHELL:-}" /bin/bash /bin/sh; do
                    [ -n "$shell" ] && [ -x "$shell" ] || continue
                    SHELL="$shell"
                    export SHELL
                    [ "$shell" = /bin/bash ] && exec "$shell" --norc "$@"
                    exec "$shell" "$@"
                done
                echo "No shell was found in the container" 1>&2
                exit 1
                """)
        ),
        (
            "actions/test",
            action(
                """
                if [ -n "${SINGULARITY_APPNAME:-}" ] && [ -x "/scif/apps/$SINGULARITY_APPNAME/scif/test" ]; then
                    exec "/scif/apps/$SINGULARITY_APPNAME/scif/test" "$@"
                elif [ -x /.singularity.d/test ]; then
                    exec /.singularity.d/test "$@"
                fi
                echo "No test script in the container" 1>&2
                """)
        ),
        (
            "actions/start",
            action(
                """
                kill -CONT 1
                if [ -x /.singularity.d/startscript ]; then
                    exec /.singularity.d/startscript "$@"
                fi
                """)
        ),
        ("env/01-base.sh", "#!/bin/sh\n# Sourced first; the files of this directory are sourced in the order of their names.\n"),
        ("env/90-environment.sh", "#!/bin/sh\n# Variables of the container; sourced whenever it starts.\n"),
        ("env/94-appsbase.sh", ""),
        (
            "env/95-apps.sh",
            """
            #!/bin/sh
            if [ -n "${SINGULARITY_APPNAME:-}" ]; then
                if [ ! -d "/scif/apps/$SINGULARITY_APPNAME" ]; then
                    echo "Could not locate the container application: $SINGULARITY_APPNAME" 1>&2
                    exit 1
                fi
                SCIF_APPS=/scif/apps
                SCIF_APPROOT="/scif/apps/$SINGULARITY_APPNAME"
                export SCIF_APPS SCIF_APPROOT
                PATH="/scif/apps/$SINGULARITY_APPNAME:/scif/apps/singularity:$PATH"
                [ -d "$SCIF_APPROOT/bin" ] && PATH="$SCIF_APPROOT/bin:$PATH"
                if [ -d "$SCIF_APPROOT/lib" ]; then
                    LD_LIBRARY_PATH="$SCIF_APPROOT/lib:${LD_LIBRARY_PATH:-}"
                    export LD_LIBRARY_PATH
                fi
                export PATH
                for file in 01-base.sh 90-environment.sh; do
                    [ -f "$SCIF_APPROOT/scif/env/$file" ] && . "$SCIF_APPROOT/scif/env/$file"
                done
            fi

            """
        ),
        (
            "env/99-base.sh",
            """
            #!/bin/sh
            LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}/.singularity.d/libs"
            PS1="${PS1:-Singularity> }"
            export LD_LIBRARY_PATH PS1

            """
        ),
        (
            "env/99-runtimevars.sh",
            """
            #!/bin/sh
            if [ -n "${SING_USER_DEFINED_PREPEND_PATH:-}" ]; then
                PATH="$SING_USER_DEFINED_PREPEND_PATH:$PATH"
            fi
            if [ -n "${SING_USER_DEFINED_APPEND_PATH:-}" ]; then
                PATH="$PATH:$SING_USER_DEFINED_APPEND_PATH"
            fi
            if [ -n "${SING_USER_DEFINED_PATH:-}" ]; then
                PATH="$SING_USER_DEFINED_PATH"
            fi
            unset SING_USER_DEFINED_PREPEND_PATH SING_USER_DEFINED_APPEND_PATH SING_USER_DEFINED_PATH
            export PATH

            """
        ),
        ("startscript", "#!/bin/sh\n# No start script was defined for this container.\n"),
    ]

    /// Whether a container has all of them.
    static func isComplete(in view: RootView) -> Bool {
        let paths =
            directories.map { "/" + $0 } + ["/etc/hosts", "/etc/resolv.conf", "/.singularity.d/runscript"]
            + scripts.map { "/.singularity.d/" + $0.path }
        return paths.allSatisfy { view.resolve($0)?.missing.isEmpty == true }
    }

    /// Adds them to a tree.
    /// - Parameters:
    ///   - time: Unix seconds of what is made.
    ///   - overwrite: scripts that are there are replaced.
    static func fill(_ changes: ChangeTree, time: Int64, overwrite: Bool) throws {
        for path in directories where TreePath.find(path, in: changes.result, followLast: false) == nil {
            try changes.makeDirectory("/" + path)
        }
        for path in ["etc/hosts", "etc/resolv.conf"] where TreePath.find(path, in: changes.result, followLast: false) == nil {
            try changes.replace("/" + path, with: file("", mode: 0o644, time))
        }
        // A link of this name would lead all that follows somewhere else.
        if TreePath.find(".singularity.d", in: changes.result, followLast: false)?.isDirectory != true {
            try changes.replace("/.singularity.d", with: .directory(modificationTime: time))
        }
        for path in ownDirectories { try changes.makeDirectory("/.singularity.d/" + path) }
        for (path, target) in links {
            let there = TreePath.find(path, in: changes.result, followLast: false)
            if let there {
                guard case .symlink(let old) = there.content, old != Array(target.utf8) else { continue }
            }
            try changes.replace(
                "/" + path, with: Node(.symlink(Array(target.utf8)), Attributes(mode: 0o777, modificationTime: time)))
        }
        for (path, text) in scripts + [("runscript", defaultRunscript)] {
            let place = ".singularity.d/" + path
            if !overwrite, TreePath.find(place, in: changes.result, followLast: false) != nil { continue }
            try changes.replace("/" + place, with: file(text, mode: 0o755, time))
        }
    }

    private static func file(_ text: String, mode: UInt16, _ time: Int64) -> Node {
        Node(.file(text.isEmpty ? .empty : .bytes(Array(text.utf8))), Attributes(mode: mode, modificationTime: time))
    }

    static let defaultRunscript = "#!/bin/sh\necho \"There is no runscript defined for this container\"\n"

    private static func action(_ body: String) -> String {
        """
        #!/bin/sh
        for script in /.singularity.d/env/*.sh; do
            [ -f "$script" ] && . "$script"
        done
        \(body)

        """
    }
}
