import Cryptography
import FoundationEssentials
import SIF

/// The text that is signed: digests of the header and of objects ("SIF integrity, image metadata").
package struct ImageMetadata {
    struct Object {
        /// Number within the group, from 0.
        var relativeID: UInt32
        var descriptor: DigestText
        var data: DigestText
    }

    var header: DigestText
    /// By number.
    var objects: [Object]

    /// Digests objects of a group of an image.
    init(_ covered: CoveredBytes, _ objects: [Descriptor], group: UInt32) throws {
        let first = covered.firstNumber(in: group)
        header = DigestText(.sha256, try covered.headerDigest(.sha256))
        self.objects = try objects.map { object in
            let relative = object.id - first
            return Object(
                relativeID: relative, descriptor: DigestText(.sha256, try covered.descriptorDigest(object.id, relative: relative, .sha256)),
                data: DigestText(.sha256, try covered.dataDigest([object], .sha256)))
        }
    }

    /// Compact, with the members in this order, as the peers write it.
    var json: String {
        let list = objects.map {
            "{\"relativeId\":\($0.relativeID),\"descriptorDigest\":\"\($0.descriptor.text)\",\"objectDigest\":\"\($0.data.text)\"}"
        }
        return "{\"version\":1,\"header\":{\"digest\":\"\(header.text)\"},\"objects\":[\(list.joined(separator: ","))]}"
    }

    // MARK: Reading

    private struct Document: Decodable {
        struct Header: Decodable { var digest: String }
        struct Object: Decodable {
            var relativeId: UInt32
            var descriptorDigest: String
            var objectDigest: String
        }
        var version: Int
        var header: Header
        var objects: [Object]?
    }

    /// - Throws: a sentence.
    package init(parsing json: [UInt8]) throws(DigestError) {
        do {
            let document = try JSONDecoder().decode(Document.self, from: Data(json))
            guard document.version == 1 else {
                throw DigestError(description: "image metadata of the version \(document.version) are not known")
            }
            header = try DigestText(document.header.digest)
            objects = try (document.objects ?? []).map {
                Object(relativeID: $0.relativeId, descriptor: try DigestText($0.descriptorDigest), data: try DigestText($0.objectDigest))
            }
        } catch let error as DigestError { throw error } catch { throw DigestError(description: "image metadata malformed") }
        guard Set(objects.map(\.relativeID)).count == objects.count else {
            throw DigestError(description: "image metadata name an object twice")
        }
    }
}
