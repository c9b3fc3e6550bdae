//! Instants on the wire.

use crate::status::Problem;

/// An instant for the wire.
#[must_use]
pub fn to_proto(instant: jiff::Timestamp) -> prost_types::Timestamp {
    // Before 1970 the parts of jiff are both negative; those of the wire have a positive fraction.
    let (seconds, nanos) = (instant.as_second(), instant.subsec_nanosecond());
    if nanos < 0 {
        prost_types::Timestamp { seconds: seconds - 1, nanos: nanos + 1_000_000_000 }
    } else {
        prost_types::Timestamp { seconds, nanos }
    }
}

/// The instant in the field `field`.
///
/// # Errors
/// Instants outside of [`domain::instant::RANGE`], and fractions outside of a second.
pub fn from_proto(timestamp: &prost_types::Timestamp, field: &str) -> Result<jiff::Timestamp, Problem> {
    let wrong = || Problem::invalid(field, format!("must be an instant {}", domain::instant::RANGE));
    if !(0..1_000_000_000).contains(&timestamp.nanos) {
        return Err(wrong());
    }
    let seconds = jiff::Timestamp::from_second(timestamp.seconds).map_err(|_| wrong())?;
    let instant = seconds.checked_add(jiff::SignedDuration::from_nanos(i64::from(timestamp.nanos)));
    instant.ok().filter(|at| domain::instant::is_storable(*at)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_come_back_to_the_nanosecond() {
        for text in [
            "2026-11-21T04:07:00.123456789Z",
            "1969-12-31T23:59:59.25Z",
            "1970-01-01T00:00:00Z",
            "0001-01-01T00:00:00Z",
        ] {
            let instant: jiff::Timestamp = text.parse().unwrap();
            let wire = to_proto(instant);
            assert!((0..1_000_000_000).contains(&wire.nanos));
            assert_eq!(from_proto(&wire, "at"), Ok(instant), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let before_all = domain::instant::FIRST.as_second() - 1;
        for (seconds, nanos) in
            [(i64::MAX, 0), (i64::MIN, 0), (0, -1), (0, 1_000_000_000), (before_all, 0), (before_all, 999_999_999)]
        {
            assert!(from_proto(&prost_types::Timestamp { seconds, nanos }, "at").is_err());
        }
        // The last day of the year 9999.
        let last = from_proto(&prost_types::Timestamp { seconds: 253_402_214_400, nanos: 0 }, "at").unwrap_err();
        assert!(last.message.contains("to 9999-12-30T22:00:00Z"), "{}", last.message);
    }
}
