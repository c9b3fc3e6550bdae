//! Amounts as people write them: GPUs, cores, bytes, lengths of time and windows. Refuses to know whose they are.

use super::times;
use jiff::SignedDuration;
use proto::v1::PlanWindow;

/// What is set, or taken back by the word `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setting<T> {
    /// Taken back.
    None,
    /// This one.
    Of(T),
}

/// A limit that is set or taken away.
pub(crate) type Bound = Setting<i64>;

impl<T> Setting<T> {
    /// As the API has what may be absent.
    pub(crate) fn value(self) -> Option<T> {
        match self {
            Self::None => None,
            Self::Of(value) => Some(value),
        }
    }

    /// What holds now, after this was said over what held before, or nothing was said.
    pub(crate) fn over(said: Option<Self>, before: Option<T>) -> Option<T> {
        said.map_or(before, Self::value)
    }
}

impl Bound {
    /// As the API has small limits.
    pub(crate) fn small(self) -> Option<i32> {
        self.value().map(|value| i32::try_from(value).unwrap_or(i32::MAX))
    }
}

/// As `read`, or `none`.
pub(crate) fn or_none<T, E>(read: fn(&str) -> Result<T, E>) -> impl Fn(&str) -> Result<Setting<T>, E> + Clone {
    move |text: &str| if text == "none" { Ok(Setting::None) } else { read(text).map(Setting::Of) }
}

/// `2.5` as 2,500: GPUs or cores in thousandths.
pub(crate) fn milli(text: &str) -> Result<i64, String> {
    let wrong = || "write a number such as 2, 0.5 or 1.25".to_owned();
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    if whole.is_empty() || part.len() > 3 || !digits(whole) || !digits(part) {
        return Err(wrong());
    }
    let whole: i64 = whole.parse().map_err(|_| wrong())?;
    let part: i64 = format!("{part:0<3}").parse().map_err(|_| wrong())?;
    whole.checked_mul(1000).and_then(|milli| milli.checked_add(part)).ok_or_else(wrong)
}

/// As [`milli`], or `none`.
pub(crate) fn milli_bound(text: &str) -> Result<Bound, String> {
    or_none(milli)(text)
}

/// `512MiB`, `8GiB`, or plain bytes.
pub(crate) fn bytes(text: &str) -> Result<i64, String> {
    let wrong = || "write bytes, or a number with KiB, MiB, GiB or TiB, such as 8GiB".to_owned();
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];
    let unit =
        units.into_iter().find_map(|(unit, bits)| text.strip_suffix(unit).map(|number| (number.trim_end(), bits)));
    let (number, bits) = unit.unwrap_or((text, 0));
    let number: i64 = number.parse().ok().filter(|number| *number >= 0).ok_or_else(wrong)?;
    number.checked_mul(1 << bits).ok_or_else(wrong)
}

/// As [`milli`], and not nothing: in the contract that is the usual amount.
pub(crate) fn some_milli(text: &str) -> Result<i64, String> {
    milli(text).and_then(some)
}

/// As [`bytes`], and not nothing.
pub(crate) fn some_bytes(text: &str) -> Result<i64, String> {
    bytes(text).and_then(some)
}

fn some(amount: i64) -> Result<i64, String> {
    if amount > 0 { Ok(amount) } else { Err("a runtime needs some of it (RESOURCE_LIMIT)".to_owned()) }
}

/// As [`bytes`], or `none`.
pub(crate) fn bytes_bound(text: &str) -> Result<Bound, String> {
    or_none(bytes)(text)
}

/// A count, or `none`.
pub(crate) fn count_bound(text: &str) -> Result<Bound, String> {
    or_none(|text| text.parse().map_err(|_| "write a number".to_owned()))(text)
}

/// `30m`, `2h`, `90s` as seconds; `never` is 0.
pub(crate) fn seconds(text: &str) -> Result<i32, String> {
    if text == "never" {
        return Ok(0);
    }
    let wrong = || "write a duration such as 90s, 30m or 2h, or never".to_owned();
    let duration: SignedDuration = text.parse().map_err(|_| wrong())?;
    i32::try_from(duration.as_secs()).ok().filter(|seconds| *seconds >= 0).ok_or_else(wrong)
}

/// As [`seconds`], or `none`.
pub(crate) fn seconds_bound(text: &str) -> Result<Bound, String> {
    or_none(|text| seconds(text).map(i64::from))(text)
}

