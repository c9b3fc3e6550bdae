//! Points in time as people write them. Refuses to know what they are for.

use jiff::{SignedDuration, Timestamp, civil::Date};

/// A point in time, in any of the notations of RFC 3339.
pub(crate) fn instant(text: &str) -> Result<Timestamp, String> {
    text.parse()
        .map_err(|_| format!("write a time with its offset, such as 2026-01-31T06:00:00Z, {}", domain::instant::RANGE))
}

/// An instant (`2026-01-02T03:04:05Z`), the beginning of a day in UTC (`2026-01-02`), or so long ago (`12h`, `30d`, `2w`).
pub(crate) fn before(text: &str) -> Result<Timestamp, String> {
    if let Ok(instant) = text.parse() {
        return Ok(instant);
    }
    if let Ok(day) = text.parse::<Date>() {
        return day.in_tz("UTC").map(|start| start.timestamp()).map_err(|e| e.to_string());
    }
    let wrong = || "write an instant, a day such as 2026-01-02, or an age such as 12h, 30d or 2w".to_owned();
    let unit = text.chars().last().ok_or_else(wrong)?;
    let hours = match unit {
        'h' => 1,
        'd' => 24,
        'w' => 168,
        _ => return Err(wrong()),
    };
    let number: i64 = text[..text.len() - 1].parse().ok().filter(|number| *number >= 0).ok_or_else(wrong)?;
    let age = number.checked_mul(hours).and_then(SignedDuration::try_from_hours).ok_or_else(wrong)?;
    Timestamp::now().checked_sub(age).map_err(|_| wrong())
}

/// An instant, or one that lies so long back.
pub(crate) fn past(text: &str) -> Result<Timestamp, String> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    let back: SignedDuration =
        text.parse().map_err(|_| "write 2026-01-31T12:00:00Z, or a duration back from now such as 2h".to_owned())?;
    Timestamp::now().checked_sub(back).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_an_instant() {
        assert_eq!(before("2026-01-02").unwrap().to_string(), "2026-01-02T00:00:00Z");
        assert_eq!(before("2026-01-02T03:04:05Z").unwrap().to_string(), "2026-01-02T03:04:05Z");
        let at = before("2w").unwrap();
        let age = Timestamp::now().duration_since(at);
        assert_eq!(age.as_hours(), 14 * 24);
        for wrong in ["", "w", "-1d", "3m", "d2", "99999999999999999999d", "9999999999999999w"] {
            assert!(before(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_end_of_time_is_told_as_it_is() {
        assert!(instant("9999-12-30T22:00:00Z").is_ok());
        for late in ["9999-12-30T22:00:01Z", "9999-12-31T00:00:00Z"] {
            assert!(instant(late).unwrap_err().ends_with("to 9999-12-30T22:00:00Z"), "{late}");
        }
    }

    #[test]
    fn instants_may_be_told_from_now() {
        assert_eq!(past("2026-01-31T12:00:00Z").unwrap().as_second(), 1_769_860_800);
        let hour = Timestamp::now().duration_since(past("1h").unwrap()).as_secs();
        assert!((3599..3602).contains(&hour), "{hour}");
        assert!(past("yesterday").is_err());
    }
}
