/// Addresses of buffers for C, which takes no optional ones. Buffers without bytes have none, and are not given to it.
extension UnsafeMutableRawBufferPointer {
    var address: UnsafeMutableRawPointer {
        guard let baseAddress else { preconditionFailure("a buffer without bytes") }
        return baseAddress
    }
}

extension UnsafeRawBufferPointer {
    var address: UnsafeRawPointer {
        guard let baseAddress else { preconditionFailure("a buffer without bytes") }
        return baseAddress
    }
}
