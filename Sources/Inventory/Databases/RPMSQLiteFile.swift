import CSQLite

/// The database of RPM since 4.16: a table of headers in an SQLite file (`rpmdb.sqlite`).
enum RPMSQLiteFile {
    /// The headers of all packages.
    static func headers(_ bytes: [UInt8]) throws(RPMDatabase.Failure) -> [[UInt8]] {
        var database: OpaquePointer?
        guard sqlite3_open_v2(":memory:", &database, SQLITE_OPEN_READWRITE, nil) == SQLITE_OK else {
            throw RPMDatabase.Failure(description: "sqlite does not start")
        }
        defer { sqlite3_close(database) }
        guard let copy = sqlite3_malloc64(UInt64(bytes.count)) else { throw RPMDatabase.Failure(description: "no memory") }
        copy.copyMemory(from: bytes, byteCount: bytes.count)
        // In memory there is no log beside the file: it is read as one without ("SQLite file format", section 1.3.3).
        if bytes.count > 20 { copy.storeBytes(of: 0x0101, toByteOffset: 18, as: UInt16.self) }
        let flags = UInt32(SQLITE_DESERIALIZE_FREEONCLOSE | SQLITE_DESERIALIZE_READONLY)
        guard
            sqlite3_deserialize(
                database, "main", copy.assumingMemoryBound(to: UInt8.self), Int64(bytes.count), Int64(bytes.count), flags) == SQLITE_OK
        else { throw RPMDatabase.Failure(description: "it is no SQLite database") }
        var statement: OpaquePointer?
        guard sqlite3_prepare_v2(database, "SELECT blob FROM Packages", -1, &statement, nil) == SQLITE_OK else {
            throw RPMDatabase.Failure(description: String(cString: sqlite3_errmsg(database)))
        }
        defer { sqlite3_finalize(statement) }
        var found: [[UInt8]] = []
        while true {
            switch sqlite3_step(statement) {
            case SQLITE_ROW:
                let count = Int(sqlite3_column_bytes(statement, 0))
                guard let start = sqlite3_column_blob(statement, 0) else { continue }
                found.append(Array(UnsafeRawBufferPointer(start: start, count: count)))
            case SQLITE_DONE: return found
            default: throw RPMDatabase.Failure(description: String(cString: sqlite3_errmsg(database)))
            }
        }
    }
}
