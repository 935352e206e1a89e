import Testing

import Runtime

struct PackagePlaceTests {
    @Test(arguments: [
        ("var/cache/apt/archives/bash_5.2_amd64.deb", true), ("var/cache/apt/archives/partial/bash_5.2_amd64.deb", false),
        ("var/cache/apt/archives/lock", false), ("var/cache/apt/pkgcache.bin", false), ("var/cache/apt/archives2/a.deb", false),
        ("var/cache/dnf/fedora-1a2b/packages/bash-5.2.x86_64.rpm", true), ("var/cache/dnf/fedora-1a2b/repodata/repomd.xml", false),
        ("var/cache/pacman/pkg/bash-5.2-1-x86_64.pkg.tar.zst", true), ("var/cache/pacman/pkg/bash-5.2-1-x86_64.pkg.tar.zst.part", false),
        ("root/.cache/pip/http-v2/a/b/c/d/e/abcde", true), ("root/.cache/pip/http-v2/a/abcde.tmp", false), ("root/a.deb", false),
    ])
    func whatIsAPackage(_ path: String, _ expected: Bool) { #expect(PackagePlace.takes(path) == expected) }

    @Test(arguments: [
        ("", true), ("var", true), ("var/cache", true), ("var/cache/apt/archives", true), ("var/cache/apt/archives/partial", false),
        ("var/lib", false), ("root", true), ("root/.cache/pip/http-v2/a", true), ("root/.cachet", false), ("usr", false),
    ])
    func whichDirectoriesLeadToPackages(_ path: String, _ expected: Bool) { #expect(PackagePlace.leads(path) == expected) }
}
