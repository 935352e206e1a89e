import Definition
import Foundation
import Testing

/// Definition files as the peers read them.
struct ParserTests {
    private func parse(_ text: String, _ given: [String] = []) throws -> DefinitionFile {
        var arguments = BuildArguments(given: given.compactMap(BuildArguments.parse))
        return try DefinitionFile(text, name: "a.def", arguments: &arguments)
    }

    private func failure(_ text: String, _ given: [String] = []) -> DefinitionError? {
        do {
            _ = try parse(text, given)
            return nil
        } catch { return error as? DefinitionError }
    }

    @Test func headerKeysAreTakenWithoutCommentsAndCase() throws {
        let file = try parse("# a comment\nBootStrap: docker # which one\nFROM: debian:12\n\n%post\n  echo a\n")
        #expect(file.stages.count == 1)
        #expect(file.stages[0].header.agent == "docker")
        #expect(file.stages[0].header["from"] == "debian:12")
        #expect(file.stages[0].section(.post)?.body == "  echo a\n")
    }

    @Test func headerValuesGoOnBehindABackslash() throws {
        let file = try parse("bootstrap: debootstrap\ninclude: a \\\n  b\nmirrorurl: x\\n\\\ny\n")
        #expect(file.stages[0].header["include"] == "a b")
        #expect(file.stages[0].header["mirrorurl"] == "x\ny")
    }

    @Test func sectionsOfOneNameAreJoinedAndTheLastArgumentsCount() throws {
        let file = try parse("bootstrap: docker\nfrom: a\n%post -c /bin/bash\none\n%POST\ntwo\n  %test\nthree\n")
        #expect(file.stages[0].section(.post)?.body == "one\ntwo\n")
        #expect(file.stages[0].section(.post)?.arguments == "")
        #expect(file.stages[0].section(.test)?.body == "three\n")
    }

    @Test func carriageReturnsAreDropped() throws {
        let file = try parse("bootstrap: docker\r\nfrom: a\r\n%post\r\n  a\r\n")
        #expect(file.stages[0].header["from"] == "a")
        #expect(file.stages[0].section(.post)?.body == "  a\n")
    }

    @Test func aSectionWithoutABodyIsEmpty() throws {
        #expect(try parse("bootstrap: scratch\n%post").stages[0].section(.post)?.body == "")
    }

    @Test func appsComeInTheirOrder() throws {
        let file = try parse("bootstrap: scratch\n%apprun b\nx\n%appinstall a\ny\n%appenv b\nz\n")
        #expect(file.stages[0].apps == ["b", "a"])
        #expect(file.stages[0].section(.appenv, app: "b")?.body == "z\n")
    }

