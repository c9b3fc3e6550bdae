//! What starts pipelines: schedules, events and calls, and the one decision about each of their logical times.
//!
//! A trigger is a definition: the web-server writes it, and every acknowledged edit raises its version. What became of
//! its times is runtime state, which the scheduler writes. Refuses to know rows, the wire, and what a run does.

mod check;
mod cron;
mod due;
mod invalid;
pub mod key;
mod overlap;
mod schedule;
mod step;
mod window;

pub use check::check_name;
pub use cron::{CRON_BYTES_MAX, Cron};
pub use due::{LANDING_RUNS, lead};
pub use invalid::Invalid;
pub(crate) use invalid::shorten;
pub use overlap::{BUFFER_BYTES_MAX, BUFFER_MAX, Overlap, Sorted, Stop};
pub use schedule::{Every, FIRST, INTERVAL_S_MAX, LAST, PREVIEW_MAX, Period, Schedule, Timetable, zone};
pub use step::{
    ALWAYS_ON_PAUSE, COUNT_MAX, Facts, ON_TIME, STEP_MAX, Skip, SkipReason, Start, State, Step, offer, step,
};
pub use window::{Day, Window};

use crate::{
    id::{PipelineId, TriggerId},
    pipeline::OnLimit,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The most triggers that a pipeline has before another one is refused, archived ones apart. A project's file has as many of its own.
pub const OF_PIPELINE_MAX: u32 = 1_000;
/// The most late times that are caught up with at once.
pub const CATCH_UP_MAX: u32 = 1_000;
/// The longest jitter, a day.
pub const JITTER_S_MAX: u32 = 86_400;
/// The longest of the other times that are counted in seconds, ten years.
pub const SECONDS_MAX: u32 = INTERVAL_S_MAX;
/// The highest limit on runs.
pub const RUN_LIMIT_MAX: u32 = 1_000_000;
/// The most bytes of a trigger's name, and of its description.
pub const NAME_BYTES_MAX: usize = 255;
/// The most bytes of a trigger's description.
pub const DESCRIPTION_BYTES_MAX: usize = 4_096;
/// The most bytes of a trigger's variables, as JSON.
pub const VARIABLES_BYTES_MAX: usize = 256 * 1024;

/// A trigger in the version that is in force.
#[derive(Debug, Clone, PartialEq)]
pub struct Trigger {
    /// Stable over all versions.
    pub id: TriggerId,
    /// What it starts.
    pub pipeline: PipelineId,
    /// Unique in the pipeline.
    pub name: String,
    /// Rises with every edit, start and pause. A firing names it, and counts only while it is in force.
    pub version: i64,
    /// Whether it fires, or is paused.
    pub active: bool,
    /// When it was created, last started, or its schedule edited: times up to here are none of its own.
    pub enabled_at: Timestamp,
    /// When it was paused, for the latest pause, as long as its schedule is the one that was paused: times from here to
    /// `enabled_at` count as skipped.
    pub paused_at: Option<Timestamp>,
    /// The version that made its `@once` what it is: it comes a single time for each.
    pub once_version: i64,
    /// When its schedule took the place of another one, of which nothing comes from then on.
    pub replaced_at: Option<Timestamp>,
    /// Since when it was paused by then; `None` where it was not.
    pub former_paused_at: Option<Timestamp>,
    /// The rest.
    pub spec: Spec,
}

/// Everything that is configured of a trigger, as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// What it waits for.
    pub kind: Kind,
    /// Free text.
    #[serde(default)]
    pub description: String,
    /// Override the pipeline's in its runs.
    #[serde(default)]
    pub variables: Map<String, Value>,
    /// What a start does while runs of this trigger have not ended.
    #[serde(default)]
    pub overlap: Overlap,
    /// What becomes of times that nobody decided in time.
    #[serde(default)]
    pub catch_up: CatchUp,
    /// Its times are spread over so many seconds, the same way each time.
    #[serde(default)]
    pub jitter_s: u32,
    /// A failed run halts it until somebody starts it again.
    #[serde(default)]
    pub pause_on_failure: bool,
    /// `start` says when runs should have ended, and they begin as much earlier as they take.
    #[serde(default)]
    pub landing_time: bool,
    /// A new or started schedule fires for the period that it finds itself in.
    #[serde(default)]
    pub create_initial_run: bool,
    /// Times outside are skipped.
    #[serde(default)]
    pub window: Option<Window>,
    /// A run that takes longer, from its execution date, is late.
    #[serde(default)]
    pub sla_s: Option<u32>,
    /// A run that takes longer is stopped.
    #[serde(default)]
    pub timeout_s: Option<u32>,
    /// How such a run ends.
    #[serde(default)]
    pub timeout_status: TimeoutStatus,
    /// A run goes on where a block failed.
    #[serde(default)]
    pub allow_blocks_to_fail: bool,
    /// Runs of this trigger at once; `None` follows the pipeline's `pipeline_run_limit`.
    #[serde(default)]
    pub run_limit: Option<u32>,
    /// What a run does at that limit; `None` follows the pipeline.
    #[serde(default)]
    pub on_limit: Option<OnLimit>,
}

