//! Whether somebody uses a runtime or something works in it, as several sources saw it. What nobody knows is never idle.
//!
//! All times are the scheduler's, at which a word arrived; other clocks are not compared. Refuses to know how a source
//! finds out.

use jiff::Timestamp;
use std::collections::BTreeMap;

/// Sources of one runtime that count; further ones are ignored.
pub const SOURCES_MAX: usize = 16;

/// The source that says what the devices do.
pub const GPU: &str = "gpu";

/// What one source said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sign {
    /// Active at this time at the latest.
    Active(Timestamp),
    /// Idle at least since.
    Idle(Timestamp),
    /// It cannot tell, and why.
    Unknown(String),
    /// Nobody was asked to tell it, and what that would need: the word of the others counts without it.
    Untold(String),
}

/// What is known about one life.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Activity {
    /// The latest that a proxy saw somebody.
    seen: Option<Timestamp>,
    /// By source: what it said last, and when that came.
    signs: BTreeMap<String, (Sign, Timestamp)>,
}

/// The sum of all sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing since then, by the word of all.
    IdleSince(Timestamp),
    /// Somebody cannot tell: who, and why.
    Unknown(String),
}

impl Activity {
    /// With what a former owner knew.
    #[must_use]
    pub fn known(seen: Option<Timestamp>) -> Self {
        Self { seen, signs: BTreeMap::new() }
    }

    /// A proxy saw somebody.
    pub fn seen(&mut self, at: Timestamp) {
        self.seen = self.seen.max(Some(at));
    }

    /// A source speaks. A time that has not come yet is now.
    pub fn says(&mut self, source: &str, sign: Sign, now: Timestamp) {
        if self.signs.len() >= SOURCES_MAX && !self.signs.contains_key(source) {
            return;
        }
        let sign = match sign {
            Sign::Active(at) => Sign::Active(at.min(now)),
            Sign::Idle(since) => Sign::Idle(since.min(now)),
            silent @ (Sign::Unknown(_) | Sign::Untold(_)) => silent,
        };
        self.signs.insert(source.to_owned(), (sign, now));
    }

    /// The latest that anybody was known to be active.
    #[must_use]
    pub fn latest(&self) -> Option<Timestamp> {
        let signs = self.signs.values().filter_map(|(sign, _)| match sign {
            Sign::Active(at) => Some(*at),
            Sign::Idle(_) | Sign::Unknown(_) | Sign::Untold(_) => None,
        });
        signs.chain(self.seen).max()
    }

    /// What they say together about a life that runs since `start`. Nobody having said anything is not knowing.
    #[must_use]
    pub fn verdict(&self, start: Timestamp) -> Verdict {
        if self.signs.values().all(|(sign, _)| matches!(sign, Sign::Untold(_))) {
            return Verdict::Unknown("nothing was reported about its activity".to_owned());
        }
        let mut since = self.seen.map_or(start, |seen| seen.max(start));
        for (source, (sign, _)) in &self.signs {
            match sign {
                Sign::Active(at) | Sign::Idle(at) => since = since.max(*at),
                Sign::Unknown(why) => return Verdict::Unknown(format!("{source}: {why}")),
                Sign::Untold(_) => {}
            }
        }
        Verdict::IdleSince(since)
    }

    /// What the devices' own source says; `None` without one.
    #[must_use]
    pub fn devices_idle_since(&self, start: Timestamp) -> Option<Timestamp> {
        match self.signs.get(GPU)? {
            (Sign::Active(at) | Sign::Idle(at), _) => Some((*at).max(start)),
            (Sign::Unknown(_) | Sign::Untold(_), _) => None,
        }
    }

    /// Which sources do not tell, and why: of all that have to (`any`), and of the devices' own (`devices`).
    #[must_use]
    pub fn doubts(&self, any: bool, devices: bool) -> String {
        let doubts = self.signs.iter().filter_map(|(source, (sign, _))| match sign {
            Sign::Unknown(why) if any || (devices && source == GPU) => Some(format!("{source}: {why}")),
            Sign::Untold(why) if devices && source == GPU => Some(format!("{source}: {why}")),
            _ => None,
        });
        doubts.collect::<Vec<_>>().join("; ")
    }

