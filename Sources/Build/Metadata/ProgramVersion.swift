/// The program's own version.
public enum ProgramVersion {
    public static let text = "5.0.0"
}
