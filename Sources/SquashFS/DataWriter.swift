import BlockIO
import Compression
import Crypto
import Glibc
import Linux

/// Writes the contents of files: cuts them into blocks, compresses these on several threads, and appends them in the
/// order in which they came, so that the same input gives the same bytes whatever the timing.
///
/// Memory is bounded: a fixed number of blocks is under way, and ``store(_:)`` waits for room.
///
/// `@unchecked Sendable`: the queue and all that the threads share is behind ``lock``; what belongs to the caller
/// (``fragment``, ``knownTails``) is touched only by the one thread that calls the storing functions, and what belongs
/// to the writing end (``output``, ``knownFiles``) only by the thread that holds ``isWriting``.
public final class DataWriter: @unchecked Sendable {
    let options: WriterOptions
    private let lock = Monitor()
    /// Blocks in the order of their submission. The head is the next one to be written.
    private var queue: [BlockJob] = []
    private var queueHead = 0
    private var nextToTake = 0
    private var isWriting = false
    private var isClosed = false
    private var failure: SquashFSError?
    private let capacity: Int
    private var threads: [WorkerThread] = []
    private var idleBuffers: [UnsafeMutableRawBufferPointer] = []

    private var fragment: UnsafeMutableRawBufferPointer
    private var fragmentFill = 0
    private var fragmentCount: UInt32 = 0
    private var knownTails: [ContentKey: StoredFile] = [:]
    /// Files in the fragment under construction, which gets its number when it is full.
    private var filesOfFragment: [StoredFile] = []
    private var copiedFragments: [CopyKey: UInt32] = [:]
    private var copiedFiles: [CopyKey: StoredFile] = [:]

    private var output: AppendBuffer
    private var fragmentTable: [SquashFSImage.FragmentEntry] = []
    private var knownFiles: [ContentKey: StoredFile] = [:]
    private var fileHash = SHA256()

    struct ContentKey: Hashable {
        var size: UInt64
        var digest: SHA256Digest
    }

    /// A place in another image.
    private struct CopyKey: Hashable {
        var image: ObjectIdentifier
        var place: UInt64
    }

    /// Bytes of another image that shall be appended, put off as long as what follows them there follows them here.
    private var run: (image: SquashFSImage, start: UInt64, count: UInt64)?

    /// - Parameters:
    ///   - descriptor: open for writing.
    ///   - base: where the file system starts in it, bytes.
    ///   - position: where the first block goes, bytes from `base`.
    ///   - transfer: copies blocks of other images later; nil to copy them at once.
    init(
        _ descriptor: CInt, base: UInt64, position: UInt64, options: WriterOptions, name: String, transfer: BlockTransfer?
    ) throws(SquashFSError) {
        self.options = options
        capacity = options.threads * 4 + 8
        output = AppendBuffer(descriptor, base: base, position: position, name: name, transfer: transfer)
        fragment = .allocate(byteCount: options.blockSize, alignment: 64)
        for _ in 0..<options.threads {
            let compressor: BlockCompressor
            do {
                compressor = try BlockCompressor(options.compressor, level: options.level, blockSize: options.blockSize)
            } catch { throw .compression(name: name, error) }
            // Lent to the one thread that uses it.
            nonisolated(unsafe) let lent = compressor
            do { threads.append(try WorkerThread { [self] in work(lent) }) } catch {
                close()
                throw .system(error)
            }
        }
    }

    deinit {
        fragment.deallocate()
        for buffer in idleBuffers { buffer.deallocate() }
    }

    // MARK: The caller's side

    /// Stores the rest of a stream as the content of one file.
    /// - Parameter size: bytes that the stream must have, nil where that is not known before.
    public func store(_ stream: some ByteStream, size: UInt64? = nil) throws -> StoredFile {
        let file = StoredFile()
        while true {
            let buffer = takeBuffer()
            let count: Int
            do { count = try stream.fill(buffer) } catch {
                returnBuffer(buffer)
                throw error
            }
            file.size += UInt64(count)
            if count == options.blockSize {
                try submit(.block(file), buffer, count)
                continue
            }
            if count > 0 && file.size == UInt64(count) {
                try storeTail(UnsafeRawBufferPointer(rebasing: buffer[..<count]), of: file)
                returnBuffer(buffer)
                return file
            }
            if count > 0 { try submit(.block(file), buffer, count) } else { returnBuffer(buffer) }
            if file.size > 0 { try submit(.endOfFile(file), nil, 0) }
            return file
        }
    }

    /// A file of less than a block goes into the fragment under construction, or shares the place of an equal one.
    private func storeTail(_ bytes: UnsafeRawBufferPointer, of file: StoredFile) throws(SquashFSError) {
        let key = ContentKey(size: UInt64(bytes.count), digest: digest(of: bytes))
        if let known = knownTails[key] {
            file.fragment = known.fragment
            file.fragmentOffset = known.fragmentOffset
            if known.fragment == nil { filesOfFragment.append(file) }
            return
        }
        if fragmentFill + bytes.count > options.blockSize { try flushFragment() }
        filesOfFragment.append(file)
        file.fragmentOffset = UInt32(fragmentFill)
        UnsafeMutableRawBufferPointer(rebasing: fragment[fragmentFill...]).copyMemory(from: bytes)
        fragmentFill += bytes.count
        knownTails[key] = file
    }