    /// Whether every source has spoken since `at`.
    #[must_use]
    pub fn is_fresh(&self, at: Timestamp) -> bool {
        !self.signs.is_empty() && self.signs.values().all(|(_, heard)| *heard >= at)
    }

    /// Each source in a few words, for whoever asks why; a second is as exact as anybody reads.
    #[must_use]
    pub fn evidence(&self) -> String {
        let seen = self.seen.map(|at| format!("last request {at:.0}"));
        let signs = self.signs.iter().map(|(source, (sign, _))| match sign {
            Sign::Active(at) => format!("{source} active {at:.0}"),
            Sign::Idle(at) => format!("{source} idle since {at:.0}"),
            Sign::Unknown(why) | Sign::Untold(why) => format!("{source} unknown ({why})"),
        });
        seen.into_iter().chain(signs).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn it_is_idle_only_when_all_say_so() {
        let mut activity = Activity::default();
        assert!(matches!(activity.verdict(at(0)), Verdict::Unknown(_)), "no word is no proof");
        activity.says("kernels", Sign::Idle(at(50)), at(100));
        assert_eq!(activity.verdict(at(0)), Verdict::IdleSince(at(50)));
        activity.seen(at(70));
        assert_eq!(activity.verdict(at(0)), Verdict::IdleSince(at(70)));
        activity.says("cpu", Sign::Unknown("no cgroup".into()), at(100));
        assert_eq!(activity.verdict(at(0)), Verdict::Unknown("cpu: no cgroup".into()));
        activity.says("cpu", Sign::Active(at(500)), at(110));
        assert_eq!(activity.verdict(at(0)), Verdict::IdleSince(at(110)), "a clock that is ahead is not believed");
        assert_eq!(activity.verdict(at(200)), Verdict::IdleSince(at(200)), "not before the life began");
        assert!(!activity.is_fresh(at(105)) && activity.is_fresh(at(100)));
    }

    #[test]
    fn devices_that_work_keep_it_and_those_that_nobody_was_asked_about_do_not() {
        let mut activity = Activity::default();
        activity.says(GPU, Sign::Untold("no setting".into()), at(100));
        assert!(matches!(activity.verdict(at(0)), Verdict::Unknown(_)), "that is no word");
        activity.says("cpu", Sign::Idle(at(50)), at(100));
        assert_eq!(activity.verdict(at(0)), Verdict::IdleSince(at(50)));
        assert_eq!(activity.devices_idle_since(at(0)), None);
        assert_eq!((activity.doubts(true, false), activity.doubts(true, true)), ("".into(), "gpu: no setting".into()));
        activity.says(GPU, Sign::Unknown("no answer".into()), at(110));
        assert_eq!(activity.verdict(at(0)), Verdict::Unknown("gpu: no answer".into()), "it may work");
        assert_eq!(activity.devices_idle_since(at(0)), None);
        activity.says("cpu", Sign::Unknown("forbidden".into()), at(110));
        assert_eq!(activity.doubts(true, false), "cpu: forbidden; gpu: no answer");
        assert_eq!(activity.doubts(false, true), "gpu: no answer");
        activity.says("cpu", Sign::Idle(at(50)), at(120));
        activity.says(GPU, Sign::Active(at(120)), at(120));
        assert_eq!(activity.verdict(at(0)), Verdict::IdleSince(at(120)));
        assert_eq!(activity.devices_idle_since(at(0)), Some(at(120)));
    }

    #[test]
    fn the_evidence_is_told_in_whole_seconds() {
        let odd = |second| at(second) + jiff::SignedDuration::from_nanos(705_805_933);
        let mut activity = Activity::known(Some(odd(60)));
        activity.says("cpu", Sign::Idle(odd(50)), at(100));
        activity.says("jobs", Sign::Active(odd(70)), at(100));
        activity.says("kernels", Sign::Unknown("no answer".into()), at(100));
        let told = "last request 1970-01-01T00:01:00Z, cpu idle since 1970-01-01T00:00:50Z, \
                    jobs active 1970-01-01T00:01:10Z, kernels unknown (no answer)";
        assert_eq!(activity.evidence(), told);
    }
}
