// swift-tools-version: 6.2
import PackageDescription

/// Continuous integration lets no warning pass.
let settings: [SwiftSetting] = Context.environment["WARNINGS_AS_ERRORS"] == nil ? [] : [.treatAllWarnings(as: .error)]

/// A C library of the system, linked statically (its module map names the archive).
func cLibrary(_ name: String) -> Target { .systemLibrary(name: name) }

/// One of the project's own library modules.
func module(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .target(name: name, dependencies: dependencies, swiftSettings: settings)
}

func tests(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .testTarget(name: name, dependencies: dependencies, swiftSettings: settings, linkerSettings: staticLibraries)
}

/// Linker scripts that put the archives of libz, libgcc and libstdc++ in the place of the shared libraries, which the
/// Swift runtime asks for: the program shall need nothing but glibc.
/// The Swift runtime in the program itself. The modules are compiled as for a shared one, so that the tests can use them
/// as they are: nothing is compiled twice. What the archives of Foundation need is named here, as only modules that are
/// compiled for them would tell the linker. Nothing is exported: forty thousand symbols would be looked through at each start, and
/// libraries that are loaded later could find them.
let staticRuntime: [LinkerSetting] =
    [.unsafeFlags(["-static-stdlib", "-Xlinker", "--version-script=\(Context.packageDirectory)/Linker/exports.map"])]
    + ["FoundationInternationalization", "_FoundationICU", "_FoundationCShims", "_FoundationCollections", "CoreFoundation"].map {
        .linkedLibrary($0)
    }
let staticLibraries: [LinkerSetting] = [
    .unsafeFlags([
        "-L\(Context.packageDirectory)/Linker", "-use-ld=lld", "-Xclang-linker", "-no-pie", "-Xlinker", "--gc-sections", "-Xlinker",
        "--icf=safe",
    ])
]

let crypto: Target.Dependency = .product(name: "Crypto", package: "swift-crypto")
let cryptoExtras: Target.Dependency = .product(name: "CryptoExtras", package: "swift-crypto")

/// The parsers under libFuzzer, which brings its own main function: only `make fuzz` builds them.
let fuzzing: [Target] =
    Context.environment["SINGULARITY_FUZZING"] == nil
    ? []
    : [
        .executableTarget(
            name: "fuzz",
            dependencies: ["BlockIO", "Definition", "Encryption", "ExtFS", "ImageTree", "Inventory", "SIF", "SquashFS", "Trust"],
            path: "Tests/Fuzzing", swiftSettings: [.unsafeFlags(["-parse-as-library"])], linkerSettings: staticLibraries)
    ]

