//! One life of a workspace's runtime, from its start to its end: which state follows what.
//!
//! [`Life::advance`] is the only place that knows. Capacity comes free by the backend's word that nothing is left, said
//! with the fence of the order in force, or by an administrator's; nothing else. Refuses to know where it is placed, how
//! orders travel, and rows.

mod endings;
mod events;
mod evictions;
mod preemption;
mod stage;

pub use endings::{Bounds, Ending, NOTICE, Rules, least};
pub use events::{Change, Entry, Event, Phase, Report};
pub use preemption::Preemption;
pub use stage::{Stage, Step};

use super::{Spec, activity::Activity, gang::Gang, reason::Reason};
use crate::id::{HolderId, ProjectId, QueueId, UserId, WorkspaceId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Times in a row that a place may turn out not to be there.
const MISPLACED_MAX: u32 = 8;

/// One life.
#[derive(Debug, Clone, PartialEq)]
pub struct Life {
    /// Whose runtime it is.
    pub workspace: WorkspaceId,
    /// Whose quota it uses.
    pub project: ProjectId,
    /// Where it waits, or waited.
    pub queue: QueueId,
    /// Rises with every start of the workspace's runtime.
    pub number: i64,
    /// The ledger knows this life by it.
    pub holder: HolderId,
    /// What was in force at its start.
    pub spec: Arc<Spec>,
    /// Which version of it that was.
    pub spec_version: i64,
    /// The key that the start was asked with.
    pub start_key: String,
    /// Who asked.
    pub requested_by: Option<UserId>,
    /// Since when it waits; whoever was disturbed keeps the first time.
    pub submitted_at: Timestamp,
    /// Where it stands.
    pub stage: Stage,
    /// When the step began.
    pub step_at: Timestamp,
    /// When it got its place.
    pub placed_at: Option<Timestamp>,
    /// When its application answered first.
    pub running_at: Option<Timestamp>,
    /// When it ended.
    pub stopped_at: Option<Timestamp>,
    /// Somebody asked to keep it: nobody stops it for idleness before then.
    pub protected_until: Option<Timestamp>,
    /// Raised with every order; a report with another one does not count.
    pub fence: i64,
    /// It starts once more when it has ended.
    pub start_again: bool,
    /// The image that was checked for that start. Not stored: without it, only an image of its own spec follows.
    pub next_image: String,
    /// `host:port` of its application.
    pub endpoint: String,
    /// A code, and words about what is going on; not why it ended.
    pub notice: Notice,
    /// What will end it first, as it is shown.
    pub ending: Option<Ending>,
    /// Others come first, and whoever is there was told. Of it, rows know the end that is shown.
    pub preemption: Option<Preemption>,
    /// What is known of its use.
    pub activity: Activity,
    /// What binds it besides its spec; `None` while a new owner has not read that: what was told last holds then.
    pub bounds: Option<Bounds>,
    /// It starts with others or not at all.
    pub gang: Option<Gang>,
    /// Its sources were asked to look again.
    probed_at: Option<Timestamp>,
    /// The latest use that is stored: a new owner of the life knows no later one.
    use_stored_at: Option<Timestamp>,
    /// Warnings of this ending that were given.
    warned: usize,
    /// When its longest time is over, as it was told.
    lifetime_end: Option<Timestamp>,
    /// A bound, or a word about its use, that came while it ran stops it for idleness no sooner.
    idle_not_before: Option<Timestamp>,
    /// What the lives before it came to.
    pub earlier: Earlier,
}

/// What of the lives before one bounds how often it is tried again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Earlier {
    /// Lives in a row whose place was not there.
    misplaced: u32,
    /// Lives in a row that were evicted, none of which had run for long.
    evicted: u32,
}

/// What people are told beside the state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notice {
    /// A planner's or a backend's; empty when all is well.
    pub code: String,
    /// A sentence.
    pub message: String,
    /// What would help.
    pub hint: String,
    /// While it waits: its place among those who wait in its queue, from 1, where the planner says it.
    pub position: Option<u32>,
    /// While it waits: when it gets a place, as far as the planner can tell from the ends that are known.
    pub expected_at: Option<Timestamp>,
}

