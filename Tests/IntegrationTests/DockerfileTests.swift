import Foundation
import Testing

/// Stages that begin with a Dockerfile, built by a real buildah; as root, as buildah leaves directories of a user behind in /tmp.
@Suite(
    .enabled(
        if: Site.isPrepared && Site.isRoot && FileManager.default.fileExists(atPath: "/usr/bin/buildah"),
        "needs scripts/test.sh, root and buildah"))
struct DockerfileTests {
    private static let dockerfile = """
        FROM scratch AS base
        COPY busybox /bin/busybox
        COPY busybox /bin/sh
        COPY busybox /bin/cat
        ARG WHO=nobody
        RUN echo "made by $WHO" > /made
        ENV FROM_DOCKER=yes
        FROM base AS last
        ENTRYPOINT ["/bin/busybox", "echo", "entry"]
        """

    private let recipe: Recipe
    private let environment: [String: String]

    init() throws {
        recipe = try Recipe(Recipe.Builder.possible[0], name: "dockerfile")
        // Its store is the test's own.
        let folder = recipe.scratch.path
        try recipe.scratch.write(
            "storage.conf", Array("[storage]\ndriver = \"vfs\"\ngraphroot = \"\(folder)/store\"\nrunroot = \"\(folder)/run\"\n".utf8))
        environment = [
            "CONTAINERS_STORAGE_CONF": recipe.file("storage.conf"), "HOME": folder, "XDG_RUNTIME_DIR": folder,
            "BUILDAH_ISOLATION": "chroot",
        ]
        try FileManager.default.createDirectory(atPath: recipe.file("context"), withIntermediateDirectories: true)
        try FileManager.default.copyItem(atPath: "/bin/busybox", toPath: recipe.file("context/busybox"))
        try recipe.scratch.write("context/Dockerfile", Array(Self.dockerfile.utf8))
        try recipe.scratch.write("context/Broken", Array("FROM scratch\nCOPY nothing /\n".utf8))
    }

    private func build(_ header: String, environment more: [String: String] = [:]) throws -> Run {
        try recipe.build(
            "a.sif", "Bootstrap: dockerfile\nFrom: \(recipe.file("context"))\n\(header)\n%post\n    cp /made /copied\n", options: ["-F"],
            environment: environment.merging(more) { $1 })
    }

    @Test func aStageBeginsWithADockerfile() throws {
        let built = try build("BuildArgs: WHO=tester")
        try #require(built.status == 0, "\(built)")
        #expect(try recipe.text("a.sif", "/copied") == "made by tester\n")
        let place = recipe.identity == .root ? Run.Identity.caller : .ordinaryUser
        #expect(try Run.program(Site.program, ["run", recipe.file("a.sif"), "more"], as: place).output == "entry more\n")
        #expect(
            try Run.program(Site.program, ["exec", recipe.file("a.sif"), "sh", "-c", "echo $FROM_DOCKER"], as: place).output == "yes\n")
        // What the program says is seen while it works.
        #expect(built.error.contains("COPY busybox /bin/sh"), "\(built)")
        let earlier = try build("Target: base\nBuildArgs: WHO=other")
        try #require(earlier.status == 0, "\(earlier)")
        #expect(try recipe.text("a.sif", "/copied") == "made by other\n")
    }

    @Test func whatIsWrongWithADockerfileIsSaid() throws {
        let broken = try build("Filename: Broken")
        #expect(broken.status == 255 && broken.error.contains("context/Broken") && broken.error.contains("could not build it"), "\(broken)")
        let missing = try build("Filename: None")
        #expect(missing.status == 255 && missing.error.contains("there is no such Dockerfile"), "\(missing)")
    }

    /// Where the program cannot be run, its package is named.
    @Test func anAgentWithoutItsToolNamesThePackage() throws {
        try recipe.scratch.write("a.def", Array("Bootstrap: dockerfile\nFrom: \(recipe.file("context"))\n".utf8))
        let hide = "for f in buildah buildctl; do [ ! -e /usr/bin/$f ] || mount --bind /dev/null /usr/bin/$f; done; exec \"$@\""
        let result = try Run.program(
            "/usr/bin/unshare", ["-m", "sh", "-c", hide, "sh", Site.program, "build", "-F", recipe.file("a.sif"), recipe.file("a.def")],
            environment: recipe.variables(environment))
        #expect(result.status == 255 && result.error.contains("install the package buildah"), "\(result)")
    }
}
