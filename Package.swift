// swift-tools-version: 6.2
import PackageDescription

/// A C library of the system, linked statically (its module map names the archive).
func cLibrary(_ name: String) -> Target { .systemLibrary(name: name) }

/// One of the project's own library modules.
func module(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .target(name: name, dependencies: dependencies)
}

let package = Package(
    name: "singularity",
    products: [
        .library(name: "SquashFS", targets: ["SquashFS"]),
    ],
    dependencies: [
        .package(url: "https://github.com/swift-server/async-http-client", from: "1.37.0"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
    ],
    targets: [
        cLibrary("CZstd"), cLibrary("CLZ4"), cLibrary("CLZMA"), cLibrary("CDeflate"), cLibrary("CZlib"),
        cLibrary("CBzip2"), cLibrary("CLZO"), cLibrary("CArchive"),
        .target(name: "CLinux"),
        module("Linux", ["CLinux"]),
        module("BlockIO", ["Linux"]),
        module("Compression", ["BlockIO", "CZstd", "CLZ4", "CLZMA", "CDeflate", "CZlib", "CBzip2", "CLZO"]),
        module(
            "Registry",
            [
                "BlockIO", "Linux", .product(name: "AsyncHTTPClient", package: "async-http-client"),
                .product(name: "Crypto", package: "swift-crypto"), .product(name: "NIOCore", package: "swift-nio"),
            ]),
        module("SIF", ["BlockIO", "Linux"]),
        module("SquashFS", ["BlockIO", "Compression", "Linux", .product(name: "Crypto", package: "swift-crypto")]),
    ]
)
