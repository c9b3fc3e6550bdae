//! Which instants are kept: those of the years 1 to 9999. PostgreSQL begins at 4714 BC and this program's calendar before that;
//! between services and people only these years have a form.

use jiff::Timestamp;

/// The first instant of the year 1. The calendar ends with the year 9999 by itself.
pub const FIRST: Timestamp = Timestamp::constant(-62_135_596_800, 0);

/// Whether an instant can be stored and shown.
#[must_use]
pub fn is_storable(at: Timestamp) -> bool {
    at >= FIRST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_begin_with_the_year_one() {
        assert_eq!(FIRST.to_string(), "0001-01-01T00:00:00Z");
        assert!(is_storable(FIRST) && is_storable(Timestamp::MAX));
        assert!(!is_storable(Timestamp::MIN));
    }
}
