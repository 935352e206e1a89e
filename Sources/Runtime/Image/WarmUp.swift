/// Files of an image that nearly every program needs in its first milliseconds.
enum WarmUp {
    /// The dynamic loader and the C library where the common distributions have them.
    private static let common: [String] = {
        #if arch(arm64)
            ["/lib/ld-linux-aarch64.so.1", "/lib/aarch64-linux-gnu/libc.so.6", "/lib64/libc.so.6"]
        #else
            ["/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/libc.so.6", "/lib64/libc.so.6"]
        #endif
    }()

    /// - Parameter action: whose program is looked for in the usual places.
    static func paths(_ action: RunOptions.Action) -> [String] {
        switch action {
        case .exec(let words):
            guard let name = words.first else { return common }
            return (name.contains("/") ? [name] : ["/usr/local/bin/\(name)", "/usr/bin/\(name)"]) + common
        case .run, .test, .shell, .start: return ["/bin/sh", "/bin/bash"] + common
        }
    }
}
