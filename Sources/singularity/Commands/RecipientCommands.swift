import BlockIO
import CommandSyntax
import Encryption
import Glibc
import Linux
import Persistence
import SIF

let recipientCommands = [
    Command(
        spec: CommandSpec(
            "recipient list", arguments: "<image>", summary: "List who can open an encrypted image",
            details:
                "A row for each key that the image's pass phrase is encrypted for, by the number of the object. Those of a file system that is written to have a second number.",
            examples: ["singularity recipient list secret.sif"], argumentCount: 1...1)
    ) { parsed, _ in
        let path = parsed.arguments[0]
        let (source, volume) = (try FileSource(path: path), VolumeRecipients(path))
        let sif = SIFFile.isSIF(source) ? try SIFFile(reading: source) : nil
        _ = try encryptedPartition(sif, or: volume, path)
        print("ID    BITS")
        for message in messages(sif) {
            print(format("\(message.id)", 6) + "\(WrappedKey.bits(try source.bytes(at: UInt64(message.offset), count: Int(message.size))))")
        }
        if let volume {
            for (number, message) in try volume.list() {
                print(format((volume.object.map { "\($0)/" } ?? "") + "\(number)", 6) + "\(WrappedKey.bits(message))")
            }
        }
        return 0
    },
    Command(
        spec: CommandSpec(
            "recipient add", arguments: "<image> <public-key.pem...>",
            summary: "Let the owners of further RSA keys open an encrypted image",
            details: """
                Whoever can open the image can do it: with --pem-path or the pass phrase. Signatures of the image end with it, as they
                cover who can open it; sign it anew. An encrypted writable partition of the image gets them too.
                """,
            examples: ["singularity recipient add --pem-path mine.pem secret.sif colleague-public.pem"],
            options: EncryptionOptions.opening, argumentCount: 2...Int.max)
    ) { parsed, log in
        let path = parsed.arguments[0]
        let file = SharedDescriptor(try OwnedDescriptor.open(path, O_RDWR))
        let source = try FileSource(file, name: path)
        let volume = VolumeRecipients(path)
        let sif = SIFFile.isSIF(source) ? try SIFFile(reading: source) : nil
        let partition = try encryptedPartition(sif, or: volume, path)
        let keys = try EncryptionOptions.keys(parsed).load()
        let recipients = try parsed.arguments.dropFirst().map { try Recipient(pem: try EncryptionOptions.pem($0), name: $0) }
        var wrapped: [[UInt8]] = []
        if let sif, let partition {
            wrapped = try recipients.map { try EncryptedPartition.wrap(partition, of: sif, source, keys, for: $0) }
        }
        try volume?.add(recipients, keys)
        guard let sif else { return 0 }
        if let partition {
            let writer = try SIFWriter(changing: file, name: path, time: Int64(time(nil)))
            for message in wrapped {
                try writer.add(
                    NewObject(.cryptographicMessage, group: partition.group ?? 1, link: .object(partition.id), detail: WrappedKey.detail),
                    message)
            }
            try writer.commitToDisk()
        }
        if sif.descriptors.contains(where: { $0.type == .signature }) {
            log.warning("the image's signatures do not cover its new recipients: sign it anew")
        }
        return 0
    },
]

/// - Returns: nil where only a file system that is written to is encrypted.
private func encryptedPartition(_ sif: SIFFile?, or volume: VolumeRecipients?, _ path: String) throws -> Descriptor? {
    let found = sif?.descriptors.first { $0.partition?.fileSystem == .gocryptfsSquashFS }
    guard found != nil || volume != nil else { throw CommandError("\(path) has no encrypted partition that keys could be added to") }
    return found
}

private func messages(_ sif: SIFFile?) -> [Descriptor] {
    (sif?.descriptors ?? []).filter { $0.type == .cryptographicMessage && $0.detail == WrappedKey.detail && $0.size <= 1 << 20 }
}

private func format(_ text: String, _ width: Int) -> String { text + String(repeating: " ", count: max(0, width - text.count)) }