let package = Package(
    name: "singularity",
    products: [
        .executable(name: "singularity", targets: ["singularity"]),
        .library(name: "SIF", targets: ["SIF"]),
        .library(name: "SquashFS", targets: ["SquashFS"]),
    ],
    dependencies: [
        .package(url: "https://github.com/swift-server/async-http-client", from: "1.37.0"),
        .package(url: "https://github.com/apple/swift-asn1", from: "1.7.4"),
        .package(url: "https://github.com/apple/swift-certificates", from: "1.21.1"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.6"),
        .package(url: "https://github.com/LebJe/TOMLKit", from: "0.6.0"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
    ],
    targets: [
        cLibrary("CZstd"), cLibrary("CLZ4"), cLibrary("CLZMA"), cLibrary("CDeflate"), cLibrary("CZlib"),
        cLibrary("CBzip2"), cLibrary("CLZO"), cLibrary("CArchive"), cLibrary("CIsal"), cLibrary("CExt2"), cLibrary("CSeccomp"),
        cLibrary("CGcrypt"), cLibrary("CSQLite"),
        .target(name: "CLinux"),
        // librnp's header; the library itself is loaded when it is needed.
        .target(name: "CRNP"),
        module("Linux", ["CLinux"]),
        module("BlockIO", ["Linux"]),
        module(
            "Compression",
            ["BlockIO", "Linux", "CZstd", "CLZ4", "CLZMA", "CDeflate", "CZlib", "CBzip2", "CLZO", "CIsal"]),
        module("SIF", ["BlockIO", "Linux"]),
        module("SquashFS", ["BlockIO", "Compression", "Linux", crypto]),
        module("Archive", ["BlockIO", "CArchive"]),
        module("ExtFS", ["BlockIO", "CExt2", "CLinux", "Linux"]),
        module("ImageTree", ["Archive", "BlockIO", "CLinux", "Linux", "SquashFS"]),
        module(
            "Registry",
            [
                "BlockIO", "Linux", crypto, .product(name: "AsyncHTTPClient", package: "async-http-client"),
                .product(name: "NIOCore", package: "swift-nio"), .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
                .product(name: "TOMLKit", package: "TOMLKit"), .product(name: "Yams", package: "Yams"),
            ]),
        module("FUSEServer", ["BlockIO", "CExt2", "CLinux", "ExtFS", "Linux", "SquashFS"]),
        module(
            "Runtime",
            [
                "BlockIO", "CLinux", "CSeccomp", "Encryption", "ExtFS", "FUSEServer", "Linux", "Messages", "SIF", "SquashFS", "Trust",
                .product(name: "TOMLKit", package: "TOMLKit"), .product(name: "Yams", package: "Yams"),
            ]),
        module(
            "Build",
            [
                "Archive", "BlockIO", "CLinux", "Compression", "Cryptography", "Definition", "Encryption", "ExtFS", "ImageTree",
                "Inventory",
                "Linux", "Messages", "Registry", "Runtime", "Trust", "SIF", "SquashFS",
                crypto,
            ]),
        module(
            "Persistence",
            [
                "BlockIO", "Build", "CLinux", "Encryption", "ExtFS", "ImageTree", "Linux", "Messages", "Runtime", "SIF", "SquashFS",
                "Archive",
                crypto,
            ]),
        module("Cryptography", ["CGcrypt", "CLinux", "Linux", crypto]),
        module(
            "Trust",
            [
                "BlockIO", "CRNP", "Cryptography", "Linux", "SIF", crypto, cryptoExtras,
                .product(name: "X509", package: "swift-certificates"),
                .product(name: "SwiftASN1", package: "swift-asn1"), .product(name: "TOMLKit", package: "TOMLKit"),
            ]),
        module(
            "Encryption",
            [
                "BlockIO", "CLinux", "Cryptography", "ExtFS", "Linux", "SIF", "SquashFS", crypto, cryptoExtras,
                .product(name: "SwiftASN1", package: "swift-asn1"),
            ]),
        module("Inventory", ["CSQLite", "ImageTree", "Linux", "Messages"]),
        module("Definition", []),
        module("CommandSyntax", ["Linux"]),
        module("Messages", ["Linux"]),
        .executableTarget(
            name: "singularity",
            dependencies: [
                "Build", "CommandSyntax", "Compression", "Cryptography", "Definition", "Encryption", "Inventory", "Linux", "Messages",
                "Persistence", "Registry", "Runtime",
                "SIF", "SquashFS", "Trust",
            ],
            swiftSettings: settings, linkerSettings: staticLibraries + staticRuntime),
        .target(name: "TestSupport", dependencies: ["ExtFS", "Linux"], path: "Tests/TestSupport", swiftSettings: settings),
        tests("SIFTests", ["BlockIO", "Linux", "SIF", "TestSupport"]),
        tests("SquashFSTests", ["BlockIO", "Compression", "ImageTree", "Linux", "SquashFS", "TestSupport", crypto]),
        tests("CryptographyTests", ["Cryptography"]),
        tests("TrustTests", ["BlockIO", "Cryptography", "Linux", "SIF", "TestSupport", "Trust"]),
        tests("EncryptionTests", ["BlockIO", "Cryptography", "Encryption", "ExtFS", "Linux", "SIF", "SquashFS", "TestSupport"]),
        tests("InventoryTests", ["ImageTree", "Inventory", "Messages", "TestSupport"]),
        tests("ImageTreeTests", ["ImageTree", "SquashFS"]),
        tests("RuntimeTests", ["Linux", "Runtime"]),
        tests("RegistryTests", ["Registry"]),
        tests("DefinitionTests", ["Definition"]),
        tests("CommandSyntaxTests", ["CommandSyntax"]),
        tests("CompressionTests", ["BlockIO", "Compression"]),
        tests("LinuxTests", ["Linux"]),
        tests("ExtFSTests", ["ExtFS", "Linux", "TestSupport"]),
        tests("IntegrationTests", ["TestSupport", crypto]),
    ] + fuzzing
)
