import CLinux
import Glibc

/// Secrets that the kernel keeps for a user for a while (keyrings(7)): what an agent would do, without a process.
public enum KernelKeys {
    /// Keeps a secret.
    /// - Parameter seconds: after which it is forgotten; 0 for as long as the user is logged in.
    /// - Returns: false where the kernel has no such service.
    public static func keep(_ secret: SecretBytes, as name: String, seconds: UInt32) -> Bool {
        secret.withBytes { clinux_key_add(name, $0.baseAddress, $0.count, seconds) } >= 0
    }

    /// A secret that is kept; nil where there is none.
    public static func find(_ name: String) -> SecretBytes? {
        let key = clinux_key_find(name)
        guard key >= 0 else { return nil }
        let count = clinux_key_read(key, nil, 0)
        guard count > 0 else { return nil }
        var isRead = false
        let secret = SecretBytes(count: count) { isRead = clinux_key_read(key, $0.baseAddress, $0.count) == count }
        return isRead ? secret : nil
    }

    /// Forgets a secret.
    /// - Returns: whether it was kept.
    @discardableResult
    public static func forget(_ name: String) -> Bool {
        let key = clinux_key_find(name)
        return key >= 0 && clinux_key_forget(key) == 0
    }
}
