import Glibc
import Linux
import SquashFS

/// A regular file of an image that is not mounted, or of a directory, read in parts.
package struct RootFile {
    private enum Content {
        case image(SquashFSImage, FileLayout)
        case file(SharedDescriptor)
    }

    private let content: Content
    /// Bytes.
    package let size: Int

    init(_ image: SquashFSImage, _ layout: FileLayout) {
        content = .image(image, layout)
        size = Int(clamping: layout.size)
    }

    /// Nil where it is not a regular file.
    package init?(_ file: consuming OwnedDescriptor) {
        var status = stat()
        guard fstat(file.rawValue, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
        content = .file(SharedDescriptor(file))
        size = Int(status.st_size)
    }

    /// - Returns: nil where they are not all there.
    package func bytes(at offset: Int, count: Int) -> [UInt8]? {
        guard offset >= 0, count >= 0, offset <= size, count <= size - offset else { return nil }
        var out = [UInt8](repeating: 0, count: count)
        let got: Int? = out.withUnsafeMutableBytes { buffer in
            switch content {
            case .image(let image, let layout): try? image.read(layout, at: UInt64(offset), into: buffer)
            case .file(let file): retryingOnInterrupt { pread(file.rawValue, buffer.baseAddress, buffer.count, off_t(offset)) }
            }
        }
        return got == count ? out : nil
    }
}
