import CLinux
import Glibc
import Linux

/// Keeps a serving thread on the processor of the process that it serves, as long as that is a single one.
///
/// A reader waits for each answer, so the two never run at the same time; on one processor the switch between them costs
/// a tenth of waking an idle one. Decoding ahead goes on elsewhere.
struct ClientFollower {
    private var client: UInt32 = 0
    /// Requests of ``client`` in a row.
    private var inRow = 0
    private var isPinned = false
    /// Processors that this thread may use, as bits.
    private let allowed: [UInt8]

    /// Requests in a row from one look-up of the processor to the next.
    private static let interval = 32

    init() {
        var mask = [UInt8](repeating: 0, count: Int(CLINUX_AFFINITY_SIZE))
        allowed = clinux_get_affinity(&mask) == 0 ? mask : []
    }

    /// - Parameter process: of the next request; 0 where it is in no namespace that this process sees.
    mutating func follow(_ process: UInt32) {
        guard process == client, process != 0 else {
            client = process
            inRow = 0
            if isPinned {
                isPinned = false
                _ = clinux_set_affinity(allowed)
            }
            return
        }
        inRow += 1
        guard inRow % Self.interval == 1, let processor = Self.processor(of: process) else { return }
        pin(to: processor)
    }

    private mutating func pin(to processor: Int) {
        let bit = UInt8(1) << UInt8(processor % 8)
        guard processor / 8 < allowed.count, allowed[processor / 8] & bit != 0 else { return }
        var mask = [UInt8](repeating: 0, count: allowed.count)
        mask[processor / 8] = bit
        isPinned = clinux_set_affinity(mask) == 0
    }

    /// The processor that a process ran on last, see proc_pid_stat(5), field 39.
    private static func processor(of process: UInt32) -> Int? {
        guard let text = try? Files.readText("/proc/\(process)/stat"), let end = text.lastIndex(of: ")") else { return nil }
        let fields = text[end...].split(separator: " ")
        return fields.count > 37 ? Int(fields[37]) : nil
    }
}
