/// Waits in plain code for a task.
public enum Blocking {
    private final class Box<T: Sendable>: @unchecked Sendable {
        private let monitor = Monitor()
        private var result: Result<T, any Error>?
        func set(_ value: Result<T, any Error>) {
            monitor.locked {
                result = value
                monitor.wakeAll()
            }
        }
        func wait() throws -> T {
            try monitor.locked {
                while true {
                    if let result { return try result.get() }
                    monitor.wait()
                }
            }
        }
    }

    public static func run<T: Sendable>(_ body: @escaping @Sendable () async throws -> T) throws -> T {
        let box = Box<T>()
        Task {
            do { box.set(.success(try await body())) } catch { box.set(.failure(error)) }
        }
        return try box.wait()
    }
}
