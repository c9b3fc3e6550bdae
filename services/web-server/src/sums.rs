//! Counts of days and buckets as statistics: sums, means, percentiles. Pure.

use proto::v1::{DayStatistics, Durations, Statistics};
use std::collections::BTreeMap;
use store::statistics::Counted;

/// Buckets to a doubling of a duration.
const PER_DOUBLING: f64 = 4.0;
/// Statuses whose durations say how long something takes.
const TIMED: [&str; 2] = ["completed", "failed"];

/// A pipeline, and a trigger or a block of it; empty for all together.
pub(crate) type Name = (String, String);

/// The name of all together.
pub(crate) fn all() -> Name {
    (String::new(), String::new())
}

/// Statistics under way.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    things: BTreeMap<Name, Thing>,
}

#[derive(Debug, Default)]
struct Thing {
    total: Sum,
    days: BTreeMap<String, Sum>,
}

#[derive(Debug, Default)]
struct Sum {
    by_status: BTreeMap<String, i64>,
    durations: Spread,
    lateness: Spread,
}

/// How many durations lie in which bucket.
#[derive(Debug, Default)]
struct Spread {
    buckets: BTreeMap<i16, i64>,
    count: i64,
    total_ms: f64,
    longest_ms: f64,
}

impl Sums {
    /// Adds ends of runs or of block runs.
    pub(crate) fn ended(&mut self, name: Name, row: &Counted) {
        let thing = self.things.entry(name).or_default();
        for sum in [&mut thing.total, thing.days.entry(row.day.clone()).or_default()] {
            *sum.by_status.entry(row.status.clone()).or_default() += row.runs;
            if TIMED.contains(&row.status.as_str()) {
                sum.durations.add(row);
            }
        }
    }

    /// Adds lateness.
    pub(crate) fn late(&mut self, name: Name, row: &Counted) {
        let thing = self.things.entry(name).or_default();
        for sum in [&mut thing.total, thing.days.entry(row.day.clone()).or_default()] {
            sum.lateness.add(row);
        }
    }

    /// What it comes to, by name.
    pub(crate) fn finish(self) -> Vec<Statistics> {
        let statistics = |((pipeline, name), thing): (Name, Thing)| Statistics {
            pipeline,
            name,
            total: Some(thing.total.finish(String::new())),
            days: thing.days.into_iter().map(|(day, sum)| sum.finish(day)).collect(),
        };
        self.things.into_iter().map(statistics).collect()
    }
}

impl Sum {
    fn finish(self, day: String) -> DayStatistics {
        DayStatistics {
            day,
            count_by_status: self.by_status.into_iter().collect(),
            durations: self.durations.finish(),
            lateness: self.lateness.finish(),
        }
    }
}

impl Spread {
    fn add(&mut self, row: &Counted) {
        *self.buckets.entry(row.bucket).or_default() += row.runs;
        self.count += row.runs;
        self.total_ms += row.total_ms;
        self.longest_ms = self.longest_ms.max(row.longest_ms);
    }

    fn finish(self) -> Option<Durations> {
        (self.count > 0).then(|| Durations {
            count: self.count,
            mean: Some(duration(self.total_ms / self.count as f64)),
            p50: Some(duration(self.percentile(0.5))),
            p95: Some(duration(self.percentile(0.95))),
            longest: Some(duration(self.longest_ms)),
        })
    }

    /// The middle, on a scale of doublings, of the bucket that holds it: off by 9 % at most.
    fn percentile(&self, share: f64) -> f64 {
        let wanted = (self.count as f64 * share).ceil().max(1.0);
        let mut seen = 0.0;
        for (bucket, runs) in &self.buckets {
            seen += *runs as f64;
            if seen >= wanted {
                let middle = ((f64::from(*bucket) + 0.5) / PER_DOUBLING).exp2();
                return if *bucket == 0 { self.longest_ms.min(1.0) } else { middle.min(self.longest_ms) };
            }
        }
        self.longest_ms
    }
}

pub(crate) fn duration(ms: f64) -> prost_types::Duration {
    let span = std::time::Duration::try_from_secs_f64((ms / 1000.0).max(0.0)).unwrap_or_default();
    prost_types::Duration {
        seconds: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(span.subsec_nanos()).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(day: &str, status: &str, ms: f64) -> Counted {
        #[expect(clippy::cast_possible_truncation, reason = "as the statement does")]
        let bucket = (4.0 * ms.max(1.0).log2()).floor() as i16;
        Counted {
            day: day.into(),
            pipeline: "p".into(),
            of: "t".into(),
            status: status.into(),
            bucket,
            runs: 1,
            total_ms: ms,
            longest_ms: ms,
        }
    }

    #[test]
    fn percentiles_are_within_a_tenth_and_cancelled_runs_have_no_duration() {
        let mut sums = Sums::default();
        for n in 1..=1000 {
            sums.ended(all(), &row("2026-01-01", "completed", f64::from(n) * 10.0));
        }
        sums.ended(all(), &row("2026-01-02", "cancelled", 1e9));
        sums.late(all(), &row("2026-01-02", "", 40.0));
        let statistics = sums.finish();
        let total = statistics[0].total.clone().unwrap();
        let ms = |d: &Option<prost_types::Duration>| {
            let d = d.as_ref().unwrap();
            d.seconds as f64 * 1e3 + f64::from(d.nanos) / 1e6
        };
        let durations = total.durations.unwrap();
        for (found, exact) in [(ms(&durations.p50), 5_000.0), (ms(&durations.p95), 9_500.0)] {
            assert!((found / exact - 1.0).abs() < 0.1, "{found} for {exact}");
        }
        assert_eq!((durations.count, ms(&durations.longest), ms(&durations.mean)), (1000, 10_000.0, 5_005.0));
        assert_eq!((total.count_by_status["completed"], total.count_by_status["cancelled"]), (1000, 1));
        assert_eq!(statistics[0].days.len(), 2);
        assert_eq!(ms(&statistics[0].days[1].lateness.unwrap().p95), 40.0);
        assert!(statistics[0].days[1].durations.is_none());
    }
}