    private func digest(of bytes: UnsafeRawBufferPointer) -> SHA256Digest {
        var hash = SHA256()
        hash.update(bufferPointer: bytes)
        return hash.finalize()
    }

    private func flushFragment() throws(SquashFSError) {
        if fragmentFill == 0 { return }
        let full = fragment
        fragment = takeBuffer()
        let count = fragmentFill
        fragmentFill = 0
        for file in filesOfFragment { file.fragment = fragmentCount }
        filesOfFragment.removeAll(keepingCapacity: true)
        fragmentCount += 1
        try submit(.fragment, full, count)
    }

    /// Takes a file over from another image with its compressed blocks as they are.
    ///
    /// Only right where compressor and block size are the same, see ``canCopy(from:)``.
    public func copy(_ layout: FileLayout, from image: SquashFSImage) throws(SquashFSError) -> StoredFile {
        let file = StoredFile()
        file.size = layout.size
        if let fragment = layout.fragment {
            let key = CopyKey(image: ObjectIdentifier(image), place: UInt64(fragment))
            if let known = copiedFragments[key] {
                file.fragment = known
            } else {
                let entry = try image.fragment(fragment)
                file.fragment = fragmentCount
                copiedFragments[key] = fragmentCount
                fragmentCount += 1
                try submit(.copiedFragment(image, entry), nil, 0)
            }
            file.fragmentOffset = layout.fragmentOffset
        }
        file.blocks = layout.blocks
        guard !layout.blocks.isEmpty else { return file }
        // Equal files of the other image share their blocks, which must not be copied twice.
        let key = CopyKey(image: ObjectIdentifier(image), place: layout.start)
        if let known = copiedFiles[key], known.blocks.starts(with: file.blocks) {
            try submit(.sharedBlocks(file, known), nil, 0)
        } else {
            copiedFiles[key] = file
            try submit(.copiedBlocks(file, image, layout), nil, 0)
        }
        return file
    }

    /// Whether ``copy(_:from:)`` may take files from an image.
    public func canCopy(from image: SquashFSImage) -> Bool {
        image.superblock.compressor == options.compressor && image.blockSize == options.blockSize
    }

    /// Waits until everything is written.
    /// - Returns: where the data ends, bytes from the start of the file system, and the fragment table.
    func finish() throws(SquashFSError) -> (end: UInt64, fragments: [SquashFSImage.FragmentEntry]) {
        try flushFragment()
        close()
        if let failure { throw failure }
        try finishRun()
        try output.flush()
        return (output.position, fragmentTable)
    }

    /// Ends the threads; blocks that wait are still written unless something has failed.
    func close() {
        lock.locked {
            isClosed = true
            lock.wakeAll()
        }
        for thread in threads { thread.join() }
        threads = []
    }

    // MARK: The queue

    private func submit(
        _ kind: BlockJob.Kind, _ buffer: UnsafeMutableRawBufferPointer?, _ count: Int
    ) throws(SquashFSError) {
        let job = BlockJob(kind, input: buffer, count: count)
        try lock.locked { () throws(SquashFSError) in
            while queue.count - queueHead >= capacity && failure == nil { lock.wait() }
            if let failure { throw failure }
            queue.append(job)
            lock.wakeAll()
        }
    }

    private func takeBuffer() -> UnsafeMutableRawBufferPointer {
        lock.locked { idleBuffers.popLast() } ?? .allocate(byteCount: options.blockSize, alignment: 64)
    }

    private func returnBuffer(_ buffer: UnsafeMutableRawBufferPointer) {
        lock.locked { idleBuffers.append(buffer) }
    }

    /// What each thread does: compress the next block, then write whatever is ready at the head of the queue.
    private func work(_ compressor: BlockCompressor) {
        while let job = take() {
            if job.input != nil { job.compress(with: options.compressesData ? compressor : nil, into: takeBuffer()) }
            lock.locked { job.isReady = true }
            drain()
        }
    }

    private func take() -> BlockJob? {
        lock.locked {
            while true {
                if failure != nil { return nil }
                if nextToTake < queue.count {
                    nextToTake += 1
                    return queue[nextToTake - 1]
                }
                if isClosed { return nil }
                lock.wait()
            }
        }
    }

    /// Writes ready jobs in order. One thread at a time does it; the others go on compressing.
    private func drain() {
        guard lock.locked({ if isWriting { return false } else { isWriting = true; return true } }) else { return }
        while let job = nextReady() {
            do throws(SquashFSError) { try write(job) } catch {
                lock.locked {
                    failure = failure ?? error
                    lock.wakeAll()
                }
            }
            for buffer in [job.input, job.output] { if let buffer { returnBuffer(buffer) } }
        }
    }

