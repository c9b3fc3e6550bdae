//! How much is done while something is broken, beside what the same run did before, and how soon it is as much again.
//!
//! Counted are runs of schedules that completed, by the second: so many are due in each, whatever is broken. Refuses to know
//! which row promises what.

use super::{seen::Seen, stage::Load};
use anyhow::Result;
use std::time::Duration;
use tokio_postgres::Client;

/// As much again: this part of what was done before, over this many seconds.
const AGAIN: f64 = 0.8;
const AGAIN_SPAN: usize = 2;
/// The slowest of so many seconds in a row is told.
const SLOWEST_SPAN: usize = 5;

/// Less than this part of what was done before is nothing: no measure of a slow machine, but a cluster that stands still.
const NOTHING: f64 = 0.05;
/// As much as before is done again so soon, in seconds: a lease that ends (4), a round of those who take over (1), and what was
/// left behind meanwhile.
const AGAIN_MAX_S: f64 = 10.0;

/// What came of the load while something was broken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Pace {
    /// Runs that completed in a second before anything was broken; those that were due in one, where something was from the start.
    before: f64,
    /// While it was, as a part of that.
    during: f64,
    /// The slowest five seconds of that time, as a part of that too.
    slowest: f64,
    /// Seconds from the repair until four fifths of it were done again; none where the load was over by then.
    again_s: Option<f64>,
}

impl Pace {
    /// Holds it against the part that has to go on, where any can. To stand still is a broken promise then; the rest are bars.
    pub(super) fn hold(self, goes_on: Option<f64>, seen: &mut Seen) {
        let Self { before, during, slowest, again_s } = self;
        seen.tell("runs completed before, each second", before, "");
        seen.tell("the slowest five seconds, as a part of it", slowest, "");
        let name = "completed while it was broken, as a part of it";
        if let Some(least) = goes_on {
            seen.at_least(name, during, "", least);
            seen.must(during >= NOTHING, || {
                format!("next to nothing was done while it was broken: {during:.3} of before")
            });
        } else {
            seen.tell(name, during, "");
        }
        if let Some(again_s) = again_s {
            seen.at_most("from the repair until four fifths were done again", again_s, "s", AGAIN_MAX_S);
        }
    }
}

/// The pace of a load that was mended so many seconds after its first time; none where it was too short to tell.
pub(super) async fn of(sql: &Client, load: &Load, mended_s: f64) -> Result<Option<Pace>> {
    let by_second = "
        SELECT floor(extract(epoch FROM r.completed_at - $1))::integer AS second, count(*)
          FROM run r JOIN trigger t ON t.id = r.trigger_id
         WHERE (starts_with(t.name, 'every-') OR starts_with(t.name, 'cron-')) AND r.completed_at >= $1 GROUP BY 1 ORDER BY 1";
    let mut completed = vec![0; usize::try_from(load.seconds)?];
    for row in sql.query(by_second, &[&load.from]).await? {
        let (second, count): (i32, i64) = (row.get(0), row.get(1));
        let (second, count) = (usize::try_from(second)?, u64::try_from(count)?);
        // What is left when the load is over is caught up with in seconds of their own.
        completed.resize(completed.len().max(second + 1), 0);
        completed[second] = count;
    }
    let Some(calm) = load.calm else { return Ok(None) };
    let due = f64::from(load.schedules);
    Ok(measured(&completed, (calm, due), mended_s, usize::try_from(load.seconds)?))
}

