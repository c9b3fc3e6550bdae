//! Which instants are kept: from the year 1 to the last days of the year 9999. PostgreSQL begins at 4714 BC and this program's
//! calendar before that; between services and people only these years have a form.

use jiff::Timestamp;

/// The first instant of the year 1. The calendar ends by itself, within the last second of [`RANGE`]: later ones would be of
/// the year 10000 in the zones farthest to the east.
pub const FIRST: Timestamp = Timestamp::constant(-62_135_596_800, 0);
/// The first and the last second, as people are told them.
pub const RANGE: &str = "from 0001-01-01T00:00:00Z to 9999-12-30T22:00:00Z";

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
        let last = Timestamp::from_second(Timestamp::MAX.as_second()).unwrap();
        assert_eq!(RANGE, format!("from {FIRST} to {last}"));
        assert!("9999-12-31T00:00:00Z".parse::<Timestamp>().is_err(), "it is of the year 9999, and has no form");
    }
}
