/// Whose the files of an image appear to be.
public enum Ownership: Sendable {
    /// As in the image.
    case asStored
    /// All files belong to one user and group: the only ones that exist in a user namespace with a single id.
    case single(uid: UInt32, gid: UInt32)
    /// As in the image, as far as these many ids exist; others are root's.
    case within(users: UInt32, groups: UInt32)
    /// All files belong to root, and an ``OwnerRecord`` says whose they are in the image.
    case recorded

    /// The ids that the kernel is told.
    func shown(uid: UInt32, gid: UInt32) -> (uid: UInt32, gid: UInt32) {
        switch self {
        case .asStored: (uid, gid)
        case .single(let uid, let gid): (uid, gid)
        case .within(let users, let groups): (uid < users ? uid : 0, gid < groups ? gid : 0)
        case .recorded: (0, 0)
        }
    }
}