/// Of what completed in each second: so many seconds were undisturbed, and so much was due in each.
fn measured(completed: &[u64], (calm, due): (Duration, f64), mended_s: f64, end: usize) -> Option<Pace> {
    let mean = |seconds: &[u64]| seconds.iter().sum::<u64>() as f64 / seconds.len().max(1) as f64;
    let calm = usize::try_from(calm.as_secs()).ok()?;
    let before = if calm == 0 { due } else { mean(completed.get(..calm)?) };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds of a row, at least none")]
    let mended = mended_s.max(0.0).ceil() as usize;
    let broken = completed.get(calm..mended.min(end)).filter(|broken| !broken.is_empty() && before > 0.0)?;
    let slowest = broken.windows(SLOWEST_SPAN.min(broken.len())).map(mean).fold(f64::INFINITY, f64::min);
    let after = (mended + AGAIN_SPAN <= end).then(|| completed.get(mended..)).flatten();
    let again_s = after.map(|after| {
        let found = after.windows(AGAIN_SPAN).position(|span| mean(span) >= AGAIN * before);
        // It never was: the last run of all ended in the last of these seconds.
        (mended + found.unwrap_or(after.len())) as f64 - mended_s.max(0.0)
    });
    Some(Pace { before, during: mean(broken) / before, slowest: slowest / before, again_s })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::Verdict;

    /// With bars and without.
    fn verdicts(goes_on: Option<f64>, during: f64, again_s: f64) -> (Verdict, Verdict) {
        let mut seen = Seen::default();
        seen.bite("something", 1);
        Pace { before: 30.0, during, slowest: during, again_s: Some(again_s) }.hold(goes_on, &mut seen);
        (seen.verdict(true), seen.verdict(false))
    }

    #[test]
    fn a_cluster_that_stands_still_without_need_breaks_its_promise() {
        assert_eq!(verdicts(Some(0.8), 0.95, 1.0), (Verdict::Held, Verdict::Held));
        assert_eq!(verdicts(Some(0.8), 0.7, 1.0), (Verdict::Missed, Verdict::Held));
        assert_eq!(verdicts(Some(0.8), 0.0, 1.0), (Verdict::Broken, Verdict::Broken));
        assert_eq!(verdicts(Some(0.8), 1.0, 11.0), (Verdict::Missed, Verdict::Held));
        assert_eq!(verdicts(None, 0.0, 1.0), (Verdict::Held, Verdict::Held));
        assert_eq!(verdicts(None, 0.0, 11.0), (Verdict::Missed, Verdict::Held));
    }

    const CALM: (Duration, f64) = (Duration::from_secs(3), 20.0);

    #[test]
    fn a_pace_is_told_as_a_part_of_the_undisturbed_one() {
        // Three seconds undisturbed, seven broken of which five stand still, and one more until it is as much again.
        let completed = [10, 10, 10, 5, 0, 0, 0, 0, 0, 5, 2, 9, 10, 10];
        let pace = measured(&completed, CALM, 9.5, 14).unwrap();
        assert_eq!((pace.before, pace.slowest), (10.0, 0.0));
        assert!((pace.during - 1.0 / 7.0).abs() < 1e-9, "{pace:?}");
        assert_eq!(pace.again_s, Some(1.5));
    }

    #[test]
    fn what_never_comes_back_takes_until_the_last_run_of_all() {
        let completed = [10, 10, 10, 9, 9, 1, 1, 1, 1, 1, 1, 1];
        let pace = measured(&completed, CALM, 5.0, 8).unwrap();
        assert_eq!((pace.again_s, pace.during), (Some(7.0), 0.9));
    }

    #[test]
    fn nothing_is_told_where_there_is_nothing_to_compare() {
        assert_eq!(measured(&[10, 10], CALM, 1.0, 2), None);
        assert_eq!(measured(&[0; 9], CALM, 5.0, 9), None, "a cluster that did nothing before");
        let pace = measured(&[10; 9], CALM, 9.0, 9).unwrap();
        assert_eq!((pace.again_s, pace.during), (None, 1.0), "mended when the load was over");
        let pace = measured(&[10; 9], (Duration::ZERO, 20.0), 9.0, 9).unwrap();
        assert_eq!((pace.before, pace.during), (20.0, 0.5), "broken from the start: beside what is due");
    }
}
