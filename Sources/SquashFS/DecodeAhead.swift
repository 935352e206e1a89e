import Glibc
import Linux

/// Decodes, in a thread of its own, the block that a reader will want next, while the reader is busy with this one.
///
/// Only what follows what was just read is decoded ahead, so that random access costs next to nothing more.
///
/// `@unchecked Sendable`: all state is behind ``lock``.
public final class DecodeAhead: @unchecked Sendable {
    private let image: SquashFSImage
    private let lock = Monitor()
    private var queue: [SquashFSImage.FragmentEntry] = []
    private var hasEnded = false
    private var thread: WorkerThread?

    /// More than that is not waited for: a reader has overtaken it.
    private static let longestQueue = 4

    /// Decodes nothing until it is told where somebody reads.
    public init(_ image: SquashFSImage) { self.image = image }

    /// Starts the thread; without one, nothing is decoded ahead.
    /// - Parameter paths: files that will be wanted first; those that are not there are left out.
    public func start(with paths: [String] = []) {
        thread = try? WorkerThread { [self] in
            // Whoever waits for an answer comes first. On Linux this is a property of the thread.
            setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, 10)
            for path in paths { decode(path) }
            run()
        }
    }

    /// Blocks of one file that are decoded before anybody asks for them.
    private static let mostBlocks = 24

    private func decode(_ path: String) {
        guard let inode = try? image.resolve(path), case .file(let layout) = inode.content else { return }
        for (index, word) in layout.blocks.prefix(Self.mostBlocks).enumerated() where !word.isHole {
            if lock.locked({ hasEnded }) { return }
            _ = try? image.cachedBlock(at: layout.position(ofBlock: index), word: word)
            // A thread that has an answer to give may be waiting for this processor.
            sched_yield()
        }
        if let fragment = layout.fragment, let entry = try? image.fragment(fragment) {
            _ = try? image.cachedBlock(at: entry.start, word: entry.word)
        }
    }

    /// Ends its threads; waits for them.
    public func stop() {
        lock.locked {
            hasEnded = true
            lock.wakeAll()
        }
        thread?.join()
    }

    /// Told of a read before it is done.
    /// - Parameters:
    ///   - offset: in bytes of the file.
    ///   - count: bytes, at least 1.
    public func willRead(_ layout: FileLayout, at offset: UInt64, count: Int) {
        guard offset < layout.size, count > 0 else { return }
        let blockSize = UInt64(image.blockSize)
        let end = min(layout.size, offset + UInt64(count))
        let last = Int((end - 1) / blockSize)
        if last >= layout.blocks.count {
            if let fragment = layout.fragment { enteredFragment(fragment) }
            return
        }
        // A read that begins with a block, of a reader that goes on.
        guard offset % blockSize == 0 else { return }
        if last + 1 < layout.blocks.count {
            let word = layout.blocks[last + 1]
            if !word.isHole { want(SquashFSImage.FragmentEntry(start: layout.position(ofBlock: last + 1), word: word)) }
        } else if let fragment = layout.fragment, let entry = try? image.fragment(fragment) {
            want(entry)
        }
    }

    /// Small files lie in the order of their names: who has read the fragment before this one will read the next.
    private func enteredFragment(_ index: UInt32) {
        guard index > 0, let before = try? image.fragment(index - 1), image.blocks.contains(before.start),
            let next = try? image.fragment(index + 1)
        else { return }
        want(next)
    }

    private func want(_ entry: SquashFSImage.FragmentEntry) {
        guard !image.blocks.contains(entry.start) else { return }
        lock.locked {
            guard queue.count < Self.longestQueue, !queue.contains(where: { $0.start == entry.start }) else { return }
            queue.append(entry)
            lock.wakeAll()
        }
    }

    private func run() {
        while true {
            let entry: SquashFSImage.FragmentEntry? = lock.locked {
                while queue.isEmpty && !hasEnded { lock.wait() }
                return hasEnded ? nil : queue.removeFirst()
            }
            guard let entry else { return }
            // An error is met again, and reported, by whoever reads the block.
            _ = try? image.cachedBlock(at: entry.start, word: entry.word)
            sched_yield()
        }
    }
}
