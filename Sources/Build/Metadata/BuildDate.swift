import Linux

/// Dates as the label schema has them.
enum BuildDate {
    /// `Monday_2_January_2026_15:4:5_UTC`, without zeros in front.
    static func label(_ time: Int64) -> String {
        let date = CivilTime(time)
        let weekday = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"][Int((date.dayNumber % 7 + 7) % 7)]
        let months = [
            "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
            "December",
        ]
        return
            "\(weekday)_\(date.day)_\(months[date.month - 1])_\(date.year)_\(date.hour):\(date.minute):\(date.second)_UTC"
    }

    /// Unix seconds of an RFC 3339 time such as `2026-11-24T10:00:00.5Z`, nil for anything else.
    static func seconds(rfc3339 text: String) -> Int64? {
        let bytes = Array(text.utf8)
        func number(_ range: Range<Int>) -> Int64? {
            range.upperBound <= bytes.count ? Int64(String(decoding: bytes[range], as: UTF8.self)) : nil
        }
        guard let year = number(0..<4), let month = number(5..<7), let day = number(8..<10), let hour = number(11..<13),
            let minute = number(14..<16), let second = number(17..<19), (1...12).contains(month), (1...31).contains(day)
        else { return nil }
        let shiftedYear = month <= 2 ? year - 1 : year
        let era = shiftedYear / 400
        let yearOfEra = shiftedYear - era * 400
        let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
        let days = era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
        var seconds = days * 86400 + hour * 3600 + minute * 60 + second
        if let sign = bytes.lastIndex(where: { $0 == UInt8(ascii: "+") || $0 == UInt8(ascii: "-") }), sign > 18,
            let hours = number(sign + 1..<sign + 3), let minutes = number(sign + 4..<sign + 6)
        {
            seconds -= (bytes[sign] == UInt8(ascii: "+") ? 1 : -1) * (hours * 3600 + minutes * 60)
        }
        return seconds
    }
}
