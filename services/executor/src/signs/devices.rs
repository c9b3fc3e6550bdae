//! Whether GPUs that a runtime has do something (`gpu`), from looks at them of which each tells of a moment. What no look
//! has told is never idle. Refuses to know whom the looks ask.

use super::since;
pub(crate) use domain::runtime::activity::GPU as SOURCE;
use jiff::Timestamp;
use proto::internal::v1::activity_report::State;
use std::time::Duration;
use tokio::time::Instant;

/// From this share of its time on a GPU works, percent; memory that is held is no work.
pub(crate) const WORKING_PERCENT: u32 = 1;
/// Nobody knows what went on between two looks that tell something and are further apart: a look now and then may fail.
const GAP_MAX: Duration = Duration::from_secs(60);

/// What one look has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// At least one of them works for it.
    Works,
    /// None does.
    Rests,
    /// That cannot be told now, and why.
    Unknown(String),
    /// Nobody was asked to tell it, and what that would need.
    Untold(String),
}

/// What is found of several: one that works is enough, and one of which nothing is known may work.
pub(crate) fn together(found: impl IntoIterator<Item = Found>) -> Found {
    let rank = |one: &Found| match one {
        Found::Works => 3,
        Found::Unknown(_) => 2,
        Found::Untold(_) => 1,
        Found::Rests => 0,
    };
    // Of two that say as much, the first counts.
    found.into_iter().reduce(|one, other| if rank(&other) > rank(&one) { other } else { one }).unwrap_or(Found::Rests)
}

/// What is remembered of one runtime.
#[derive(Default)]
pub(crate) struct Meter {
    known: Option<Known>,
}

struct Known {
    told: Instant,
    /// When it was seen to work last, or nothing was known of it.
    used: Timestamp,
}

impl Meter {
    /// What is known now; `at` and `now` are the same moment.
    pub(crate) fn judge(&mut self, found: Found, at: Instant, now: Timestamp) -> State {
        let used = match found {
            Found::Unknown(why) => return State::Unknown(why),
            Found::Untold(why) => return State::Untold(why),
            Found::Works => now,
            Found::Rests => {
                let before = self.known.take().filter(|known| at.duration_since(known.told) <= GAP_MAX);
                before.map_or(now, |known| known.used)
            }
        };
        let works = found == Found::Works;
        self.known = Some(Known { told: at, used });
        if works { State::ActiveUs(used.as_microsecond()) } else { since(used) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_rest_from_the_last_look_that_saw_work_or_came_after_none() {
        let (mut meter, start) = (Meter::default(), Instant::now());
        let on = |second: u64| Timestamp::from_second(1_700_000_000 + i64::try_from(second).unwrap()).unwrap();
        let mut says = |second, found| meter.judge(found, start + Duration::from_secs(second), on(second));
        assert_eq!(says(0, Found::Rests), since(on(0)), "nobody knows since when");
        assert_eq!(says(15, Found::Rests), since(on(0)));
        assert_eq!(says(30, Found::Works), State::ActiveUs(on(30).as_microsecond()));
        assert_eq!(says(45, Found::Rests), since(on(30)));
        assert_eq!(says(60, Found::Unknown("no answer".into())), State::Unknown("no answer".into()));
        assert_eq!(says(105, Found::Rests), since(on(30)), "one look that failed hides nothing");
        assert_eq!(says(166, Found::Rests), since(on(166)), "what nobody saw was no rest");
        assert_eq!(says(170, Found::Untold("a setting".into())), State::Untold("a setting".into()));
    }

    #[test]
    fn one_that_works_is_enough_and_one_that_is_not_known_may() {
        let unknown = |what: &str| Found::Unknown(what.to_owned());
        assert_eq!(together([Found::Rests, unknown("a"), Found::Works]), Found::Works);
        assert_eq!(together([Found::Rests, unknown("a"), unknown("b")]), unknown("a"));
        assert_eq!(together([Found::Rests, Found::Rests]), Found::Rests);
    }
}
