//! What a runtime's devices do for it, by the driver's word about each device and about the processes on it. Refuses to load
//! the driver.
//!
//! A process is found by its number: where this executor is in a container without the machine's own numbers, nobody's work on
//! a device that several share is known.

use super::nvml::Work;
use crate::signs::devices::{Found, WORKING_PERCENT, together};
use std::collections::{BTreeMap, HashSet};

/// A runtime's devices, and what is remembered of the last look at them.
#[derive(Debug, Default)]
pub(super) struct Devices {
    /// Each, and until when its processes were asked about.
    asked: BTreeMap<String, u64>,
}

/// Numbers of processes.
#[derive(Debug, Default)]
pub(super) struct Processes {
    /// Of this runtime.
    pub(super) own: HashSet<i32>,
    /// Of others of this executor.
    pub(super) others: HashSet<i32>,
}

impl Devices {
    pub(super) fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self { asked: names.into_iter().map(|name| (name.to_owned(), 0)).collect() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }

    /// What they do for the runtime: asks each by its name, from when on its processes count.
    pub(super) fn look(
        &mut self,
        processes: &Processes,
        is_shared: impl Fn(&str) -> bool,
        ask: impl Fn(&str, u64) -> Option<Result<Work, String>>,
    ) -> Found {
        together(self.asked.iter_mut().map(|(name, since)| match ask(name, *since) {
            None => Found::Untold(format!("{name} is only declared, and nobody can ask what it does")),
            Some(Err(why)) => Found::Unknown(why),
            Some(Ok(work)) => {
                *since = work.until;
                judge(name, &work, processes, is_shared(name))
            }
        }))
    }
}

/// Whose work it is counts only where a device is shared; who else may use one that is not keeps whoever has it.
fn judge(name: &str, work: &Work, processes: &Processes, is_shared: bool) -> Found {
    let told = work.processes.iter().flatten().filter(|(_, percent)| **percent >= WORKING_PERCENT);
    let busy: Vec<i32> = told.map(|(pid, _)| pid.cast_signed()).collect();
    if work.percent < WORKING_PERCENT && busy.is_empty() {
        return Found::Rests;
    }
    if !is_shared || busy.iter().any(|pid| processes.own.contains(pid)) {
        return Found::Works;
    }
    if !busy.is_empty() && busy.iter().all(|pid| processes.others.contains(pid)) {
        return Found::Rests;
    }
    Found::Unknown(format!("{name} works, and for whom of those who share it the driver does not tell"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(percent: u32, processes: Option<&[(u32, u32)]>) -> Work {
        Work { percent, processes: processes.map(|all| all.iter().copied().collect()), until: 5 }
    }

    #[test]
    fn a_shared_device_works_for_whom_the_driver_names() {
        let processes = Processes { own: HashSet::from([10, 11]), others: HashSet::from([20]) };
        let unknown = |found: &Found| matches!(found, Found::Unknown(_));
        for (work, is_shared, expected) in [
            (work(0, None), true, Some(Found::Rests)),
            // Memory that is held is no work.
            (work(0, Some(&[(10, 0)])), false, Some(Found::Rests)),
            (work(1, None), false, Some(Found::Works)),
            (work(0, Some(&[(99, 7)])), false, Some(Found::Works)),
            (work(90, Some(&[(20, 80), (11, 1)])), true, Some(Found::Works)),
            (work(90, Some(&[(20, 80), (11, 0)])), true, Some(Found::Rests)),
            (work(90, Some(&[(20, 80), (99, 1)])), true, None),
            (work(90, Some(&[])), true, None),
            (work(90, None), true, None),
        ] {
            let found = judge("GPU-a", &work, &processes, is_shared);
            match expected {
                Some(expected) => assert_eq!(found, expected, "{work:?}"),
                None => assert!(unknown(&found), "{work:?}: {found:?}"),
            }
        }
    }

    #[test]
    fn each_look_goes_on_where_the_last_one_ended_and_one_without_a_word_forgets_nothing() {
        let mut devices = Devices::new(["GPU-a"]);
        let mut look = |since, answer: Option<Result<Work, String>>| {
            let ask = |name: &str, asked: u64| {
                assert_eq!((name, asked), ("GPU-a", since));
                answer.clone()
            };
            devices.look(&Processes::default(), |_| false, ask)
        };
        assert_eq!(look(0, Some(Err("lost".into()))), Found::Unknown("lost".into()));
        assert_eq!(look(0, Some(Ok(work(3, None)))), Found::Works);
        assert_eq!(look(5, Some(Ok(work(0, None)))), Found::Rests);
        assert!(matches!(look(5, None), Found::Untold(why) if why.contains("GPU-a is only declared")));
    }
}
