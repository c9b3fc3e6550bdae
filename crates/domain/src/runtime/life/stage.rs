//! Where a life stands, as values and as the words of rows. Refuses to know what leads from one to the other.

use crate::runtime::reason::Reason;
use jiff::SignedDuration;

/// Where a life stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// It waits for devices or quota, and holds nothing.
    Queued,
    /// A place is kept for it, which others are leaving.
    Nominated,
    /// It has its place and comes up.
    Starting(Step),
    /// Its application answers.
    Running,
    /// It was told to end, and holds its place until it has.
    Stopping(Reason),
    /// It ended, and nothing of it is left.
    Stopped(Reason),
    /// It ended with an error, and nothing of it is left.
    Failed(Reason),
}

/// How far a start has come, by the backend's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// The ledger says so; the backend has not answered.
    Placed,
    /// The backend has the order.
    Accepted,
    /// The claim of devices is there.
    ClaimCreated,
    /// So is the pod.
    PodCreated,
    /// The claim has its devices.
    ClaimAllocated,
    /// An image is pulled, or an environment prepared.
    Pulling,
    /// Scripts run, the application comes up.
    Starting,
}

const STEPS: [Step; 7] = [
    Step::Placed,
    Step::Accepted,
    Step::ClaimCreated,
    Step::PodCreated,
    Step::ClaimAllocated,
    Step::Pulling,
    Step::Starting,
];

impl Step {
    /// As rows have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Placed => "placed",
            Self::Accepted => "accepted",
            Self::ClaimCreated => "claim_created",
            Self::PodCreated => "pod_created",
            Self::ClaimAllocated => "claim_allocated",
            Self::Pulling => "pulling",
            Self::Starting => "starting",
        }
    }

    /// How long it may take at most, the code of taking longer, and a sentence.
    pub(super) const fn limit(self) -> (SignedDuration, &'static str, &'static str) {
        let minutes = SignedDuration::from_mins;
        match self {
            Self::Placed => (minutes(5), "EXECUTOR_SILENT", "its executor has not taken the order"),
            Self::Accepted | Self::ClaimCreated | Self::PodCreated => {
                (minutes(5), "SCHEDULE_TIMEOUT", "its backend has not given it the place that was decided")
            }
            Self::ClaimAllocated => (minutes(5), "CREATE_TIMEOUT", "its container was not created"),
            Self::Pulling => (minutes(15), "PULL_TIMEOUT", "its image or environment could not be had in time"),
            Self::Starting => (minutes(10), "START_TIMEOUT", "its application does not answer"),
        }
    }
}

impl Stage {
    /// The column `state`.
    #[must_use]
    pub const fn state(&self) -> &'static str {
        match self {
            Self::Queued | Self::Nominated | Self::Starting(_) => "starting",
            Self::Running => "running",
            Self::Stopping(_) => "stopping",
            Self::Stopped(_) => "stopped",
            Self::Failed(_) => "error",
        }
    }

    /// The column `step`.
    #[must_use]
    pub const fn step(&self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Nominated => "nominated",
            Self::Starting(step) => step.as_str(),
            Self::Running | Self::Stopping(_) | Self::Stopped(_) | Self::Failed(_) => "",
        }
    }

    /// Why it ended or is ending.
    #[must_use]
    pub const fn reason(&self) -> Option<&Reason> {
        match self {
            Self::Stopping(reason) | Self::Stopped(reason) | Self::Failed(reason) => Some(reason),
            Self::Queued | Self::Nominated | Self::Starting(_) | Self::Running => None,
        }
    }

    /// Reads a row; `None` for what is none of ours.
    #[must_use]
    pub fn read(state: &str, step: &str, reason: &str) -> Option<Self> {
        let reason = || Reason::read(reason);
        match (state, step) {
            ("starting", "queued") => Some(Self::Queued),
            ("starting", "nominated") => Some(Self::Nominated),
            ("starting", step) => STEPS.into_iter().find(|known| known.as_str() == step).map(Self::Starting),
            ("running", _) => Some(Self::Running),
            ("stopping", _) => Some(Self::Stopping(reason())),
            ("stopped", _) => Some(Self::Stopped(reason())),
            ("error", _) => Some(Self::Failed(reason())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_is_read_back() {
        let mut stages = vec![
            Stage::Queued,
            Stage::Nominated,
            Stage::Running,
            Stage::Stopping(Reason::Preempted),
            Stage::Stopped(Reason::User),
            Stage::Failed(Reason::Error("PULL_TIMEOUT".into())),
        ];
        stages.extend(STEPS.map(Stage::Starting));
        for stage in stages {
            let reason = stage.reason().map_or("", Reason::as_str);
            assert_eq!(Stage::read(stage.state(), stage.step(), reason).as_ref(), Some(&stage));
        }
        assert_eq!(Stage::read("starting", "flying", ""), None);
    }
}