/// `A10=2.5`: a model and its GPUs.
pub(crate) fn model_milli(text: &str) -> Result<(String, i64), String> {
    let (model, gpus) = text.rsplit_once('=').ok_or("write it as MODEL=GPUS")?;
    Ok((model.to_owned(), milli(gpus)?))
}

/// `mon-fri 08:00-18:00 Europe/Berlin`, `sat,sun 00:00-24:00`, or `2026-12-01T08:00Z/2026-12-02T08:00Z`.
pub(crate) fn window(text: &str) -> Result<PlanWindow, String> {
    let mut words = text.split_whitespace();
    let first = words.next().unwrap_or_default();
    if let Some((from, to)) = first.split_once('/') {
        let at = |text: &str| times::instant(text).map(rpc::timestamp::to_proto);
        let time_zone = words.next().unwrap_or("UTC").to_owned();
        return Ok(PlanWindow {
            time_zone,
            starts_at: Some(at(from)?),
            ends_at: Some(at(to)?),
            ..PlanWindow::default()
        });
    }
    let wrong = || "write it as `mon-fri 08:00-18:00 Europe/Berlin`, or as START/END in UTC".to_owned();
    let (from, to) = words.next().and_then(|hours| hours.split_once('-')).ok_or_else(wrong)?;
    Ok(PlanWindow {
        time_zone: words.next().unwrap_or("UTC").to_owned(),
        weekdays: days(first).ok_or_else(wrong)?,
        start_minute: minute(from).ok_or_else(wrong)?,
        end_minute: minute(to).ok_or_else(wrong)?,
        ..PlanWindow::default()
    })
}

/// The days of the week, from 1.
pub(crate) const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

fn days(text: &str) -> Option<Vec<i32>> {
    let number = |day: &str| DAYS.iter().position(|known| *known == day).and_then(|at| i32::try_from(at + 1).ok());
    let mut days = Vec::new();
    for part in text.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to) = (number(from)?, number(to)?);
        if from > to {
            return None;
        }
        days.extend(from..=to);
    }
    Some(days)
}

fn minute(text: &str) -> Option<i32> {
    let (hour, minute) = text.split_once(':')?;
    let (hour, minute): (i32, i32) = (hour.parse().ok()?, minute.parse().ok()?);
    ((0..=24).contains(&hour) && (0..60).contains(&minute)).then_some(hour * 60 + minute)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_whole_numbers() {
        for (text, expect) in [("2", Ok(2000)), ("0.5", Ok(500)), ("1.25", Ok(1250)), ("0.001", Ok(1))] {
            assert_eq!(milli(text), expect, "{text}");
        }
        for wrong in ["", ".5", "1.2345", "-1", "1,5", "99999999999999999999"] {
            assert!(milli(wrong).is_err(), "{wrong}");
        }
        assert_eq!((bytes("8GiB"), bytes("512 MiB"), bytes("7")), (Ok(8 << 30), Ok(512 << 20), Ok(7)));
        assert!(some_milli("0.0").is_err() && some_bytes("0GiB").is_err() && some_bytes("1") == Ok(1));
        assert!(bytes("8GB").is_err() && bytes("-1").is_err() && bytes("99999999TiB").is_err());
        assert_eq!((seconds("2h"), seconds("90s"), seconds("never")), (Ok(7200), Ok(90), Ok(0)));
        assert_eq!((milli_bound("none"), milli_bound("1")), (Ok(Bound::None), Ok(Bound::Of(1000))));
        assert_eq!(model_milli("NVIDIA A10=0.5"), Ok(("NVIDIA A10".to_owned(), 500)));
    }

    #[test]
    fn windows_are_weekly_or_once() {
        let weekly = window("mon-wed,sat 08:00-24:00 Europe/Berlin").unwrap();
        assert_eq!((weekly.weekdays, weekly.start_minute, weekly.end_minute), (vec![1, 2, 3, 6], 480, 1440));
        assert_eq!((weekly.time_zone.as_str(), weekly.starts_at), ("Europe/Berlin", None));
        assert_eq!(window("sun 22:00-06:30").unwrap().end_minute, 390);
        let once = window("2026-12-01T08:00:00Z/2026-12-02T08:00:00Z").unwrap();
        assert!(once.starts_at.is_some() && once.weekdays.is_empty());
        for wrong in ["", "mon", "mon 8-18", "fri-mon 08:00-18:00", "day 08:00-18:00", "mon 08:60-09:00", "a/b"] {
            assert!(window(wrong).is_err(), "{wrong}");
        }
    }
}
