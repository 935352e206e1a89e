import BlockIO
import CommandSyntax
import Encryption
import Glibc
import Linux
import SIF

let recipientCommands = [
    Command(
        spec: CommandSpec(
            "recipient list", arguments: "<image>", summary: "List who can open an encrypted image",
            details: "A row for each key that the image's pass phrase is encrypted for, by the number of the object.",
            examples: ["singularity recipient list secret.sif"], argumentCount: 1...1)
    ) { parsed, _ in
        let source = try FileSource(path: parsed.arguments[0])
        let sif = try SIFFile(reading: source)
        _ = try encryptedPartition(sif, parsed.arguments[0])
        print("ID    BITS")
        for message in messages(sif) {
            print(format("\(message.id)", 6) + "\(WrappedKey.bits(try source.bytes(at: UInt64(message.offset), count: Int(message.size))))")
        }
        return 0
    },
    Command(
        spec: CommandSpec(
            "recipient add", arguments: "<image> <public-key.pem...>",
            summary: "Let the owners of further RSA keys open an encrypted image",
            details: """
                Whoever can open the image can do it: with --pem-path or the pass phrase. Signatures of the image end with it, as they
                cover who can open it; sign it anew.
                """,
            examples: ["singularity recipient add --pem-path mine.pem secret.sif colleague-public.pem"],
            options: EncryptionOptions.opening, argumentCount: 2...Int.max)
    ) { parsed, log in
        let path = parsed.arguments[0]
        let file = SharedDescriptor(try OwnedDescriptor.open(path, O_RDWR))
        let source = try FileSource(file, name: path)
        let sif = try SIFFile(reading: source)
        let partition = try encryptedPartition(sif, path)
        let keys = try EncryptionOptions.keys(parsed).load()
        let writer = try SIFWriter(changing: file, name: path, time: Int64(time(nil)))
        for name in parsed.arguments.dropFirst() {
            let recipient = try Recipient(pem: try EncryptionOptions.pem(name), name: name)
            try writer.add(
                NewObject(.cryptographicMessage, group: partition.group ?? 1, link: .object(partition.id), detail: WrappedKey.detail),
                try EncryptedPartition.wrap(partition, of: sif, source, keys, for: recipient))
        }
        try writer.commitToDisk()
        if sif.descriptors.contains(where: { $0.type == .signature }) {
            log.warning("the image's signatures do not cover its new recipients: sign it anew")
        }
        return 0
    },
]

private func encryptedPartition(_ sif: SIFFile, _ path: String) throws -> Descriptor {
    guard let found = sif.descriptors.first(where: { $0.partition?.fileSystem == .gocryptfsSquashFS }) else {
        throw CommandError("\(path) has no encrypted partition that keys could be added to")
    }
    return found
}

private func messages(_ sif: SIFFile) -> [Descriptor] {
    sif.descriptors.filter { $0.type == .cryptographicMessage && $0.detail == WrappedKey.detail && $0.size <= 1 << 20 }
}

private func format(_ text: String, _ width: Int) -> String { text + String(repeating: " ", count: max(0, width - text.count)) }
