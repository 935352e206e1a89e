/// A small generator with a seed (SplitMix64).
public struct Generator: RandomNumberGenerator {
    public var state: UInt64
    public init(state: UInt64) { self.state = state }
    public mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}

/// Damaged copies of valid input.
public enum Mutations {
    /// Changes a few bytes, cuts some away, doubles a piece, or puts numbers at their limits.
    public static func of(_ bytes: [UInt8], _ generator: inout Generator) -> [UInt8] {
        var out = bytes
        for _ in 0..<Int.random(in: 1...4, using: &generator) where !out.isEmpty {
            let place = Int.random(in: 0..<out.count, using: &generator)
            switch Int.random(in: 0..<6, using: &generator) {
            case 0: out[place] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
            case 1: out[place] = UInt8.random(in: 0...255, using: &generator)
            case 2: out.removeSubrange(place...)
            case 3:
                let end = min(out.count, place + Int.random(in: 1...64, using: &generator))
                out.insert(contentsOf: out[place..<end], at: place)
            case 4:
                let end = min(out.count, place + Int.random(in: 1...16, using: &generator))
                out.replaceSubrange(place..<end, with: repeatElement(Bool.random(using: &generator) ? 0xff : 0, count: end - place))
            default:
                let end = min(out.count, place + Int.random(in: 1...32, using: &generator))
                out.removeSubrange(place..<end)
            }
        }
        return out
    }
}
