//! What happens to a life, and what follows.

use super::{Bounds, Life, MISPLACED_MAX, Notice, Preemption, Rules, Stage, Step, endings::PROBE_PAUSE, evictions};
use crate::{
    id::{QueueId, UserId},
    runtime::{activity::Sign, reason::Reason},
};
use jiff::{SignedDuration, Timestamp};

/// The longest that somebody may protect a life for, from now on.
const SNOOZE_MAX: SignedDuration = SignedDuration::from_hours(24);

/// How much later use has to be to be stored again.
const USE_STORED_EVERY: SignedDuration = SignedDuration::from_secs(30);

/// Something that happens to a life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The planner keeps it a place that others are leaving.
    Nominated,
    /// The place that was kept cannot be had any more.
    Denominated,
    /// The ledger gave it a place.
    Placed,
    /// The planner says why it waits.
    Waits(Notice),
    /// Something is wrong with it that does not end it.
    Warned(Notice),
    /// Its backend speaks.
    Report(Report),
    /// Its backend said what there is, and did not name it.
    Missing,
    /// Nothing was heard of its node for too long.
    NodeLost,
    /// An administrator's word that nothing of it can be left.
    Fenced(Option<UserId>),
    /// It shall end.
    Stop {
        /// Why.
        reason: Reason,
        /// In words.
        message: String,
        /// It starts again afterwards.
        again: bool,
        /// Whose will it is; `None` is the cluster's own.
        actor: Option<UserId>,
    },
    /// Others come first: it is stopped in a while, unless they need its place no more.
    Preempted(Preemption),
    /// Nobody needs its place any more.
    Reprieved,
    /// It goes to another queue.
    Switched {
        /// Which.
        queue: QueueId,
        /// In words, with the names of both.
        message: String,
        /// Whose will it is.
        actor: Option<UserId>,
    },
    /// Nobody stops it for idleness before then.
    Snoozed(Timestamp, Option<UserId>),
    /// A proxy saw somebody.
    Seen(Timestamp),
    /// This binds it besides its spec from now on.
    Bound(Bounds),
    /// Time has passed.
    Wake,
}

/// What a backend says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Of the last order that it obeyed.
    pub fence: i64,
    /// How far it is.
    pub phase: Phase,
    /// Empty when all is well.
    pub code: String,
    /// In words.
    pub message: String,
    /// `host:port`, when the application answers.
    pub endpoint: String,
    /// What its sources say about its use.
    pub signs: Vec<(String, Sign)>,
}

/// How far a backend is with a life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It comes up.
    Starting(Step),
    /// The application answers.
    Ready,
    /// It is ending.
    Stopping,
    /// Nothing of it is left.
    Gone,
    /// It cannot go on; something of it may be left.
    Failed,
    /// Its place cannot be had.
    Misplaced,
}

/// What follows from an event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// What its timeline tells.
    pub told: Vec<Entry>,
    /// Something that is stored has changed.
    pub stored: bool,
    /// What its backend is to do has changed.
    pub ordered: bool,
    /// What it held or was kept for it is free.
    pub released: bool,
    /// Its sources are to look again.
    pub probe: bool,
}

/// A line of the timeline, with the state that the life has by then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The column `state`.
    pub state: &'static str,
    /// The column `step`.
    pub step: &'static str,
    /// A reason or a code; may be empty.
    pub reason: String,
    /// In words; may be empty.
    pub message: String,
    /// Whose act it was.
    pub actor: Option<UserId>,
}

impl Life {
    /// What its timeline tells of the beginning, with what is known of its place.
    #[must_use]
    pub fn begin(&self) -> Change {
        let mut change = Change::default();
        let Notice { code, message, .. } = &self.notice;
        self.tell(code, message.clone(), self.requested_by, &mut change);
        change
    }

