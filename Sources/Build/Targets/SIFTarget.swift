import Glibc
import ImageTree
import Linux
import Messages
import SIF
import SquashFS

/// How an image file is written.
public struct ImageOptions: Sendable {
    public var writer: WriterOptions
    /// Unix seconds: newer times are set back to it (SOURCE_DATE_EPOCH).
    public var latestTime: Int64?
    /// Bills of materials of what is in the image are written.
    public var listsContents = true
    /// The root file system is encrypted; nil for a plain one.
    public var encryption: ImageEncryption?

    public init(writer: WriterOptions, latestTime: Int64?) {
        self.writer = writer
        self.latestTime = latestTime
    }
}

/// Writes a SIF with one root file system. Same input, same bytes: it has neither an identifier nor times of its own.
public struct SIFTarget {
    private let output: OutputFile
    private let options: ImageOptions

    /// - Parameter path: gets its content only when all is complete.
    public init(_ path: String, options: ImageOptions) throws(SystemError) {
        self.init(try OutputFile(path, mode: 0o755), options: options)
    }

    public init(_ output: OutputFile, options: ImageOptions) {
        self.output = output
        self.options = options
    }

    /// What stands before the file system.
    public struct Description {
        public var definition: String
        /// The object that `inspect` prints from.
        public var metadata: JSONValue
        /// Further JSON objects and texts, by name.
        public var objects: [Object] = []
        public var architecture: Architecture
        /// Unix seconds that documents of the image have.
        public var time: Int64 = 0
        /// A further object of the image.
        public typealias Object = (name: String, type: DataType, bytes: [UInt8])
        /// How it was made: further objects, and a statement. Asked for when the file system is being written, as it may have to be waited
        /// for; nil where that is recorded otherwise.
        public var record: (() throws -> (objects: [Object], provenance: Provenance))?

        public init(definition: String, metadata: JSONValue, architecture: Architecture) {
            self.definition = definition
            self.metadata = metadata
            self.architecture = architecture
        }
    }

    /// Writes everything; ``commit()`` gives it its name.
    /// - Parameter makeTree: hands over contents as they come, and returns the tree.
    public func write(_ description: Description, makeTree: (ImageWriter) throws -> Node) throws {
        let sif = try SIFWriter(creating: output.descriptor, name: output.path, time: nil, id: [])
        try sif.add(NewObject(.definitionFile), Array(description.definition.utf8))
        try sif.add(NewObject(.genericJSON, name: "inspect-metadata.json"), Array(description.metadata.compact.utf8))
        for object in description.objects { try sif.add(NewObject(object.type, name: object.name), object.bytes) }
        let transfer = options.encryption == nil ? BlockTransfer() : nil
        func fileSystem(_ descriptor: CInt, at position: UInt64) throws -> UInt64 {
            let writer = try ImageWriter(descriptor, at: position, options: options.writer, name: output.path, transfer: transfer)
            let root = try makeTree(writer)
            var sink = SquashFSSink(writer, latestTime: options.latestTime)
            return try sink.write(root)
        }
        if let encryption = options.encryption {
            try encryption.write(to: sif, output, type: .primarySystem, description.architecture) { try fileSystem($0, at: 0) }
        } else {
            let partition = NewObject(.partition, detail: .partition(.squashFS, .primarySystem, description.architecture))
            try sif.add(partition) { try fileSystem(output.descriptor, at: $0) }
        }
        // Of an encrypted image nobody shall know what is in it.
        try ImageDocuments(
            time: description.time, record: description.record, listsContents: options.listsContents && options.encryption == nil
        ).add(to: sif, transfer)
        try sif.commit()
    }

    func commit() throws { try output.commit() }
}
