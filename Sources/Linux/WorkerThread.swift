import Glibc

/// A plain thread. The launcher and the FUSE server must not use Dispatch or Swift tasks: they fork.
///
/// `@unchecked Sendable`: the handle is written once, in `init`.
public final class WorkerThread: @unchecked Sendable {
    private final class Body {
        let run: @Sendable () -> Void
        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }

    private var handle = pthread_t()

    /// Starts `run` in a new thread.
    /// - Throws: `EAGAIN` where the process may have no more threads, see pthread_create(3).
    public init(_ run: @escaping @Sendable () -> Void) throws(SystemError) {
        let body = Unmanaged.passRetained(Body(run))
        let result = pthread_create(
            &handle, nil,
            { argument in
                if let argument { Unmanaged<Body>.fromOpaque(argument).takeRetainedValue().run() }
                return nil
            }, body.toOpaque())
        guard result == 0 else {
            body.release()
            throw SystemError("start a thread", errno: result)
        }
    }

    /// Waits until the thread has ended.
    public func join() { pthread_join(handle, nil) }
}