/// What a trigger waits for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Kind {
    /// A request for a run of the pipeline itself; every pipeline has one trigger of this kind.
    Manual,
    /// A call with the trigger's token.
    Api,
    /// An event that matches one of the patterns.
    Event {
        /// As stored; see `domain::event`.
        patterns: Vec<Value>,
    },
    /// The clock.
    Schedule(Schedule),
}

/// How a run ends that took too long.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeoutStatus {
    /// Mage's default.
    #[default]
    Failed,
    /// As if somebody had cancelled it.
    Cancelled,
}

/// What becomes of times that were not decided within [`ON_TIME`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatchUp {
    /// They are skipped.
    None,
    /// The latest one fires, however late; as Mage does.
    #[default]
    Latest,
    /// The latest `count` of the last `window_s` seconds fire, in order.
    All {
        /// Seconds.
        window_s: u32,
        /// 1 to [`CATCH_UP_MAX`].
        count: u32,
    },
}

impl Spec {
    /// A trigger of this kind with nothing else said: Mage's defaults.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            description: String::new(),
            variables: Map::new(),
            overlap: Overlap::default(),
            catch_up: CatchUp::default(),
            jitter_s: 0,
            pause_on_failure: false,
            landing_time: false,
            create_initial_run: false,
            window: None,
            sla_s: None,
            timeout_s: None,
            timeout_status: TimeoutStatus::default(),
            allow_blocks_to_fail: false,
            run_limit: None,
            on_limit: None,
        }
    }

    /// The schedule, where it has one.
    #[must_use]
    pub fn schedule(&self) -> Option<&Schedule> {
        match &self.kind {
            Kind::Schedule(schedule) => Some(schedule),
            _ => None,
        }
    }

    /// The schedule, ready to be asked; `None` for a trigger without one.
    ///
    /// # Errors
    /// When the schedule is not understood.
    pub fn timetable(&self) -> Result<Option<Timetable>, Invalid> {
        self.schedule_of_times().map(|schedule| schedule.compile()).transpose()
    }

    /// The schedule as its times follow from it.
    pub(crate) fn schedule_of_times(&self) -> Option<Schedule> {
        let mut schedule = self.schedule()?.clone();
        if self.landing_time {
            // The start names the landing and not the beginning.
            schedule.start = None;
        }
        Some(schedule)
    }
}

impl Trigger {
    /// Up to where nothing is this trigger's to decide: the times before it was enabled, apart from the period of that
    /// moment where it asks for an initial run.
    #[must_use]
    pub fn first_mark(&self, timetable: &Timetable) -> Timestamp {
        if *timetable.every() == Every::Once {
            return due::before(self.enabled_at);
        }
        if !self.spec.create_initial_run {
            return self.enabled_at;
        }
        timetable.last_until(self.enabled_at, FIRST).map_or(self.enabled_at, due::before)
    }
}
