import Linux

/// Reads another stream in a thread of its own, a bounded number of bytes ahead.
///
/// `@unchecked Sendable`: what both threads touch is behind ``monitor``; a chunk belongs to one of them at a time.
public final class ReadAheadStream: ByteStream, @unchecked Sendable {
    private final class Chunk {
        let storage: UnsafeMutableRawBufferPointer
        var count = 0
        var position = 0
        init(_ size: Int) { storage = .allocate(byteCount: size, alignment: 4096) }
        deinit { storage.deallocate() }
    }

    private let monitor = Monitor()
    private var free: [Chunk]
    private var filled: [Chunk] = []
    private var failure: (any Error)?
    private var isEnded = false
    private var isAbandoned = false
    private var current: Chunk?
    private var thread: WorkerThread?

    /// - Parameters:
    ///   - input: used by the new thread alone from now on.
    ///   - chunkSize: bytes that are handed over at a time.
    ///   - chunks: how many of them there are.
    ///   - observe: sees each chunk in order, in the new thread.
    public init(
        _ input: any ByteStream, chunkSize: Int = 1 << 20, chunks: Int = 4,
        observe: @escaping (UnsafeRawBufferPointer) -> Void = { _ in }
    ) throws(SystemError) {
        free = (0..<chunks).map { _ in Chunk(chunkSize) }
        nonisolated(unsafe) let input = input
        nonisolated(unsafe) let observe = observe
        thread = try WorkerThread { [monitor = Unowned(self)] in monitor.value.run(input, observe) }
    }

    private struct Unowned: @unchecked Sendable {
        unowned(unsafe) let value: ReadAheadStream
        init(_ value: ReadAheadStream) { self.value = value }
    }

    deinit {
        // The thread does not keep the stream alive, so that a reader who gives up ends it.
        monitor.locked {
            isAbandoned = true
            monitor.wakeAll()
        }
        thread?.join()
    }

    private func run(_ input: any ByteStream, _ observe: (UnsafeRawBufferPointer) -> Void) {
        while let chunk = takeFree() {
            do {
                chunk.count = try input.fill(chunk.storage)
                chunk.position = 0
                observe(UnsafeRawBufferPointer(rebasing: chunk.storage[..<chunk.count]))
                let isLast = chunk.count < chunk.storage.count
                hand(over: chunk, isLast: isLast)
                if isLast { return }
            } catch {
                monitor.locked {
                    failure = error
                    monitor.wakeAll()
                }
                return
            }
        }
    }

    private func takeFree() -> Chunk? {
        monitor.locked {
            while free.isEmpty && !isAbandoned { monitor.wait() }
            return isAbandoned ? nil : free.removeLast()
        }
    }

    private func hand(over chunk: Chunk, isLast: Bool) {
        monitor.locked {
            filled.append(chunk)
            isEnded = isLast
            monitor.wakeAll()
        }
    }

    /// Takes what the thread has read, and waits for it where there is nothing yet.
    public func read(into buffer: UnsafeMutableRawBufferPointer) throws -> Int {
        while true {
            if let current, current.position < current.count {
                let count = min(buffer.count, current.count - current.position)
                buffer.copyMemory(
                    from: UnsafeRawBufferPointer(rebasing: current.storage[current.position..<current.position + count]))
                current.position += count
                return count
            }
            guard try next() else { return 0 }
        }
    }

    /// Gives the chunk that is used up back and takes the next one.
    private func next() throws -> Bool {
        try monitor.locked {
            if let current {
                free.append(current)
                self.current = nil
                monitor.wakeAll()
            }
            while filled.isEmpty {
                if let failure { throw failure }
                if isEnded { return false }
                monitor.wait()
            }
            current = filled.removeFirst()
            return true
        }
    }
}
