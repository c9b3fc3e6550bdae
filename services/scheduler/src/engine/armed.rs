//! Triggers in the engine's memory: when each is to be looked at, and what was decided about it so far.
//!
//! A hundred thousand of them lie here without being looked at. So a definition is kept as a text, without what it leaves
//! unsaid, and read when its trigger is due. Refuses to decide, and to know the database.

mod waits;

pub(super) use waits::{Told, Waits};

use domain::{
    id::{PipelineId, TriggerId},
    pipeline::OnLimit,
    run::{RunRow, RunStatus},
    trigger::{Every, Invalid, Kind, LANDING_RUNS, Overlap, Spec, State, Timetable, Trigger},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{
    collections::{BTreeSet, HashMap},
    sync::LazyLock,
};
use store::triggers::{Listed, Stored};

/// Of runs that have ended, what a trigger's times depend on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct History {
    /// The end of the latest run; for `@always_on`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ended_at: Option<Timestamp>,
    /// How long the latest runs took, newest first; for landing times.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) runtimes_s: Vec<u32>,
}

impl History {
    /// A run has ended.
    pub(super) fn ended(&mut self, started_at: Option<Timestamp>, ended_at: Timestamp) {
        self.ended_at = Some(ended_at);
        if let Some(started_at) = started_at {
            let seconds = u32::try_from(started_at.duration_until(ended_at).as_secs()).unwrap_or(u32::MAX);
            self.runtimes_s.insert(0, seconds);
            self.runtimes_s.truncate(LANDING_RUNS);
        }
    }
}

/// One trigger.
pub(super) struct Armed {
    pub(super) pipeline: PipelineId,
    pub(super) version: i64,
    pub(super) active: bool,
    name: Box<str>,
    enabled_at: Timestamp,
    paused_at: Option<Timestamp>,
    once_version: i64,
    replaced_at: Option<Timestamp>,
    former_paused_at: Option<Timestamp>,
    /// See [`brief`].
    spec: Box<str>,
    pub(super) run_limit: Option<u32>,
    pub(super) on_limit: Option<OnLimit>,
    /// What it does depends on the ends of its runs.
    pub(super) watches_ends: bool,
    /// A run that fails halts it.
    pub(super) halts: bool,
    /// It knows ends of runs that are in no decision which counts.
    pub(super) unwritten: bool,
    pub(super) state: State,
    pub(super) waits: Waits,
    pub(super) history: History,
    pub(super) next_due: Option<Timestamp>,
    /// When the version before it was to be looked at, until this one has been.
    pub(super) former_wake: Option<Timestamp>,
}

impl Armed {
    /// As it is stored. One whose next look is not known, or was computed for another version, is looked at at once.
    pub(super) fn new(listed: Listed, stored: Option<Stored>, now: Timestamp) -> Self {
        let Trigger { pipeline, name, version, active, enabled_at, paused_at, spec, .. } = listed.trigger;
        let Trigger { once_version, replaced_at, former_paused_at, .. } = listed.trigger;
        let always_on = spec.schedule().is_some_and(|schedule| schedule.every.trim() == "@always_on");
        let watches_ends = always_on || spec.landing_time || spec.pause_on_failure || spec.overlap != Overlap::AllowAll;
        let next_due = match &stored {
            // A run of it may have ended while nobody looked.
            Some(stored) if stored.version == version && !watches_ends => stored.next_due,
            _ => Some(now),
        };
        let former_wake = stored.as_ref().filter(|stored| stored.version != version).and_then(|stored| stored.next_due);
        // A history that cannot be read was not written by this version; the state alone is what must not be lost.
        Self {
            pipeline,
            version,
            active,
            name: name.into(),
            enabled_at,
            paused_at,
            once_version,
            replaced_at,
            former_paused_at,
            run_limit: spec.run_limit,
            on_limit: spec.on_limit,
            watches_ends,
            halts: spec.pause_on_failure,
            unwritten: false,
            spec: brief(&spec),
            waits: Waits::read(stored.as_ref().map(|s| s.waiting.clone())),
            history: stored.as_ref().and_then(|s| serde_json::from_value(s.history.clone()).ok()).unwrap_or_default(),
            state: stored.map(|stored| stored.state).unwrap_or_default(),
            next_due,
            former_wake,
        }
    }

    /// The definition, and its schedule ready to be asked.
    pub(super) fn read(&self, id: TriggerId) -> Result<(Trigger, Option<Timetable>), Invalid> {
        let spec: Spec = serde_json::from_str(&self.spec).map_err(|error| Invalid::new(error.to_string()))?;
        let timetable = spec.timetable()?;
        let trigger = Trigger {
            id,
            pipeline: self.pipeline,
            name: self.name.to_string(),
            version: self.version,
            active: self.active,
            enabled_at: self.enabled_at,
            paused_at: self.paused_at,
            once_version: self.once_version,
            replaced_at: self.replaced_at,
            former_paused_at: self.former_paused_at,
            spec,
        };
        Ok((trigger, timetable))
    }

    /// Goes on from what was known in memory about ends of its runs. A failure halts the version that was in force then.
    pub(super) fn go_on_from(&mut self, kept: Kept) {
        let halted = Some(self.version).filter(|version| kept.is_halted && *version == kept.version);
        self.unwritten = self.history != kept.history || halted.is_some();
        self.history = kept.history;
        self.state.halted = halted.or(self.state.halted);
    }
}

