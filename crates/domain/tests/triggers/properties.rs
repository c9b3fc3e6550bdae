//! Whatever the schedule, and whenever somebody looks: every logical time is decided once.

use domain::{
    id::{PipelineId, TriggerId},
    trigger::{CatchUp, Facts, Kind, Overlap, Schedule, Skip, Spec, Start, State, Trigger, step},
};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use std::collections::BTreeSet;
use uuid::Uuid;

const SCHEDULES: [&str; 7] =
    ["* * * * *", "*/7 * * * *", "@hourly", "30 2 * * *", "@every 90s", "@every 1h7m", "5 1-3 * * 0"];
const ZONES: [&str; 4] = ["UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/Havana"];

fn overlap() -> impl Strategy<Value = Overlap> {
    prop_oneof![
        Just(Overlap::AllowAll),
        Just(Overlap::Skip),
        Just(Overlap::BufferOne),
        Just(Overlap::BufferAll),
        Just(Overlap::CancelOther),
        Just(Overlap::TerminateOther),
    ]
}

fn catch_up() -> impl Strategy<Value = CatchUp> {
    prop_oneof![
        Just(CatchUp::None),
        Just(CatchUp::Latest),
        (1_u32..200_000, 1_u32..50).prop_map(|(window_s, count)| CatchUp::All { window_s, count }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_time_is_decided_once(
        (every, zone) in (0..SCHEDULES.len(), 0..ZONES.len()),
        (overlap, catch_up, jitter_s) in (overlap(), catch_up(), 0_u32..5_000),
        // 2026-03-28, just before clocks jump in some of the zones, and up to a year later.
        begin in 1_774_656_000_i64..1_806_000_000,
        looks in prop::collection::vec((1_i64..20_000, 0_u32..3, prop::option::of(0_u32..3)), 1..12),
    ) {
        let schedule = Schedule { every: SCHEDULES[every].into(), zone: ZONES[zone].into(), start: None, end: None };
        let spec = Spec { overlap, catch_up, jitter_s, ..Spec::new(Kind::Schedule(schedule)) };
        let timetable = spec.timetable().unwrap().unwrap();
        let enabled_at = Timestamp::from_second(begin).unwrap();
        let trigger = Trigger {
            id: TriggerId(Uuid::from_u128(1)),
            pipeline: PipelineId(Uuid::from_u128(2)),
            name: "t".into(),
            version: 1,
            active: true,
            enabled_at,
            paused_at: None,
            once_version: 1,
            replaced_at: None,
            former_paused_at: None,
            spec,
        };
        let (mut state, mut now) = (State::default(), enabled_at);
        let (mut decided, mut given_up): (Vec<Timestamp>, Vec<Skip>) = Default::default();
        for (later, running, room) in looks {
            now += SignedDuration::from_secs(later);
            let facts = Facts { now, running, room, ..Facts::default() };
            let step = step(&trigger, Some(&timetable), &state, &facts);
            if overlap != Overlap::AllowAll {
                prop_assert!(step.start.len() <= 1 && (running == 0 || step.start.is_empty()));
            }
            prop_assert!(room.is_none_or(|room| step.start.len() <= room as usize));
            prop_assert!(step.wake.is_some_and(|wake| wake > now));
            prop_assert!(step.start.iter().all(|start| start.at <= now));
            decided.extend(step.start.iter().map(|start| start.at));
            let (one, span): (Vec<_>, Vec<_>) = step.skip.into_iter().partition(|skip| skip.times == 1);
            decided.extend(one.iter().map(|skip| skip.first.at));
            given_up.extend(span);
            // The same look again decides nothing new, and nobody lost what waits.
            let waiting: Vec<Start> = step.state.waiting.clone();
            state = step.state;
            let again = domain::trigger::step(&trigger, Some(&timetable), &state, &Facts { running: 1, ..facts });
            prop_assert_eq!(again.state.mark, state.mark);
            prop_assert!(again.state.waiting.len() + again.start.len() + again.skip.len() == waiting.len());
        }
        decided.extend(state.waiting.iter().map(|start| start.at));
        let mark = state.mark.unwrap();
        let nominal: Vec<Timestamp> =
            std::iter::successors(timetable.next_after(enabled_at), |at| timetable.next_after(*at))
                .take_while(|at| *at <= mark)
                .collect();
        let unique: BTreeSet<Timestamp> = decided.iter().copied().collect();
        prop_assert_eq!(unique.len(), decided.len(), "a time was decided twice");
        for at in &nominal {
            let spans = given_up.iter().filter(|skip| (skip.first.at..=skip.last).contains(at)).count();
            prop_assert_eq!(spans + usize::from(unique.contains(at)), 1, "{} of {:?}", at, given_up);
        }
        prop_assert!(unique.iter().all(|at| nominal.contains(at)));
        let counted: usize = given_up.iter().map(|skip| skip.times as usize).sum();
        if given_up.iter().all(|skip| skip.times < domain::trigger::COUNT_MAX) {
            prop_assert_eq!(counted + unique.len(), nominal.len());
        }
    }

    #[test]
    fn looking_back_and_looking_ahead_agree(
        (every, zone) in (0..SCHEDULES.len(), 0..ZONES.len()),
        at in 1_262_304_000_i64..2_145_916_800,
    ) {
        let schedule = Schedule { every: SCHEDULES[every].into(), zone: ZONES[zone].into(), start: None, end: None };
        let timetable = schedule.compile().unwrap();
        let at = Timestamp::from_second(at).unwrap();
        let last = timetable.last_until(at, Timestamp::UNIX_EPOCH).unwrap();
        prop_assert!(last <= at);
        prop_assert!(timetable.next_after(last).unwrap() > at);
        prop_assert_eq!(timetable.next_after(last - SignedDuration::from_nanos(1)), Some(last));
        prop_assert_eq!(timetable.last_until(at, last), None);
    }
}
