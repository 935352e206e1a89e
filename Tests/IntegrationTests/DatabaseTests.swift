import Foundation
import Testing

/// Databases in data containers and writable partitions: what was acknowledged is there after whatever happens.
@Suite(.enabled(if: Site.isPrepared && Site.mayFUSE, "needs scripts/test.sh and /dev/fuse"), .serialized)
struct DatabaseTests {
    static let identities: [Run.Identity] = Site.isRoot ? [.ordinaryUser, .caller] : [.caller]

    /// What is done to it in the middle of writes.
    enum Accident: CaseIterable { case instanceKilled, serverKilled, copied, copiedSlowly }

    @Test(arguments: identities, Accident.allCases) func postgresLosesNothingInADataContainer(
        _ identity: Run.Identity, _ accident: Accident
    ) throws {
        // Root's files are served by the kernel, which cannot be killed.
        if accident == .serverKilled, identity == .caller, Site.isRoot { return }
        try losesNothing(.postgres, .data, identity, accident)
    }

    @Test(arguments: Accident.allCases) func postgresLosesNothingInAnEncryptedDataContainer(_ accident: Accident) throws {
        try losesNothing(.postgres, .encrypted, .ordinaryUser, accident)
    }

    @Test(arguments: identities) func postgresLosesNothingInAWritablePartition(_ identity: Run.Identity) throws {
        try losesNothing(.postgres, .partition, identity, identity == .caller && Site.isRoot ? .instanceKilled : .serverKilled)
    }

    @Test(arguments: identities) func postgresIsCopiedWithAWritablePartition(_ identity: Run.Identity) throws {
        try losesNothing(.postgres, .partition, identity, .copiedSlowly)
    }

    @Test(arguments: DatabaseSite.Place.allCases) func mariadbLosesNothing(_ place: DatabaseSite.Place) throws {
        try losesNothing(.mariadb, place, .ordinaryUser, place == .partition ? .instanceKilled : .serverKilled)
    }

    @Test(.enabled(if: Site.isRoot, "needs root"), arguments: [DatabaseSite.Place.data, .partition]) func mariadbOfRootLosesNothing(
        _ place: DatabaseSite.Place
    ) throws {
        try losesNothing(.mariadb, place, .caller, .instanceKilled)
    }

    /// A copy that takes far longer than the journal holds what is written meanwhile.
    private static let slowCopy = """
        import os, sys, time
        source, target = os.open(sys.argv[1], os.O_RDONLY), os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT, 0o600)
        size = os.fstat(source).st_size
        os.ftruncate(target, size)
        place = 0
        while place < size:
            try: place = os.lseek(source, place, os.SEEK_DATA)
            except OSError: break
            end = os.lseek(source, place, os.SEEK_HOLE)
            while place < end:
                part = os.pread(source, min(1 << 20, end - place), place)
                os.pwrite(target, part, place)
                place += len(part)
                time.sleep(0.05)
        """

    private func losesNothing(
        _ server: DatabaseSite.Server, _ place: DatabaseSite.Place, _ identity: Run.Identity, _ accident: Accident,
        _ test: String = #function
    ) throws {
        let site = try DatabaseSite(server, place, as: identity, test)
        try site.start()
        let load = server == .postgres ? try site.startLoad() : nil
        let inserting = try site.startInserting()
        #expect(Wait.until(30) { DatabaseSite.acknowledged(inserting) > 500 })
        var count = DatabaseSite.acknowledged(inserting)
        switch accident {
        case .instanceKilled: Foundation.kill(try site.firstProcess(), SIGKILL)
        case .serverKilled: Foundation.kill(try site.fileServer(), SIGKILL)
        case .copied:
            let copied = try Run.program("/bin/cp", ["--sparse=always", site.file, site.copy], as: identity)
            #expect(copied.status == 0, "\(copied)")
        case .copiedSlowly:
            let copied = try Run.program("/usr/bin/python3", ["-c", Self.slowCopy, site.file, site.copy], as: identity)
            #expect(copied.status == 0, "\(copied)")
        }
        let isCopy = accident == .copied || accident == .copiedSlowly
        if !isCopy {
            usleep(200_000)
            count = max(count, DatabaseSite.acknowledged(inserting))
        }
        site.kill()
        _ = inserting.finish(timeout: 10)
        _ = load?.finish(timeout: 10)
        #expect(count > 500)
        if isCopy { site.useCopy() }
        try site.start()
        #expect(try site.missing(upTo: count) == 0)
        #expect(try site.query("INSERT INTO t VALUES (1000000)").status == 0)
        try site.stop()
        let check = try site.check()
        #expect(check.status == 0, "\(check)")
    }
}