/// What a trigger knows of the ends of its runs, while it is read again.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Kept {
    pub(super) pipeline: PipelineId,
    version: i64,
    halts: bool,
    is_halted: bool,
    history: History,
}

impl Kept {
    /// Nothing where ends mean nothing to it.
    pub(super) fn of(armed: &Armed) -> Option<Self> {
        armed.watches_ends.then(|| Self {
            pipeline: armed.pipeline,
            version: armed.version,
            halts: armed.halts,
            is_halted: armed.state.halted == Some(armed.version),
            history: armed.history.clone(),
        })
    }

    /// A run has ended meanwhile.
    pub(super) fn ended(&mut self, row: &RunRow, ended_at: Timestamp) {
        self.history.ended(row.started_at, ended_at);
        self.is_halted |= self.halts && row.status == RunStatus::Failed;
    }
}

/// What a definition says that says nothing but its kind.
static UNSAID: LazyLock<Map<String, Value>> = LazyLock::new(|| {
    let mut unsaid = fields(&Spec::new(Kind::Manual));
    unsaid.remove("kind");
    unsaid
});

fn fields(spec: &Spec) -> Map<String, Value> {
    match serde_json::to_value(spec) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

/// The definition as JSON, without what it leaves unsaid: most definitions leave most.
fn brief(spec: &Spec) -> Box<str> {
    let mut said = fields(spec);
    said.retain(|name, value| UNSAID.get(name) != Some(value));
    Value::Object(said).to_string().into()
}

/// All triggers of an engine, by when they are due.
#[derive(Default)]
pub(super) struct Triggers {
    armed: HashMap<TriggerId, Armed>,
    due: BTreeSet<(Timestamp, TriggerId)>,
}

impl Triggers {
    pub(super) fn len(&self) -> usize {
        self.armed.len()
    }

    pub(super) fn get(&self, id: TriggerId) -> Option<&Armed> {
        self.armed.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: TriggerId) -> Option<&mut Armed> {
        self.armed.get_mut(&id)
    }

    /// Adds or replaces one.
    pub(super) fn arm(&mut self, id: TriggerId, armed: Armed) {
        self.disarm(id);
        if let Some(at) = armed.next_due {
            self.due.insert((at, id));
        }
        self.armed.insert(id, armed);
    }

    pub(super) fn disarm(&mut self, id: TriggerId) {
        if let Some(at) = self.armed.remove(&id).and_then(|armed| armed.next_due) {
            self.due.remove(&(at, id));
        }
    }

    /// Looks at it at this time.
    pub(super) fn rearm(&mut self, id: TriggerId, at: Option<Timestamp>) {
        let Some(armed) = self.armed.get_mut(&id) else { return };
        if let Some(old) = std::mem::replace(&mut armed.next_due, at) {
            self.due.remove(&(old, id));
        }
        if let Some(at) = at {
            self.due.insert((at, id));
        }
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Those that are due.
    pub(super) fn due_by(&self, now: Timestamp) -> impl Iterator<Item = TriggerId> {
        self.due.iter().take_while(move |(at, _)| *at <= now).map(|(_, id)| *id)
    }

    /// The next one that is due, with when it was; it stays armed for that time.
    pub(super) fn due(&mut self, now: Timestamp) -> Option<(Timestamp, TriggerId)> {
        let first = self.due.first().copied().filter(|(at, _)| *at <= now)?;
        self.due.remove(&first);
        Some(first)
    }

    pub(super) fn retain(&mut self, stays: impl Fn(PipelineId) -> bool) {
        self.armed.retain(|_, armed| stays(armed.pipeline));
        let armed = &self.armed;
        self.due.retain(|(_, id)| armed.contains_key(id));
    }
}

/// What Mage tells a run of a schedule about its period, as texts: the start, the end, the one before, and the length.
pub(super) fn interval_variables(timetable: &Timetable, nominal: Timestamp) -> Map<String, Value> {
    let text = |at: Timestamp| Value::String(at.display_with_offset(jiff::tz::Offset::UTC).to_string());
    let mut told = Map::new();
    told.insert("interval_start_datetime".into(), text(nominal));
    let period = match timetable.every() {
        Every::Once | Every::AlwaysOn => None,
        _ => timetable.period(nominal),
    };
    let before = period.and_then(|period| nominal.checked_sub(period.length).ok());
    told.insert("interval_end_datetime".into(), period.map_or(Value::Null, |period| text(period.end)));
    told.insert("interval_seconds".into(), period.map_or(Value::Null, |period| period.length.as_secs().into()));
    told.insert("interval_start_datetime_previous".into(), before.map_or(Value::Null, text));
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_reads_as_it_was_without_what_it_leaves_unsaid() {
        let plain = Spec::new(Kind::Api);
        assert_eq!(&*brief(&plain), r#"{"kind":{"type":"api"}}"#);
        let spec = Spec { sla_s: Some(60), overlap: Overlap::Skip, allow_blocks_to_fail: true, ..plain.clone() };
        for spec in [plain, spec, Spec::new(Kind::Manual)] {
            assert_eq!(serde_json::from_str::<Spec>(&brief(&spec)).unwrap(), spec);
        }
    }
}
