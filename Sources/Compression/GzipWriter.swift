import CDeflate
import Linux

/// Compresses bytes as they come (gzip, RFC 1952), on several threads.
///
/// Each piece of 1 MiB is a member of its own: the format lets members follow each other, and readers take them for one. The pieces do
/// not depend on the threads, so the same input gives the same bytes. For one thread that writes.
public final class GzipWriter {
    private static let pieceSize = 1 << 20
    /// libdeflate's, of 1 to 12.
    private static let level: CInt = 6

    private let output: (UnsafeRawBufferPointer) throws -> Void
    private let queue: Queue
    private var threads: [WorkerThread] = []
    private var piece: [UInt8] = []
    private var isEmpty = true

    /// A piece on its way.
    private struct Job {
        var input: [UInt8]
        var output: [UInt8] = []
        var isTaken = false
        var isReady = false
    }

    /// What the threads share.
    ///
    /// `@unchecked Sendable`: all state is behind ``lock``.
    private final class Queue: @unchecked Sendable {
        let lock = Monitor()
        var jobs: [Job] = []
        /// Number of the first of ``jobs``.
        var first = 0
        var isClosed = false
    }

    /// - Parameters:
    ///   - threads: that compress.
    ///   - output: takes the compressed bytes in order, in the thread that writes.
    public init(threads count: Int, output: @escaping (UnsafeRawBufferPointer) throws -> Void) throws {
        self.output = output
        queue = Queue()
        piece.reserveCapacity(Self.pieceSize)
        for _ in 0..<max(1, count) {
            guard let handle = libdeflate_alloc_compressor(Self.level) else { throw CompressionError.outOfMemory }
            let queue = queue
            // Lent to the one thread that uses it.
            nonisolated(unsafe) let lent = handle
            threads.append(
                try WorkerThread {
                    Self.work(queue, lent)
                    libdeflate_free_compressor(lent)
                })
        }
    }

    deinit { close() }

    private func close() {
        queue.lock.locked {
            queue.isClosed = true
            queue.lock.wakeAll()
        }
        for thread in threads { thread.join() }
        threads = []
    }

    /// Takes bytes; what is compressed by then is handed on.
    public func write(_ bytes: UnsafeRawBufferPointer) throws {
        var rest = bytes
        while !rest.isEmpty {
            let part = UnsafeRawBufferPointer(rebasing: rest.prefix(Self.pieceSize - piece.count))
            piece.append(contentsOf: part)
            rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(part.count))
            if piece.count == Self.pieceSize { try submit() }
        }
    }

    /// Compresses what is left, and hands it on.
    public func finish() throws {
        if !piece.isEmpty || isEmpty { try submit() }
        while let compressed = next(where: { _ in true }) { try hand(compressed) }
        close()
    }

    private func submit() throws {
        isEmpty = false
        let room = threads.count * 2
        while let compressed = next(where: { $0 >= room }) { try hand(compressed) }
        queue.lock.locked {
            queue.jobs.append(Job(input: piece))
            queue.lock.wakeAll()
        }
        piece.removeAll(keepingCapacity: true)
    }

    private func hand(_ compressed: [UInt8]) throws { try compressed.withUnsafeBytes(output) }

    /// The oldest piece, compressed; nil where there is none, or none has to be waited for.
    /// - Parameter mustWait: told how many pieces there are.
    private func next(where mustWait: (Int) -> Bool) -> [UInt8]? {
        queue.lock.locked {
            guard !queue.jobs.isEmpty, mustWait(queue.jobs.count) else { return nil }
            while !queue.jobs[0].isReady { queue.lock.wait() }
            queue.first += 1
            return queue.jobs.removeFirst().output
        }
    }

    private static func work(_ queue: Queue, _ compressor: OpaquePointer) {
        while true {
            let job: (number: Int, input: [UInt8])? = queue.lock.locked {
                while true {
                    if let index = queue.jobs.firstIndex(where: { !$0.isTaken }) {
                        queue.jobs[index].isTaken = true
                        return (queue.first + index, queue.jobs[index].input)
                    }
                    if queue.isClosed { return nil }
                    queue.lock.wait()
                }
            }
            guard let job else { return }
            let output = member(of: job.input, compressor)
            queue.lock.locked {
                queue.jobs[job.number - queue.first].output = output
                queue.jobs[job.number - queue.first].isReady = true
                queue.lock.wakeAll()
            }
        }
    }

    private static func member(of input: [UInt8], _ compressor: OpaquePointer) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: libdeflate_gzip_compress_bound(compressor, input.count)) { buffer, count in
            input.withUnsafeBytes { bytes in
                count = libdeflate_gzip_compress(compressor, bytes.baseAddress, bytes.count, buffer.baseAddress, buffer.count)
            }
        }
    }
}