    /// The head of the queue where it is ready; otherwise this thread stops being the one that writes.
    private func nextReady() -> BlockJob? {
        lock.locked {
            guard failure == nil, queueHead < queue.count, queue[queueHead].isReady else {
                isWriting = false
                return nil
            }
            let job = queue[queueHead]
            queueHead += 1
            if queueHead >= 256 {
                queue.removeFirst(queueHead)
                nextToTake -= queueHead
                queueHead = 0
            }
            lock.wakeAll()
            return job
        }
    }

    // MARK: The writing end

    private func write(_ job: BlockJob) throws(SquashFSError) {
        switch job.kind {
        case .block(let file): try writeBlock(job, of: file)
        case .endOfFile(let file): try finishFile(file)
        case .fragment:
            try finishRun()
            fragmentTable.append(.init(start: output.position, word: job.word))
            try output.append(job.stored)
        case .copiedBlocks(let file, let image, let layout):
            file.start = try extendRun(image, layout.start, layout.storedBytes)
        case .sharedBlocks(let file, let known): file.start = known.start
        case .copiedFragment(let image, let entry):
            let start = try extendRun(image, entry.start, UInt64(entry.word.storedBytes))
            fragmentTable.append(.init(start: start, word: entry.word))
        }
    }

    private func writeBlock(_ job: BlockJob, of file: StoredFile) throws(SquashFSError) {
        if file.blocks.isEmpty {
            try finishRun()
            file.start = output.position
            fileHash = SHA256()
        }
        file.blocks.append(job.word)
        if job.word.isHole {
            file.sparseBytes += UInt64(job.count)
            return
        }
        fileHash.update(bufferPointer: job.stored)
        try output.append(job.stored)
    }

    /// Gives a file that equals an earlier one the earlier one's blocks, and takes its own back.
    private func finishFile(_ file: StoredFile) throws(SquashFSError) {
        file.blocks.withUnsafeBytes { fileHash.update(bufferPointer: $0) }
        if file.sparseBytes == file.size { file.sparseBytes -= 1 }
        let key = ContentKey(size: file.size, digest: fileHash.finalize())
        if let known = knownFiles[key] {
            output.rewind(to: file.start)
            file.start = known.start
        } else {
            knownFiles[key] = file
        }
    }

    /// Appends bytes of another image.
    /// - Returns: where they will be.
    private func extendRun(_ image: SquashFSImage, _ start: UInt64, _ count: UInt64) throws(SquashFSError) -> UInt64 {
        if let run, run.image === image, run.start + run.count == start {
            self.run?.count += count
            return output.position + run.count
        }
        try finishRun()
        run = (image, start, count)
        return output.position
    }

    private func finishRun() throws(SquashFSError) {
        guard let (image, start, count) = run else { return }
        run = nil
        try output.append(count, at: start, from: image)
    }
}

/// One block on its way through a ``DataWriter``.
///
/// `@unchecked Sendable`: belongs to one thread at a time, handed on under the writer's lock.
final class BlockJob: @unchecked Sendable {
    enum Kind {
        case block(StoredFile)
        case endOfFile(StoredFile)
        case fragment
        case copiedBlocks(StoredFile, SquashFSImage, FileLayout)
        /// A file whose blocks another copied file has brought.
        case sharedBlocks(StoredFile, StoredFile)
        case copiedFragment(SquashFSImage, SquashFSImage.FragmentEntry)
    }

    let kind: Kind
    let input: UnsafeMutableRawBufferPointer?
    let count: Int
    private(set) var output: UnsafeMutableRawBufferPointer?
    private(set) var word = BlockWord.hole
    var isReady = false

    init(_ kind: Kind, input: UnsafeMutableRawBufferPointer?, count: Int) {
        self.kind = kind
        self.input = input
        self.count = count
    }

    private var plain: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(input ?? .init(start: nil, count: 0))[..<count])
    }

    /// The bytes for the image.
    var stored: UnsafeRawBufferPointer {
        guard word.isCompressed, let output else { return plain }
        return UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(output)[..<word.storedBytes])
    }

    /// - Parameter compressor: nil keeps the bytes as they are.
    func compress(with compressor: BlockCompressor?, into target: UnsafeMutableRawBufferPointer) {
        output = target
        if case .block = kind, isZero {
            word = .hole
            return
        }
        // A target one byte smaller than the block: a result that does not fit is not worth keeping.
        if let size = compressor?.compress(plain, into: UnsafeMutableRawBufferPointer(rebasing: target[..<(count - 1)])) {
            word = BlockWord(storedBytes: size, compressed: true)
        } else {
            word = BlockWord(storedBytes: count, compressed: false)
        }
    }

    private var isZero: Bool {
        let bytes = plain
        guard bytes[0] == 0, let base = bytes.baseAddress else { return false }
        return memcmp(base, base + 1, bytes.count - 1) == 0
    }
}