    @Test func filesKeepBlanksInQuotes() throws {
        let file = try parse("bootstrap: scratch\n%files\n# no\n\"a b\" /c\nd\n\n'e f'  \"/g h\"\n")
        #expect(
            file.stages[0].section(.files)?.fileCopies == [
                FileCopy(source: "a b", destination: "/c", line: 4), FileCopy(source: "d", destination: "", line: 5),
                FileCopy(source: "e f", destination: "/g h", line: 7),
            ])
    }

    @Test func filesOfStagesStayApart() throws {
        let file = try parse(
            "bootstrap: scratch\nstage: one\n%post\n\nbootstrap: scratch\n%files from one\n/a\n%files\nb\n%files from one\n/c\n")
        #expect(file.stages.count == 2)
        #expect(file.stages[1].sections.map(\.sourceStage) == ["one", nil])
        #expect(file.stages[1].sections.map(\.body) == ["/a\n/c\n", "b\n"])
    }

    @Test func labelsKeepQuotesAndMayBeEmpty() throws {
        let labels = try parse("bootstrap: scratch\n%labels\n A \"b c\" \nD\n").stages[0].section(.labels)?.labels ?? []
        #expect(labels.map(\.key) == ["A", "D"])
        #expect(labels.map(\.value) == ["\"b c\"", ""])
    }

    // MARK: Build arguments

    @Test func argumentsAreGivenOrHaveDefaults() throws {
        let text = "bootstrap: docker\nfrom: {{ BASE }}:{{TAG}}\n%arguments\nBASE=debian\nTAG=12\n%post\necho {{ TAG }}\n"
        let file = try parse(text, ["TAG=13"])
        #expect(file.stages[0].header["from"] == "debian:13")
        #expect(file.stages[0].section(.post)?.body == "echo 13\n")
        #expect(file.text.contains("from: debian:13"))
    }

    @Test func valuesMayHoldPlaceholders() throws {
        let file = try parse("bootstrap: docker\nfrom: {{ A }}\n%arguments\nA=x-{{ B }}\nB=1\n")
        #expect(file.stages[0].header["from"] == "x-1")
    }

    @Test func commentsKeepTheirPlaceholders() throws {
        let file = try parse("bootstrap: scratch\n%post\n# {{ NONE }}\n#!/bin/{{ A }}\n", ["A=sh"])
        #expect(file.stages[0].section(.post)?.body == "# {{ NONE }}\n#!/bin/sh\n")
    }

    @Test func unusedArgumentsAreKnown() throws {
        var arguments = BuildArguments(fromFiles: [("C", "1")], given: [("A", "1"), ("B", "2")])
        _ = try DefinitionFile("bootstrap: docker\nfrom: {{ A }}\n", name: "a", arguments: &arguments)
        #expect(arguments.unused == ["B", "C"])
    }

    // MARK: Mistakes

    @Test(arguments: [
        ("", 0, 0, "no stages found", nil as String?),
        ("# only\n", 0, 0, "no stages found", nil),
        ("bootstrap: docker\nfrom: a\n%psot\n", 3, 1, "invalid section(s) specified: psot", "%post"),
        ("bootstrap: docker\n  frm: a\n", 2, 3, "invalid header keyword found: frm", "from"),
        ("bootstrap: docker\nnothing\n", 2, 1, "had no val", nil),
        ("bootstrap: docker\nfrom:\n", 2, 1, "header key from had no val", nil),
        ("bootstrap: dockr\nfrom: a\n", 1, 12, "invalid build source dockr", "docker"),
        ("from: a\n%post\n", 2, 1, "no bootstrap specification found", nil),
        ("bootstrap: scratch\n%apprun\n", 2, 8, "could not be split", nil),
        ("bootstrap: scratch\nstage: build\nbootstrap: scratch\n%files from biuld\n/a\n", 4, 1, "stage biuld was not found", "build"),
        ("bootstrap: docker\nfrom: a{{ VERSON }}\n%arguments\nVERSION=1\n", 2, 8, "build var VERSON is not defined", "VERSION"),
    ])
    func mistakesAreNamedWithTheirPlace(_ text: String, _ line: Int, _ column: Int, _ message: String, _ suggestion: String?) {
        let error = failure(text)
        #expect(error?.line == line)
        #expect(error?.column == column)
        #expect(error?.message.contains(message) == true, "\(error?.message ?? "no error")")
        #expect(error?.suggestion == suggestion)
    }

    @Test func messagesShowTheLine() {
        let text = failure("bootstrap: docker\nfrom: a\n  %psot -c\n")?.description ?? ""
        #expect(text.hasPrefix("a.def:3:3: invalid section(s) specified: psot; did you mean %post?\n"))
        #expect(text.contains("3 |   %psot -c\n"))
        #expect(text.hasSuffix("    |   ^"))
    }

    @Test func nothingCrashesOnNoise() {
        var state: UInt64 = 42
        let words = [
            "bootstrap:", "%post", "%", "{{", "}}", "{{ A }}", "\\", "#", "\n", " ", "from:", "%files from x", "\r\n", "é", "%app", "\0",
        ]
        for _ in 0..<3000 {
            var text = ""
            for _ in 0..<12 {
                state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                text += words[Int(state >> 33) % words.count]
            }
            _ = failure(text, ["A=1"])
        }
    }
}

/// Recipes that generators of the field write.
struct GeneratedRecipeTests {
    private func recipe(_ name: String) throws -> DefinitionFile {
        let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().path + "/Fixtures/recipes/"
        var arguments = BuildArguments()
        return try DefinitionFile(try String(contentsOfFile: folder + name, encoding: .utf8), name: name, arguments: &arguments)
    }

    @Test func hpccm() throws {
        let stage = try #require(try recipe("hpccm.def").stages.first)
        #expect(stage.header.agent == "docker" && stage.header["from"] == "debian:bookworm" && stage.name == "devel")
        let post = try #require(stage.section(.post)?.body)
        // Six %post sections are one script.
        #expect(post.contains("gfortran") && post.contains("cc -o /opt/bin/hello") && post.hasSuffix("cd /w\n\n\n"))
        #expect(stage.section(.files)?.fileCopies == [FileCopy(source: "hello.c", destination: "/src/hello.c", line: 29)])
        #expect(stage.section(.labels)?.labels.first?.value == "y z")
    }

    @Test func spython() throws {
        let stage = try #require(try recipe("spython.def").stages.first)
        #expect(Set(stage.sections.map(\.kind)) == [.files, .labels, .post, .environment, .runscript, .startscript])
        #expect(stage.section(.environment)?.body.contains("export NAME=\"a b\"") == true)
    }
}