    /// Applies an event. What does not concern the life as it stands changes nothing.
    pub fn advance(&mut self, event: Event, now: Timestamp, rules: &Rules) -> Change {
        let mut change = Change::default();
        match event {
            Event::Nominated if self.stage == Stage::Queued => self.enter(Stage::Nominated, now, &mut change),
            Event::Denominated if self.stage == Stage::Nominated => {
                change.released = true;
                self.enter(Stage::Queued, now, &mut change);
            }
            Event::Placed if matches!(self.stage, Stage::Queued | Stage::Nominated) => self.placed(now, &mut change),
            Event::Waits(notice) if matches!(self.stage, Stage::Queued | Stage::Nominated) => {
                self.notice(notice, &mut change);
            }
            Event::Warned(notice) if self.holds() => self.notice(notice, &mut change),
            Event::Report(report) if self.holds() && report.fence == self.fence => {
                self.reported(report, now, &mut change);
            }
            Event::Missing if self.is_under_way() => {
                let message = "its executor came back without it".to_owned();
                self.stop(Reason::NodeLost, message, None, now, &mut change);
            }
            Event::NodeLost if self.holds() => {
                let message = "nothing is heard of its node; what it holds stays held until the node says that it \
                               is gone, or an administrator that the node is off";
                self.stop(Reason::NodeLost, message.to_owned(), None, now, &mut change);
            }
            Event::Fenced(actor) if self.holds() => {
                self.stop(Reason::NodeLost, String::new(), actor, now, &mut change);
                self.end(String::new(), actor, now, &mut change);
            }
            Event::Stop { reason, message, again, actor } => {
                self.asked_to_stop(reason, (message, again), actor, now, &mut change);
            }
            Event::Preempted(preemption) => self.preempted(preemption, now, rules, &mut change),
            Event::Reprieved => self.reprieved(&mut change),
            Event::Switched { queue, message, actor } if self.may_switch() => {
                self.switched((queue, message), actor, now, &mut change);
                // What binds it there is said next: nothing of the former queue judges it until then.
                return change;
            }
            Event::Snoozed(until, actor) if self.is_alive() => {
                let until = until.min(now + SNOOZE_MAX).max(self.undisturbed_until(rules).unwrap_or(now));
                self.protected_until = Some(until);
                self.probed_at = None;
                let message = format!("it is not stopped for idleness before {until}");
                self.tell("SNOOZED", message, actor, &mut change);
            }
            Event::Seen(at) => self.activity.seen(at.min(now)),
            Event::Bound(bounds) => self.bind(bounds, now, rules),
            _ => {}
        }
        self.store_use(&mut change);
        self.wake(now, rules, &mut change);
        change
    }

    /// Its backend has said that there is something of it. One that only has the order may have lost it with its process,
    /// and is told again.
    fn is_under_way(&self) -> bool {
        match self.stage {
            Stage::Starting(step) => step > Step::Accepted,
            Stage::Running => true,
            _ => false,
        }
    }

    fn placed(&mut self, now: Timestamp, change: &mut Change) {
        self.fence += 1;
        self.placed_at = Some(now);
        change.ordered = true;
        self.enter(Stage::Starting(Step::Placed), now, change);
    }

    fn reported(&mut self, report: Report, now: Timestamp, change: &mut Change) {
        for (source, sign) in report.signs {
            self.activity.says(&source, sign, now);
        }
        let started = matches!(self.stage, Stage::Starting(_) | Stage::Running);
        let Report { code, message, .. } = report;
        match report.phase {
            Phase::Gone if started => {
                let code = if code.is_empty() { Reason::Exited.as_str().to_owned() } else { code };
                let (reason, message) = self.ended_by(code, message, now);
                self.stage = Stage::Stopping(reason);
                self.end(message, None, now, change);
            }
            Phase::Gone => self.end(message, None, now, change),
            Phase::Failed if started => {
                let code = if code.is_empty() { "FAILED".to_owned() } else { code };
                let (reason, message) = self.ended_by(code, message, now);
                self.stop(reason, message, None, now, change);
            }
            // It ran, and its node does not take it again. Only other devices than granted mean another place.
            Phase::Misplaced
                if self.stage == Stage::Running && !(code.is_empty() || code == Reason::Misplaced.as_str()) =>
            {
                self.stop(Reason::NodeLost, format!("{code}: {message}"), None, now, change);
            }
            Phase::Misplaced if started => {
                let reason = match self.earlier.misplaced {
                    MISPLACED_MAX.. => Reason::Error(Reason::Misplaced.as_str().to_owned()),
                    _ => Reason::Misplaced,
                };
                // The reason is one for all; why is in the words.
                let is_told = code.is_empty() || code == Reason::Misplaced.as_str();
                let message = if is_told { message } else { format!("{code}: {message}") };
                self.stop(reason, message, None, now, change);
            }
            Phase::Ready if matches!(self.stage, Stage::Starting(_)) => {
                self.endpoint = report.endpoint;
                self.running_at = Some(now);
                self.lifetime_end = self.lifetime();
                self.enter(Stage::Running, now, change);
                self.notice(Notice { code, message, ..Notice::default() }, change);
            }
            Phase::Ready if self.stage == Stage::Running && self.endpoint != report.endpoint => {
                self.endpoint = report.endpoint;
                change.stored = true;
            }
            Phase::Starting(step) if matches!(self.stage, Stage::Starting(before) if before < step) => {
                self.enter(Stage::Starting(step), now, change);
                self.notice(Notice { code, message, ..Notice::default() }, change);
            }
            Phase::Starting(_) | Phase::Ready if started => {
                self.notice(Notice { code, message, hint: self.idle_doubts(), ..Notice::default() }, change);
            }
            _ => {}
        }
    }

