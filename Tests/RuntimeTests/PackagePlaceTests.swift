import Testing

import Runtime

struct PackagePlaceTests {
    @Test(arguments: [
        ("var/cache/apt/archives/bash_5.2_amd64.deb", true), ("var/cache/apt/archives/partial/bash_5.2_amd64.deb", false),
        ("var/cache/apt/archives/lock", false), ("var/cache/apt/pkgcache.bin", false), ("var/cache/apt/archives2/a.deb", false),
        ("var/cache/dnf/fedora-1a2b/packages/bash-5.2.x86_64.rpm", true), ("var/cache/dnf/fedora-1a2b/repodata/repomd.xml", false),
        ("var/cache/pacman/pkg/bash-5.2-1-x86_64.pkg.tar.zst", true), ("var/cache/pacman/pkg/bash-5.2-1-x86_64.pkg.tar.zst.part", false),
        ("root/.cache/pip/http-v2/a/b/c/d/e/abcde", true), ("root/.cache/pip/http-v2/a/abcde.tmp", false), ("root/a.deb", false),
        ("var/cache/apk/busybox-1.36.1-r2.abcdef12.apk", true), ("var/cache/apk/APKINDEX.abcdef12.tar.gz", false),
        ("opt/conda/pkgs/zlib-1.3-h4ab18f5_1.conda", true), ("opt/conda/pkgs/zlib-1.3-h4ab18f5_1.conda.partial", false),
        ("root/.conda/pkgs/zlib-1.3-0.tar.bz2", true), ("opt/conda/pkgs/data-1-0/share/data.tar.bz2", false),
        ("opt/conda/lib/data.tar.bz2", false), ("root/.cargo/registry/cache/index-1/serde-1.0.crate", true),
        ("root/go/pkg/mod/cache/download/a/@v/v1.zip", true), ("root/go/pkg/mod/cache/download/a/@v/v1.lock", false),
    ])
    func whatIsAPackage(_ path: String, _ expected: Bool) { #expect(PackagePlace.takes(path) == expected) }

    @Test(arguments: [
        ("", true), ("var", true), ("var/cache", true), ("var/cache/apt/archives", true), ("var/cache/apt/archives/partial", false),
        ("var/lib", false), ("root", true), ("root/.cache/pip/http-v2/a", true), ("root/.cachet", false), ("usr", true),
        ("usr/bin", false), ("opt/conda", true), ("opt/conda/pkgs", true), ("opt/conda/pkgs/zlib-1.3-h4ab18f5_1", false),
    ])
    func whichDirectoriesLeadToPackages(_ path: String, _ expected: Bool) { #expect(PackagePlace.leads(path) == expected) }
}