/// What a backend is to do about a life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Goal {
    /// It shall run.
    Run,
    /// It shall end.
    Stop,
    /// Its end was noted.
    Forget,
}

impl Life {
    /// A life that waits.
    #[must_use]
    #[expect(clippy::too_many_arguments, reason = "what a start consists of; named once, by whoever starts")]
    pub fn new(
        workspace: WorkspaceId,
        project: ProjectId,
        queue: QueueId,
        number: i64,
        holder: HolderId,
        spec: Arc<Spec>,
        spec_version: i64,
        now: Timestamp,
    ) -> Self {
        Self {
            workspace,
            project,
            queue,
            number,
            holder,
            spec,
            spec_version,
            start_key: String::new(),
            requested_by: None,
            submitted_at: now,
            stage: Stage::Queued,
            step_at: now,
            placed_at: None,
            running_at: None,
            stopped_at: None,
            protected_until: None,
            fence: 0,
            start_again: false,
            next_image: String::new(),
            endpoint: String::new(),
            notice: Notice::default(),
            ending: None,
            preemption: None,
            activity: Activity::default(),
            bounds: Some(Bounds::default()),
            gang: None,
            probed_at: None,
            use_stored_at: None,
            warned: 0,
            lifetime_end: None,
            idle_not_before: None,
            earlier: Earlier::default(),
        }
    }

    /// What a backend is to do; `None` while it has no place.
    #[must_use]
    pub fn goal(&self) -> Option<Goal> {
        match self.stage {
            Stage::Queued | Stage::Nominated => None,
            Stage::Starting(_) | Stage::Running => Some(Goal::Run),
            Stage::Stopping(_) => Some(Goal::Stop),
            Stage::Stopped(_) | Stage::Failed(_) => self.placed_at.map(|_| Goal::Forget),
        }
    }

    /// It has a place whose capacity comes free only with its end.
    #[must_use]
    pub fn holds(&self) -> bool {
        matches!(self.stage, Stage::Starting(_) | Stage::Running | Stage::Stopping(_))
    }

    /// It has not ended.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !matches!(self.stage, Stage::Stopped(_) | Stage::Failed(_))
    }

    /// It ends, or has ended, to start again because somebody said so.
    #[must_use]
    pub fn restarts(&self) -> bool {
        self.start_again && matches!(self.stage, Stage::Stopping(Reason::Restart) | Stage::Stopped(Reason::Restart))
    }

    /// Whether it may go to another queue; one that is told to stop has lost its time to do so.
    #[must_use]
    pub fn may_switch(&self) -> bool {
        self.is_alive() && !matches!(self.stage, Stage::Stopping(_))
    }

    /// Nobody stops it for others before then.
    #[must_use]
    pub fn undisturbed_until(&self, rules: &Rules) -> Option<Timestamp> {
        self.running_at.map(|at| at + rules.min_running)
    }

    /// From asking it to end to ending it, seconds.
    #[must_use]
    pub fn grace_s(&self, rules: &Rules) -> u32 {
        if self.spec.grace_s == 0 { rules.grace_s } else { self.spec.grace_s }
    }

    /// The life that follows an ended one, where one does: it was disturbed and waits again with its first time, or it was
    /// to be started again.
    #[must_use]
    pub fn successor(&self, holder: HolderId, now: Timestamp) -> Option<Self> {
        let (Stage::Stopped(reason) | Stage::Failed(reason)) = &self.stage else { return None };
        let misplaced = *reason == Reason::Misplaced;
        let waits_again = misplaced || (reason.is_disturbance() && self.spec.requeue);
        if !waits_again && !self.start_again {
            return None;
        }
        let spec = Arc::clone(&self.spec);
        let (workspace, project, queue) = (self.workspace, self.project, self.queue);
        let mut next = Self::new(workspace, project, queue, self.number + 1, holder, spec, self.spec_version, now);
        next.start_key.clone_from(&self.start_key);
        next.requested_by = self.requested_by;
        next.gang.clone_from(&self.gang);
        if waits_again {
            next.submitted_at = self.submitted_at;
        }
        next.earlier = Earlier {
            misplaced: if misplaced { self.earlier.misplaced + 1 } else { 0 },
            evicted: self.evictions_known(reason, self.stopped_at.unwrap_or(now)),
        };
        Some(next)
    }
}