    fn asked_to_stop(
        &mut self,
        reason: Reason,
        (message, again): (String, bool),
        actor: Option<UserId>,
        now: Timestamp,
        change: &mut Change,
    ) {
        match (&self.stage, &reason) {
            (Stage::Failed(_), Reason::ErrorReset) => {
                self.enter_with(Stage::Stopped(reason), message, actor, now, change);
            }
            // The last word of a person about what follows.
            (Stage::Stopping(before), Reason::User | Reason::Admin | Reason::Restart)
                if !matches!(before, Reason::Error(_)) && (*before != reason || self.start_again != again) =>
            {
                self.start_again = again;
                self.stage = Stage::Stopping(reason);
                self.tell_now(message, actor, change);
            }
            (_, Reason::ErrorReset) => {}
            _ => {
                if self.stop(reason, message, actor, now, change) {
                    self.start_again = again;
                }
            }
        }
    }

    /// Begins to end. What holds nothing has ended at once.
    fn stop(
        &mut self,
        reason: Reason,
        message: String,
        actor: Option<UserId>,
        now: Timestamp,
        change: &mut Change,
    ) -> bool {
        match self.stage {
            Stage::Queued | Stage::Nominated => {
                change.released |= self.stage == Stage::Nominated;
                self.stopped_at = Some(now);
                self.enter_with(Stage::Stopped(reason), message, actor, now, change);
            }
            Stage::Starting(_) | Stage::Running => {
                self.fence += 1;
                change.ordered = true;
                self.ending = None;
                self.enter_with(Stage::Stopping(reason), message, actor, now, change);
            }
            Stage::Stopping(_) | Stage::Stopped(_) | Stage::Failed(_) => return false,
        }
        true
    }

    /// Nothing of it is left.
    fn end(&mut self, message: String, actor: Option<UserId>, now: Timestamp, change: &mut Change) {
        let Stage::Stopping(reason) = &self.stage else { return };
        let stage = match reason.clone() {
            reason @ Reason::Error(_) => Stage::Failed(reason),
            // Nothing follows by itself, and nobody here wanted it: whoever worked there is to see that.
            reason @ Reason::Evicted if !self.spec.requeue => Stage::Failed(reason),
            reason => Stage::Stopped(reason),
        };
        let hint = evictions::hint(&stage);
        self.fence += 1;
        self.stopped_at = Some(now);
        self.endpoint.clear();
        change.released = true;
        change.ordered = true;
        let message = if message.is_empty() { self.notice.message.clone() } else { message };
        self.enter_with(stage, message, actor, now, change);
        hint.clone_into(&mut self.notice.hint);
    }

    fn switched(
        &mut self,
        (queue, message): (QueueId, String),
        actor: Option<UserId>,
        now: Timestamp,
        change: &mut Change,
    ) {
        if self.queue == queue {
            return;
        }
        self.queue = queue;
        self.ending = None;
        // The former queue's window does not come with it.
        if let Some(bounds) = &mut self.bounds {
            bounds.closes_at = None;
        }
        if self.stage == Stage::Nominated {
            // The place was made by the rights of the other queue.
            change.released = true;
            self.enter(Stage::Queued, now, change);
        }
        self.tell("QUEUE_SWITCHED", message, actor, change);
    }

