import BlockIO
import Foundation
import Testing

import SIF

@Suite struct ListingTests {
    @Test func timesAreInUTC() {
        #expect(Listing.time(0) == "1970-01-01 00:00:00 +0000 UTC")
        #expect(Listing.time(1_795_462_016) == "2026-11-23 19:26:56 +0000 UTC")
        #expect(Listing.time(951_782_400) == "2000-02-29 00:00:00 +0000 UTC")
    }
}
