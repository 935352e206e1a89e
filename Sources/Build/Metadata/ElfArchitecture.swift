import ImageTree
import Runtime
import SIF

/// The processor that a container is for, read from a program in it (ELF header, e_machine).
enum ElfArchitecture {
    private static let candidates = ["/bin/sh", "/bin/bash", "/bin/busybox", "/usr/bin/env", "/lib64/ld-linux-x86-64.so.2"]
    private static let machines: [UInt16: String] = [
        3: "386", 8: "mips", 20: "ppc64", 21: "ppc64", 22: "s390x", 40: "arm", 62: "amd64", 183: "arm64", 243: "riscv64", 258: "loong64",
    ]

    static func of(_ root: Node) -> Architecture? {
        for path in candidates {
            guard let node = TreePath.find(path, in: root), case .file(let content) = node.content,
                let stream = try? content.stream()
            else { continue }
            var head = [UInt8](repeating: 0, count: 20)
            guard let count = try? head.withUnsafeMutableBytes({ try stream.fill($0) }), count == 20 else { continue }
            guard head.starts(with: [0x7f, 0x45, 0x4c, 0x46]) else { continue }
            let isLittle = head[5] == 1
            let machine = isLittle ? UInt16(head[18]) | UInt16(head[19]) << 8 : UInt16(head[19]) | UInt16(head[18]) << 8
            guard var name = machines[machine] else { continue }
            if name == "ppc64" && isLittle { name = "ppc64le" }
            if name == "mips" && isLittle { name = "mipsle" }
            return Architecture(name: name)
        }
        return nil
    }
}
