//! What is decided, step by step.

mod edits;
mod pauses;

use domain::{
    id::{PipelineId, TriggerId},
    trigger::{
        BUFFER_BYTES_MAX, BUFFER_MAX, CatchUp, Day, Facts, Kind, Overlap, Schedule, Skip, SkipReason, Spec, Start,
        State, Step, Stop, Trigger, Window, offer, step,
    },
};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

fn ts(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A trigger that was enabled on the first of January at half past ten, and what it remembers.
#[derive(Clone)]
struct World {
    trigger: Trigger,
    state: State,
    running: u32,
    room: Option<u32>,
    lead: Option<SignedDuration>,
    former_wake: Option<Timestamp>,
}

impl World {
    fn new(every: &str, change: impl FnOnce(&mut Spec)) -> Self {
        let schedule = Schedule { every: every.into(), zone: "UTC".into(), start: None, end: None };
        let mut spec = Spec::new(Kind::Schedule(schedule));
        change(&mut spec);
        let trigger = Trigger {
            id: TriggerId(Uuid::from_u128(7)),
            pipeline: PipelineId(Uuid::from_u128(9)),
            name: "t".into(),
            version: 1,
            active: true,
            enabled_at: ts("2026-01-01T10:30:00Z"),
            paused_at: None,
            once_version: 1,
            replaced_at: None,
            former_paused_at: None,
            spec,
        };
        Self { trigger, state: State::default(), running: 0, room: None, lead: None, former_wake: None }
    }

    fn at(&mut self, now: &str) -> Step {
        let timetable = self.trigger.spec.timetable().unwrap();
        let Self { running, room, lead, former_wake, .. } = *self;
        let facts = Facts { now: ts(now), running, room, ended_at: None, lead, former_wake };
        let step = step(&self.trigger, timetable.as_ref(), &self.state, &facts);
        self.state = step.state.clone();
        step
    }
}

fn starts(step: &Step) -> Vec<String> {
    step.start.iter().map(|start| start.at.to_string()).collect()
}

fn skips(step: &Step) -> Vec<(String, u32, SkipReason)> {
    step.skip.iter().map(|skip| (skip.first.at.to_string(), skip.times, skip.reason)).collect()
}

#[test]
fn a_daily_trigger_fires_at_its_time_and_not_when_it_is_enabled() {
    let mut world = World::new("@daily", |_| {});
    let step = world.at("2026-01-01T10:30:00Z");
    assert_eq!((starts(&step).len(), step.wake), (0, Some(ts("2026-01-02T00:00:00Z"))));
    let step = world.at("2026-01-02T00:00:00.05Z");
    assert_eq!(starts(&step), ["2026-01-02T00:00:00Z"]);
    assert_eq!(step.wake, Some(ts("2026-01-03T00:00:00Z")));
    assert!(world.at("2026-01-02T00:00:01Z").start.is_empty());
}

#[test]
fn an_initial_run_is_that_of_the_current_period() {
    let mut world = World::new("@daily", |spec| {
        spec.create_initial_run = true;
        spec.catch_up = CatchUp::None;
    });
    assert_eq!(starts(&world.at("2026-01-01T10:30:01Z")), ["2026-01-01T00:00:00Z"]);
    assert!(world.at("2026-01-01T10:30:02Z").start.is_empty());
}

#[test]
fn what_was_missed_is_caught_up_with_as_the_trigger_says() {
    // Down from 11:10 to 16:20: five hours were missed.
    let down = |catch_up| {
        let mut world = World::new("@hourly", |spec| spec.catch_up = catch_up);
        assert_eq!(starts(&world.at("2026-01-01T11:00:00Z")).len(), 1);
        let step = world.at("2026-01-01T16:20:00Z");
        assert_eq!(step.wake, Some(ts("2026-01-01T17:00:00Z")));
        (starts(&step), skips(&step))
    };
    let hour = |hour: u32| format!("2026-01-01T{hour}:00:00Z");
    assert_eq!(down(CatchUp::None), (vec![], vec![(hour(12), 5, SkipReason::CatchUp)]));
    assert_eq!(down(CatchUp::Latest), (vec![hour(16)], vec![(hour(12), 4, SkipReason::CatchUp)]));
    let all = CatchUp::All { window_s: 3 * 3600, count: 9 };
    assert_eq!(down(all), (vec![hour(14), hour(15), hour(16)], vec![(hour(12), 2, SkipReason::CatchUp)]));
    let two = CatchUp::All { window_s: 86_400, count: 2 };
    assert_eq!(down(two), (vec![hour(15), hour(16)], vec![(hour(12), 3, SkipReason::CatchUp)]));
}

#[test]
fn a_time_that_waits_for_its_jitter_is_not_late_when_an_edit_ends_the_wait() {
    let mut world = World::new("@daily", |spec| {
        spec.catch_up = CatchUp::None;
        spec.jitter_s = 20 * 3600;
    });
    let due = world.at("2026-01-01T23:00:00Z").wake.unwrap();
    assert!(due > ts("2026-01-02T00:01:00Z"), "{due}");
    world.trigger.version = 2;
    world.trigger.spec.jitter_s = 0;
    let edited = |former_wake: Option<Timestamp>, now: Timestamp| {
        let mut world = World { former_wake, ..world.clone() };
        let step = world.at(&now.to_string());
        (starts(&step), skips(&step))
    };
    let nominal = "2026-01-02T00:00:00Z".to_owned();
    let soon = due - SignedDuration::from_secs(1);
    assert_eq!(edited(Some(due), soon), (vec![nominal.clone()], vec![]));
    // One that was due by the former version too, and that nobody decided about, is as late as it ever was.
    let later = due + SignedDuration::from_secs(11);
    assert_eq!(edited(Some(due), later), (vec![], vec![(nominal, 1, SkipReason::CatchUp)]));
}

#[test]
fn a_clock_that_jumps_a_century_is_one_skip() {
    let mut world = World::new("* * * * * *", |_| {});
    world.at("2026-01-01T10:30:00Z");
    let step = world.at("2126-01-01T00:00:00.5Z");
    assert_eq!((step.skip.len(), step.skip[0].times), (1, domain::trigger::COUNT_MAX));
    // The last ten seconds are on time.
    assert_eq!(step.start.len(), 10);
    // And back again: nothing is due until then.
    assert!(world.at("2026-01-01T10:30:05Z").start.is_empty());
}

#[test]
fn a_pause_is_accounted_for_and_an_edit_is_none() {
    let mut world = World::new("@hourly", |_| {});
    world.at("2026-01-01T11:00:00Z");
    world.trigger = Trigger { active: false, version: 2, paused_at: Some(ts("2026-01-01T11:30:00Z")), ..world.trigger };
    let step = world.at("2026-01-01T12:00:00Z");
    assert_eq!((step.start.len(), step.wake), (0, None));
    world.trigger = Trigger { active: true, version: 3, enabled_at: ts("2026-01-01T14:10:00Z"), ..world.trigger };
    let step = world.at("2026-01-01T14:10:00Z");
    assert_eq!((starts(&step).len(), skips(&step)), (0, vec![("2026-01-01T12:00:00Z".into(), 3, SkipReason::Pause)]));
    // The schedule is edited: the times of the new one before the edit never were.
    let schedule = Schedule { every: "*/5 * * * *".into(), zone: "UTC".into(), start: None, end: None };
    world.trigger.spec.kind = Kind::Schedule(schedule);
    world.trigger = Trigger { enabled_at: ts("2026-01-01T14:31:00Z"), version: 4, paused_at: None, ..world.trigger };
    let step = world.at("2026-01-01T14:31:00Z");
    assert_eq!((step.start.len(), step.skip.len()), (0, 0));
    assert_eq!(step.wake, Some(ts("2026-01-01T14:35:00Z")));
}

/// Every ten seconds; the first ten are decided, the trigger is paused and started again, and looked at then.
fn paused(jitter_s: u32, paused_at: &str, enabled_at: &str) -> (World, Step) {
    let mut world = World::new("*/10 * * * * *", |spec| spec.jitter_s = jitter_s);
    world.at("2026-01-01T10:30:00Z");
    assert_eq!(world.at("2026-01-01T10:30:19.999Z").start.len(), 1);
    world.trigger = Trigger { active: false, version: 2, paused_at: Some(ts(paused_at)), ..world.trigger };
    assert_eq!(world.at(paused_at).wake, None);
    world.trigger = Trigger { active: true, version: 3, enabled_at: ts(enabled_at), ..world.trigger };
    let step = world.at(enabled_at);
    (world, step)
}

#[test]
fn what_came_before_a_pause_is_not_lost_with_it() {
    let (came, next) = ("2026-01-01T10:30:20Z".to_owned(), "2026-01-01T10:30:30Z".to_owned());
    // Its decision and the pause met, and the pause won.
    let (_, step) = paused(0, "2026-01-01T10:30:20.005Z", "2026-01-01T10:30:20.01Z");
    assert_eq!((starts(&step), skips(&step)), (vec![came.clone()], vec![]));
    // It came in the pause.
    let (_, step) = paused(0, "2026-01-01T10:30:19.9995Z", "2026-01-01T10:30:20.01Z");
    assert_eq!((starts(&step), skips(&step)), (vec![], vec![(came.clone(), 1, SkipReason::Pause)]));
    // Its jitter was not over, and goes on.
    let (mut world, step) = paused(9, "2026-01-01T10:30:20.001Z", "2026-01-01T10:30:20.002Z");
    let due = step.wake.unwrap();
    assert_eq!((starts(&step), skips(&step)), (vec![], vec![]));
    assert!(due > ts(&came) && due < ts(&next), "{due}");
    assert_eq!(starts(&world.at(&due.to_string())), std::slice::from_ref(&came));
    assert_eq!(starts(&world.at("2026-01-01T10:30:39.999Z")), std::slice::from_ref(&next));
    // It was over in the pause, in which another time came.
    let (mut world, step) = paused(9, "2026-01-01T10:30:20.001Z", "2026-01-01T10:30:35Z");
    assert_eq!((starts(&step), skips(&step)), (vec![came], vec![(next, 1, SkipReason::Pause)]));
    assert_eq!(starts(&world.at("2026-01-01T10:30:49.999Z")), ["2026-01-01T10:30:40Z"]);
}

#[test]
fn a_halted_trigger_waits_for_the_next_version() {
    let mut world = World::new("@hourly", |spec| spec.pause_on_failure = true);
    world.at("2026-01-01T11:00:00Z");
    world.state.halted = Some(1);
    assert_eq!(world.at("2026-01-01T12:00:00Z").wake, None);
    world.trigger = Trigger { version: 2, enabled_at: ts("2026-01-01T13:30:00Z"), ..world.trigger };
    let step = world.at("2026-01-01T13:30:00Z");
    assert_eq!(skips(&step), [("2026-01-01T12:00:00Z".into(), 2, SkipReason::Pause)]);
    assert_eq!(starts(&world.at("2026-01-01T14:00:00Z")).len(), 1);
    // An edit of something else ends a halt too, and is no reason to fire for the past.
    world.state.halted = Some(2);
    world.trigger.version = 3;
    let step = world.at("2026-01-01T16:30:00Z");
    assert_eq!(skips(&step), [("2026-01-01T15:00:00Z".into(), 2, SkipReason::Pause)]);
    assert_eq!((step.start.len(), step.wake), (0, Some(ts("2026-01-01T17:00:00Z"))));
}

#[test]
fn overlap_policies() {
    // 11:00 starts; 12:00 and 13:00 come while it runs; then it ends.
    let policy = |overlap| {
        let mut world = World::new("@hourly", |spec| spec.overlap = overlap);
        assert_eq!(starts(&world.at("2026-01-01T11:00:00Z")).len(), 1);
        world.running = 1;
        let (twelve, one) = (world.at("2026-01-01T12:00:00Z"), world.at("2026-01-01T13:00:00Z"));
        world.running = 0;
        let after = world.at("2026-01-01T13:10:00Z");
        let skipped = [&twelve, &one, &after].iter().flat_map(|step| &step.skip).count();
        (twelve.start.len() + one.start.len(), skipped, twelve.stop, starts(&after), world.state.waiting.len())
    };
    let none: Vec<String> = Vec::new();
    let hour = |hour: u32| vec![format!("2026-01-01T{hour}:00:00Z")];
    assert_eq!(policy(Overlap::AllowAll), (2, 0, None, none.clone(), 0));
    assert_eq!(policy(Overlap::Skip), (0, 2, None, none, 0));
    assert_eq!(policy(Overlap::BufferOne), (0, 1, None, hour(12), 0));
    assert_eq!(policy(Overlap::BufferAll), (0, 0, None, hour(12), 1));
    // Both wait; when the run has gone the later takes the place of the earlier, which had not begun.
    assert_eq!(policy(Overlap::CancelOther), (0, 1, Some(Stop::Cancel), hour(13), 0));
    assert_eq!(policy(Overlap::TerminateOther), (0, 1, Some(Stop::Terminate), hour(13), 0));
}

#[test]
fn a_limit_skips_where_the_trigger_says_so() {
    let mut world = World::new("@hourly", |_| {});
    world.room = Some(0);
    assert_eq!(skips(&world.at("2026-01-01T11:00:00Z")), [("2026-01-01T11:00:00Z".into(), 1, SkipReason::Limit)]);
}

#[test]
fn once_is_once_and_always_on_is_one_at_a_time() {
    let mut world = World::new("@once", |_| {});
    let step = world.at("2026-01-01T10:30:00Z");
    assert_eq!((step.start[0].key.as_str(), step.wake), ("once", None));
    // Neither a pause and a start nor a later version makes it come again.
    world.trigger = Trigger { version: 3, enabled_at: ts("2026-01-05T00:00:00Z"), ..world.trigger };
    assert!(world.at("2026-01-05T00:00:00Z").start.is_empty() && world.state.has_come(&world.trigger));

    let mut world = World::new("@always_on", |_| {});
    assert_eq!(world.at("2026-01-01T10:30:00Z").start.len(), 1);
    world.running = 1;
    assert_eq!(world.at("2026-01-01T10:31:00Z").start.len(), 0);

    // Without room it has nothing to skip, and looks again.
    let mut world = World::new("@always_on", |_| {});
    world.room = Some(0);
    let step = world.at("2026-01-01T10:30:00Z");
    assert_eq!((step.start.len(), step.skip.len(), step.wake), (0, 0, Some(ts("2026-01-01T10:30:01Z"))));
    world.room = Some(1);
    assert_eq!(world.at("2026-01-01T10:30:02Z").start.len(), 1);
}

#[test]
fn jitter_is_the_same_everywhere_and_stays_before_the_next_time() {
    let mut world = World::new("* * * * *", |spec| spec.jitter_s = 86_400);
    let first = world.at("2026-01-01T10:30:00Z").wake.unwrap();
    assert_eq!(first, ts("2026-01-01T10:31:59.999Z"));
    let mut world = World::new("@daily", |spec| {
        spec.jitter_s = 3_600;
        spec.catch_up = CatchUp::None;
    });
    let due = world.at("2026-01-01T10:30:00Z").wake.unwrap();
    let shift = due.duration_since(ts("2026-01-02T00:00:00Z"));
    assert!(shift > SignedDuration::ZERO && shift < SignedDuration::from_hours(1));
    // Every replica, of every version, has to find the same.
    assert_eq!(due, ts("2026-01-02T00:11:25.578Z"));
    assert_eq!(starts(&world.at(&due.to_string())), ["2026-01-02T00:00:00Z"]);
}

#[test]
fn outside_of_its_window_a_time_is_skipped() {
    let mut world = World::new("@hourly", |spec| {
        let time = |hour| jiff::civil::time(hour, 0, 0, 0);
        // From Thursday evening into Friday: 2026-01-01 is a Thursday.
        spec.window = Some(Window { from: time(22), to: time(2), days: vec![Day::Thu] });
    });
    for (hour, open) in [("01T21", false), ("01T22", true), ("02T01", true), ("02T02", false), ("02T22", false)] {
        let at = format!("2026-01-{hour}:00:00Z");
        world.state.mark = Some(ts(&at) - SignedDuration::from_secs(1));
        let step = world.at(&at);
        let expected = if open { (1, vec![]) } else { (0, vec![(at.clone(), 1, SkipReason::Window)]) };
        assert_eq!((step.start.len(), skips(&step)), expected, "{at}");
    }
    let ahead = |every: &str, window: &Option<Window>| {
        let schedule = Schedule { every: every.into(), zone: "UTC".into(), start: None, end: None };
        let times = schedule.compile().unwrap().preview(window.as_ref(), ts("2026-01-01T10:30:00Z"), 6);
        times.iter().map(Timestamp::to_string).collect::<Vec<_>>()
    };
    // And whoever looks ahead sees those that are not.
    let window = &world.trigger.spec.window;
    let open = ["01T22", "01T23", "02T00", "02T01", "08T22", "08T23"].map(|hour| format!("2026-01-{hour}:00:00Z"));
    assert_eq!(ahead("@hourly", window), open);
    assert_eq!(ahead("0 12 * * *", window), [""; 0]);
    assert_eq!(ahead("0 1 1 * *", window)[..2], ["2026-05-01T01:00:00Z", "2027-01-01T01:00:00Z"]);
    // What is always on waits for the window to open.
    let mut world = World::new("@always_on", |spec| {
        let time = |hour| jiff::civil::time(hour, 0, 0, 0);
        spec.window = Some(Window { from: time(6), to: time(8), days: vec![] });
    });
    let step = world.at("2026-01-01T10:30:00Z");
    assert_eq!((step.start.len(), step.wake), (0, Some(ts("2026-01-02T06:00:00Z"))));
}

#[test]
fn a_run_begins_so_early_that_it_lands_in_time() {
    // It should have ended at six each morning.
    let landing = |spec: &mut Spec| {
        spec.landing_time = true;
        if let Kind::Schedule(schedule) = &mut spec.kind {
            schedule.start = Some(ts("2027-06-06T06:00:00Z"));
        }
    };
    let mut world = World::new("@daily", landing);
    world.trigger.spec.check().unwrap();
    world.lead = domain::trigger::lead(&[3_600, 1_800, 1_800]);
    assert_eq!(world.lead, Some(SignedDuration::from_secs(2_400 + 520)));
    let step = world.at("2026-01-01T10:30:00Z");
    assert_eq!(step.wake, Some(ts("2026-01-02T06:00:00Z") - SignedDuration::from_secs(2_920)));
    let step = world.at("2026-01-02T05:11:20Z");
    assert_eq!(starts(&step), ["2026-01-02T00:00:00Z"]);
    // Without history it begins with its period, and never before it.
    world.lead = None;
    assert_eq!(world.at("2026-01-02T12:00:00Z").wake, Some(ts("2026-01-03T00:00:00Z")));
    world.lead = Some(SignedDuration::from_hours(30));
    assert_eq!(world.at("2026-01-02T12:00:00Z").wake, Some(ts("2026-01-03T00:00:00Z")));
}

#[test]
fn a_call_is_decided_like_a_time() {
    let mut world = World::new("@daily", |spec| {
        spec.kind = Kind::Api;
        spec.overlap = Overlap::BufferOne;
    });
    let facts = |running| Facts { now: ts("2026-01-01T12:00:00Z"), running, ..Facts::default() };
    let start = |key: &str| Start { key: key.into(), at: ts("2026-01-01T12:00:00Z"), bytes: 9 };
    let step = offer(&world.trigger, &world.state, &facts(1), start("key:a"));
    assert_eq!((step.start.len(), step.state.waiting.len()), (0, 1));
    let second = offer(&world.trigger, &step.state, &facts(1), start("key:b"));
    assert_eq!(second.skip[0].first.key, "key:b");
    world.state = second.state;
    assert_eq!(world.at("2026-01-01T12:05:00Z").start, [start("key:a")]);
    world.trigger.active = false;
    let paused = offer(&world.trigger, &world.state, &facts(0), start("key:c"));
    assert_eq!(paused.skip[0].reason, SkipReason::Pause);
}

#[test]
fn what_waits_is_bounded_in_number_and_in_bytes() {
    let mut world = World::new("@daily", |spec| {
        spec.kind = Kind::Api;
        spec.overlap = Overlap::BufferAll;
    });
    let now = ts("2026-01-01T12:00:00Z");
    let facts = Facts { now, running: 1, ..Facts::default() };
    let mut calls = 0;
    // Whether a call that comes with so much while a run goes on waits for its end, or is skipped.
    let mut waits = |world: &mut World, bytes| {
        calls += 1;
        let start = Start { key: format!("key:{calls}"), at: now, bytes };
        let step = offer(&world.trigger, &world.state, &facts, start.clone());
        world.state = step.state;
        let waits = world.state.waiting.contains(&start);
        let skip = Skip { last: now, first: start, times: 1, reason: SkipReason::Overlap };
        assert_eq!(step.skip, if waits { Vec::new() } else { vec![skip] });
        waits
    };
    assert!(waits(&mut world, BUFFER_BYTES_MAX + 1), "alone it waits, however much it is");
    assert!(!waits(&mut world, 1), "nothing more does");
    world.state.waiting.clear();
    for _ in 0..4 {
        assert!(waits(&mut world, BUFFER_BYTES_MAX / 4));
    }
    assert!(!waits(&mut world, 1));
    world.state.waiting.remove(0);
    assert!(!waits(&mut world, BUFFER_BYTES_MAX / 4 + 1), "there is room again, but not for so much");
    assert!(waits(&mut world, BUFFER_BYTES_MAX / 4));
    world.state.waiting.clear();
    for _ in 0..BUFFER_MAX {
        assert!(waits(&mut world, 0));
    }
    assert!(!waits(&mut world, 0), "and only so many");
}

#[test]
fn what_is_kept_of_too_much_is_what_will_start() {
    for overlap in [Overlap::CancelOther, Overlap::TerminateOther] {
        let mut world = World::new("@daily", |spec| (spec.kind, spec.overlap) = (Kind::Api, overlap));
        let now = ts("2026-01-01T12:00:00Z");
        let facts = Facts { now, running: 1, ..Facts::default() };
        let offered = |world: &mut World, key: &str, bytes: usize| {
            let step = offer(&world.trigger, &world.state, &facts, Start { key: key.into(), at: now, bytes });
            world.state = step.state;
            assert!(step.skip.iter().all(|skip| skip.reason == SkipReason::Overlap));
            let waiting: Vec<_> = world.state.waiting.iter().map(|start| start.key.clone()).collect();
            (waiting.join(" "), step.skip.into_iter().map(|skip| skip.first.key).collect::<Vec<_>>().join(" "))
        };
        let said = |waiting: &str, skipped: &str| (waiting.to_owned(), skipped.to_owned());
        assert_eq!(offered(&mut world, "a", BUFFER_BYTES_MAX / 2), said("a", ""));
        assert_eq!(offered(&mut world, "b", BUFFER_BYTES_MAX / 2), said("a b", ""));
        assert_eq!(offered(&mut world, "c", BUFFER_BYTES_MAX / 2), said("b c", "a"));
        assert_eq!(offered(&mut world, "d", BUFFER_BYTES_MAX + 1), said("d", "b c"));
        assert_eq!(offered(&mut world, "e", 0), said("e", "d"));
        for n in 1..=BUFFER_MAX {
            offered(&mut world, &format!("f{n}"), 0);
        }
        let waiting = &world.state.waiting;
        assert_eq!((waiting.len(), waiting[0].key.as_str()), (BUFFER_MAX, "f1"));
        let latest = format!("f{BUFFER_MAX}");
        assert_eq!(world.at("2026-01-01T12:05:00Z").start[0].key, latest);
    }
}
