import CLinux
import Glibc
import Linux
import SquashFS

/// Puts parts of files into the kernel's page cache that a program is likely to touch soon (FUSE_NOTIFY_STORE, linux/fuse.h).
///
/// A program that is mapped into memory touches its file here and there. The kernel then reads 128 KiB around each such place, which
/// is all that a mount without root may ask for, and the program waits each time. So what follows such a place is stored without
/// having been asked for, by a thread of its own with a low priority. Who touches a large file at random for long gets single pages
/// from the kernel, and nothing from here.
///
/// `@unchecked Sendable`: all state is behind ``lock``.
final class PageFiller: @unchecked Sendable {
    /// Blocks of a file that are to be stored.
    private struct Task {
        var node: UInt64
        var layout: FileLayout
        var blocks: Range<Int>
    }

    private let image: SquashFSImage
    private let device: CInt
    private let lock = Monitor()
    private var queue: [Task] = []
    private var hasEnded = false
    private var thread: WorkerThread?
    /// Blocks that the kernel has, by the file's node.
    private var stored: [UInt64: Set<Int>] = [:]
    /// Where the last read of a file has ended.
    private var ends: [UInt64: UInt64] = [:]

    /// Bytes that one read brings with it.
    private static let reach = 3 << 19
    /// Bytes of the smallest read that the kernel has made larger, as it expects that more will be read.
    private static let leastRead = 16 << 10
    /// More is not waited for: the program has gone on.
    private static let longestQueue = 8
    /// Files that are remembered.
    private static let mostFiles = 1024

    init(_ image: SquashFSImage, device: CInt) {
        self.image = image
        self.device = device
    }

    /// Starts the thread; without one, nothing is stored.
    func start() {
        thread = try? WorkerThread { [self] in
            setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, 10)
            run()
        }
    }

    /// Ends it, and waits for that.
    func stop() {
        lock.locked {
            hasEnded = true
            lock.wakeAll()
        }
        thread?.join()
    }

    /// Told of each read that was answered.
    func didRead(_ node: UInt64, _ layout: FileLayout, at offset: UInt64, count: Int) {
        guard layout.blocks.count > 1 else { return }
        let end = offset + UInt64(count)
        lock.locked {
            let goesOn = ends[node] == offset
            if ends.count >= Self.mostFiles { ends.removeAll(keepingCapacity: true) }
            ends[node] = end
            // Who reads on from one place to the next is served by the kernel's own read-ahead.
            guard !goesOn, count >= Self.leastRead, queue.count < Self.longestQueue else { return }
            let first = Int(offset / UInt64(image.blockSize))
            guard first < layout.blocks.count else { return }
            let mostBlocks = max(1, Self.reach / Int(image.blockSize))
            queue.append(Task(node: node, layout: layout, blocks: first..<min(first + mostBlocks, layout.blocks.count)))
            lock.wakeAll()
        }
    }

    private func run() {
        while true {
            let task: Task? = lock.locked {
                while queue.isEmpty && !hasEnded { lock.wait() }
                return hasEnded ? nil : queue.removeFirst()
            }
            guard let task else { return }
            for block in task.blocks where isNew(block, of: task.node) {
                if lock.locked({ hasEnded }) { return }
                store(block, of: task)
            }
        }
    }

    private func isNew(_ block: Int, of node: UInt64) -> Bool {
        lock.locked {
            if stored.count >= Self.mostFiles { stored.removeAll(keepingCapacity: true) }
            return stored[node, default: []].insert(block).inserted
        }
    }

    private func store(_ block: Int, of task: Task) {
        // An error is met again, and reported, by whoever reads the block.
        try? image.withBlock(block, of: task.layout) { bytes in
            var notice = fuse_notify_store_out()
            notice.nodeid = task.node
            notice.offset = UInt64(block) * UInt64(image.blockSize)
            notice.size = UInt32(bytes.count)
            Notification(device: device).send(FUSE_NOTIFY_STORE, notice, bytes)
        }
    }
}
