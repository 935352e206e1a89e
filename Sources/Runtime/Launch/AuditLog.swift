import BlockIO
import CLinux
import Glibc
import Linux
import SIF

/// Tells the system's log which image a user starts, and with what of the host in reach, where the configuration wants it
/// (`audit log`).
///
/// It is an account of what users of this program do, and holds nobody back: who wants to hide a start uses another program.
struct AuditLog {
    /// A socket that takes datagrams in the form of syslog(3).
    private let socket: String

    /// Nil where nothing is told.
    init?(_ configuration: Configuration) {
        switch configuration["audit log"] {
        case "", "no": return nil
        case "syslog": socket = "/dev/log"
        case let path: socket = path
        }
    }

    /// - Throws: where nobody takes it.
    func tell(_ plan: LaunchPlan, _ image: ImageFile, _ options: RunOptions, _ facts: HostFacts) throws(SystemError) {
        // Facility authpriv, severity info (RFC 5424 6.2.1).
        let text = "<86>singularity[\(getpid())]: " + Self.fields(plan, image, options, facts).joined(separator: " ")
        let status = clinux_send_datagram(socket, text)
        if status != 0 { throw SystemError("write to \(socket)", errno: status) }
    }

    private static func fields(_ plan: LaunchPlan, _ image: ImageFile, _ options: RunOptions, _ facts: HostFacts) -> [String] {
        var fields = [
            "user=\(quoted(facts.account?.name ?? ""))", "uid=\(facts.uid)", "action=\(options.action.name)", "image=\(quoted(image.path))",
        ]
        if let status = Self.status(image) {
            fields.append("file=\(status.st_dev):\(status.st_ino) size=\(status.st_size) changed=\(status.st_mtim.tv_sec)")
        }
        if let sif = image.sif {
            fields.append("id=\(Hexadecimal.text(sif.file.header.id))")
            if let digest = claimedDigest(sif) { fields.append("says-sha256=\(digest)") }
        }
        fields.append("verified=\(options.verification == nil ? "no" : "yes")")
        if let instance = options.instance { fields.append("instance=\(quoted(instance.name))") }
        if let job = Environment["SLURM_JOB_ID"] { fields.append("job=\(quoted(job))") }
        let binds = plan.mounts.compactMap { mount -> String? in
            switch mount.kind {
            case .bind(let source, let readOnly): "\(source):\(mount.destination)\(readOnly ? ":ro" : "")"
            case .image(let number, _, let readOnly): "\(plan.dataImages[number].path):\(mount.destination)\(readOnly ? ":ro" : "")"
            default: nil
            }
        }
        return fields + ["binds=\(quoted(binds.joined(separator: ",")))"]
    }

    /// Of the file that was opened, whatever has its name now.
    private static func status(_ image: ImageFile) -> stat? {
        switch image.content {
        case .squashFS(_, let file, _, _): try? Files.status(file.rawValue, name: image.path)
        case .directory(let folder): try? Files.status(folder.rawValue, name: image.path)
        case .ext(let place): Files.status(place.path)
        }
    }

    /// The digest of the file system that the image's provenance names; true only where its signature was checked.
    private static func claimedDigest(_ sif: ImageFile.OpenedSIF) -> String? {
        guard let object = sif.file.first(.genericJSON, named: "provenance.json"), object.size < 1 << 20,
            let bytes = try? sif.source.bytes(at: UInt64(object.offset), count: Int(object.size))
        else { return nil }
        // The subject's digest is the first of the statement.
        let parts = String(decoding: bytes, as: UTF8.self).split(separator: "\"sha256\":\"", maxSplits: 1)
        guard parts.count == 2, case let digits = parts[1].prefix(while: \.isHexDigit), digits.count == 64 else { return nil }
        return String(digits)
    }

    /// One line, whatever is in a name.
    private static func quoted(_ text: String) -> String {
        let safe = text.unicodeScalars.map { scalar -> String in
            switch scalar {
            case "\"", "\\": "\\\(scalar)"
            case _ where scalar.value < 0x20 || scalar.value == 0x7f: "?"
            default: String(scalar)
            }
        }
        return "\"\(safe.joined().prefix(4000))\""
    }
}