    /// Use is stored now and then: often enough for whoever takes the life over, seldom enough for the database.
    fn store_use(&mut self, change: &mut Change) {
        let latest = self.activity.latest();
        let is_news = |latest| self.use_stored_at.is_none_or(|stored: Timestamp| stored + USE_STORED_EVERY <= latest);
        if latest.is_some_and(is_news) {
            self.use_stored_at = latest;
            change.stored = true;
        }
    }

    /// What the clock demands.
    fn wake(&mut self, now: Timestamp, rules: &Rules, change: &mut Change) {
        if let Stage::Starting(step) = self.stage {
            let (limit, code, sentence) = step.limit();
            if self.step_at + limit <= now {
                let message = self.with_last_word(sentence);
                self.stop(Reason::Error(code.to_owned()), message, None, now, change);
            }
        }
        if self.bounds.is_none() {
            return;
        }
        self.settle_lifetime(now);
        if let Some(ending) = self.fixed_ending().filter(|ending| ending.at <= now) {
            let message = self.parting_word(&ending.because);
            self.stop(ending.because, message, None, now, change);
        }
        self.settle_idle(now, rules);
        self.reap_idle(now, rules, change);
        self.warn(now, rules, change);
    }

    /// That a step took too long, with what its backend said of that step: it tells why.
    fn with_last_word(&self, sentence: &str) -> String {
        match (self.notice.code.as_str(), self.notice.message.as_str()) {
            ("", "") => sentence.to_owned(),
            ("", word) | (word, "") => format!("{sentence}; the last word about it was {word}"),
            (code, words) => format!("{sentence}; the last word about it was {code}: {words}"),
        }
    }

    /// Stops what is idle, once all sources have looked again.
    fn reap_idle(&mut self, now: Timestamp, rules: &Rules, change: &mut Change) {
        let Some(_) = self.idle_ending(rules).filter(|ending| ending.at <= now) else {
            self.probed_at = None;
            return;
        };
        match self.probed_at {
            Some(asked) if self.activity.is_fresh(asked) => {
                let evidence = self.activity.evidence();
                self.stop(Reason::Idle, evidence, None, now, change);
            }
            Some(asked) if now < asked + PROBE_PAUSE => {}
            _ => {
                self.probed_at = Some(now);
                change.probe = true;
            }
        }
    }

    fn warn(&mut self, now: Timestamp, rules: &Rules, change: &mut Change) {
        let shown = self.shown_ending(now, rules);
        if shown != self.ending {
            self.ending = shown;
            self.warned = 0;
            change.stored = true;
        }
        let Some(ending) = self.ending.clone() else { return };
        let due = Self::warnings_due(&ending, now);
        if due > self.warned {
            self.warned = due;
            let message = format!("it will be stopped at {:.0}", ending.at);
            self.tell(ending.because.as_str(), message, None, change);
        }
    }

    fn enter(&mut self, stage: Stage, now: Timestamp, change: &mut Change) {
        self.enter_with(stage, String::new(), None, now, change);
    }

    fn enter_with(
        &mut self,
        stage: Stage,
        message: String,
        actor: Option<UserId>,
        now: Timestamp,
        change: &mut Change,
    ) {
        self.stage = stage;
        self.step_at = now;
        self.notice = Notice::default();
        self.tell_now(message, actor, change);
    }

    /// Tells why it is in its stage.
    fn tell_now(&mut self, message: String, actor: Option<UserId>, change: &mut Change) {
        let reason = self.stage.reason().map_or("", Reason::as_str).to_owned();
        self.notice.message.clone_from(&message);
        self.tell(&reason, message, actor, change);
    }

    fn notice(&mut self, notice: Notice, change: &mut Change) {
        if self.notice == notice {
            return;
        }
        let is_news = self.notice.code != notice.code && !notice.code.is_empty();
        self.notice = notice;
        change.stored = true;
        if is_news {
            let (code, message) = (self.notice.code.clone(), self.notice.message.clone());
            self.tell(&code, message, None, change);
        }
    }

    pub(super) fn tell(&self, reason: &str, message: String, actor: Option<UserId>, change: &mut Change) {
        let (state, step) = (self.stage.state(), self.stage.step());
        change.told.push(Entry { state, step, reason: reason.to_owned(), message, actor });
        change.stored = true;
    }
}
