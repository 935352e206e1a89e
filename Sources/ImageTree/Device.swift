/// Device numbers as Linux and SquashFS encode them in 32 bits.
public enum Device {
    /// From `st_rdev` (makedev(3)); nil for numbers that the kernel has no room for.
    public static func encoded(_ number: UInt64) -> UInt32? {
        let major = (number >> 8) & 0xfff | (number >> 32) & 0xffff_f000
        let minor = number & 0xff | (number >> 12) & 0xffff_ff00
        guard major <= 0xfff, minor <= 0xfffff else { return nil }
        return UInt32(minor & 0xff | major << 8 | (minor & ~0xff) << 12)
    }
}
