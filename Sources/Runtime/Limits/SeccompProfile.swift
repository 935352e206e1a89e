import CLinux
import CSeccomp
import Foundation
import Linux

/// A filter of system calls, in the JSON form of the OCI runtime specification ("Linux seccomp") and of Docker.
struct SeccompProfile {
    private struct File: Decodable {
        struct Rule: Decodable {
            struct Argument: Decodable {
                var index: UInt32
                var value: UInt64
                var valueTwo: UInt64?
                var op: String
            }
            struct Condition: Decodable {
                var arches: [String]?
                var caps: [String]?
            }
            var name: String?
            var names: [String]?
            var action: String
            var errnoRet: UInt16?
            var args: [Argument]?
            var includes: Condition?
            var excludes: Condition?
        }
        struct ArchitectureMap: Decodable {
            var architecture: String
            var subArchitectures: [String]?
        }
        var defaultAction: String
        var defaultErrnoRet: UInt16?
        var architectures: [String]?
        var archMap: [ArchitectureMap]?
        var syscalls: [Rule]?
    }

    /// The compiled filter: an array of struct sock_filter.
    private let program: [UInt8]

    /// Reads and compiles a profile. Done before the container's files are in reach.
    /// - Parameter capabilities: rules may depend on them.
    init(_ path: String, capabilities: CapabilitySet) throws(RuntimeError) {
        do {
            let bytes = try Files.read(path, limit: 4 << 20)
            program = try Self.compile(try JSONDecoder().decode(File.self, from: Data(bytes)), capabilities)
        } catch let error as SystemError { throw .badOption("--security seccomp:\(path): \(error.reason)") } catch {
            throw .badOption("--security seccomp:\(path): \(error)")
        }
    }

    /// Puts the filter on this process, for good.
    func install() throws(SystemError) {
        let result = program.withUnsafeBytes { clinux_seccomp_filter($0.baseAddress, $0.count) }
        guard result == 0 else { throw .last("install the seccomp filter") }
    }

    private struct Problem: Error, CustomStringConvertible { let description: String }

    private static func compile(_ file: File, _ capabilities: CapabilitySet) throws -> [UInt8] {
        guard let context = seccomp_init(try action(file.defaultAction, file.defaultErrnoRet)) else {
            throw Problem(description: "the default action \(file.defaultAction) is refused by libseccomp")
        }
        defer { seccomp_release(context) }
        let native = seccomp_arch_native()
        for name in (file.architectures ?? []) + (file.archMap ?? []).flatMap({ [$0.architecture] + ($0.subArchitectures ?? []) }) {
            let short = name.hasPrefix("SCMP_ARCH_") ? String(name.dropFirst(10)).lowercased() : name.lowercased()
            let token = seccomp_arch_resolve_name(short)
            // Filters of foreign processors mean nothing here.
            let isRelated = native == 0xC000_003E && ["x86", "x32", "x86_64"].contains(short) || native == token
            if token != 0, isRelated, token != native { _ = seccomp_arch_add(context, token) }
        }
        for rule in file.syscalls ?? [] {
            guard applies(rule, capabilities) else { continue }
            let action = try action(rule.action, rule.errnoRet)
            if action == (try Self.action(file.defaultAction, file.defaultErrnoRet)) { continue }
            for name in (rule.names ?? []) + (rule.name.map { [$0] } ?? []) {
                let number = seccomp_syscall_resolve_name(name)
                // A call that this kernel's headers do not know cannot be made either.
                if number == -1 { continue }
                var arguments = try (rule.args ?? []).map(argument)
                let result = seccomp_rule_add_array(context, action, number, UInt32(arguments.count), &arguments)
                guard result == 0 || result == -EDOM else {
                    throw Problem(description: "the rule for \(name): \(String(cString: strerror(-result)))")
                }
            }
        }
        let memory = OwnedDescriptor(clinux_memfd("seccomp"))
        guard memory.rawValue >= 0, seccomp_export_bpf(context, memory.rawValue) == 0 else { throw SystemError.last("compile the filter") }
        lseek(memory.rawValue, 0, SEEK_SET)
        return try Files.read(memory, name: "filter", limit: 1 << 20)
    }

    /// Docker's conditions on processors and capabilities.
    private static func applies(_ rule: File.Rule, _ capabilities: CapabilitySet) -> Bool {
        func has(_ names: [String]?) -> Bool { (names ?? []).allSatisfy { CapabilitySet(named: $0).map(capabilities.isSuperset) ?? false } }
        #if arch(arm64)
            let own = "arm64"
        #else
            let own = "amd64"
        #endif
        if let condition = rule.includes {
            if !has(condition.caps) { return false }
            if let arches = condition.arches, !arches.isEmpty, !arches.contains(own) { return false }
        }
        if let condition = rule.excludes {
            if let caps = condition.caps, !caps.isEmpty, has(caps) { return false }
            if condition.arches?.contains(own) ?? false { return false }
        }
        return true
    }

    private static func action(_ name: String, _ code: UInt16?) throws -> UInt32 {
        switch name {
        case "SCMP_ACT_ALLOW": return cseccomp_allow
        case "SCMP_ACT_ERRNO": return cseccomp_errno(code ?? UInt16(EPERM))
        case "SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD": return cseccomp_kill_thread
        case "SCMP_ACT_KILL_PROCESS": return cseccomp_kill_process
        case "SCMP_ACT_TRAP": return cseccomp_trap
        case "SCMP_ACT_TRACE": return cseccomp_trace(code ?? UInt16(EPERM))
        case "SCMP_ACT_LOG": return cseccomp_log
        default: throw Problem(description: "the action \(name) is not known")
        }
    }

    private static func argument(_ one: File.Rule.Argument) throws -> scmp_arg_cmp {
        let operations: [String: scmp_compare] = [
            "SCMP_CMP_NE": SCMP_CMP_NE, "SCMP_CMP_LT": SCMP_CMP_LT, "SCMP_CMP_LE": SCMP_CMP_LE, "SCMP_CMP_EQ": SCMP_CMP_EQ,
            "SCMP_CMP_GE": SCMP_CMP_GE, "SCMP_CMP_GT": SCMP_CMP_GT, "SCMP_CMP_MASKED_EQ": SCMP_CMP_MASKED_EQ,
        ]
        guard let operation = operations[one.op] else { throw Problem(description: "the comparison \(one.op) is not known") }
        guard one.index < 6 else { throw Problem(description: "a system call has no argument \(one.index)") }
        return scmp_arg_cmp(arg: one.index, op: operation, datum_a: one.value, datum_b: one.valueTwo ?? 0)
    }
}
