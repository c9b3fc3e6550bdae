//! Why a life of a runtime ended, or is about to: words that people see and programs read.
//!
//! Refuses to know who may cause which.

use std::fmt;

/// Why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Somebody who may use it stopped it.
    User,
    /// An administrator stopped it.
    Admin,
    /// It is stopped to be started again.
    Restart,
    /// An error was put away.
    ErrorReset,
    /// Nobody used it, and nothing worked in it.
    Idle,
    /// Others came first.
    Preempted,
    /// The window of its plan has closed.
    PlanWindowExpired,
    /// It ran as long as it may.
    MaxLifetime,
    /// Nothing is heard of its node, or its node came back without it.
    NodeLost,
    /// A device of it failed.
    DeviceFailed,
    /// Its node ran short of something or is being emptied, or others took its place there behind our back.
    Evicted,
    /// Its project may hold less than before.
    QuotaReduced,
    /// The place that it was given cannot be had any more.
    Misplaced,
    /// The application ended by itself, without an error.
    Exited,
    /// Its executor was stopped, and ended what must not outlive it.
    ExecutorStopped,
    /// An error, by the backend's code or one of a step's time limit.
    Error(String),
}

/// Every reason that is no error.
const ALL: [Reason; 15] = [
    Reason::User,
    Reason::Admin,
    Reason::Restart,
    Reason::ErrorReset,
    Reason::Idle,
    Reason::Preempted,
    Reason::PlanWindowExpired,
    Reason::MaxLifetime,
    Reason::NodeLost,
    Reason::DeviceFailed,
    Reason::Evicted,
    Reason::QuotaReduced,
    Reason::Misplaced,
    Reason::Exited,
    Reason::ExecutorStopped,
];

impl Reason {
    /// In `SCREAMING_SNAKE_CASE`, as rows and the API have it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::User => "USER",
            Self::Admin => "ADMIN",
            Self::Restart => "RESTART",
            Self::ErrorReset => "ERROR_RESET",
            Self::Idle => "IDLE",
            Self::Preempted => "PREEMPTED",
            Self::PlanWindowExpired => "PLAN_WINDOW_EXPIRED",
            Self::MaxLifetime => "MAX_LIFETIME",
            Self::NodeLost => "NODE_LOST",
            Self::DeviceFailed => "DEVICE_FAILED",
            Self::Evicted => "EVICTED",
            Self::QuotaReduced => "QUOTA_REDUCED",
            Self::Misplaced => "PLACEMENT_CONFLICT",
            Self::Exited => "EXITED",
            Self::ExecutorStopped => "EXECUTOR_STOPPED",
            Self::Error(code) => code,
        }
    }

    /// Reads [`Reason::as_str`]: whatever is none of ours is the code of an error.
    #[must_use]
    pub fn read(text: &str) -> Self {
        ALL.into_iter().find(|reason| reason.as_str() == text).unwrap_or_else(|| Self::Error(text.to_owned()))
    }

    /// What a backend tells of an end, by its code: some codes are of what happened to the runtime, all others of errors.
    #[must_use]
    pub fn told(code: String) -> Self {
        match Self::read(&code) {
            known @ (Self::Exited | Self::NodeLost | Self::DeviceFailed | Self::Evicted | Self::ExecutorStopped) => {
                known
            }
            _ => Self::Error(code),
        }
    }

    /// Whoever was stopped for this did nothing wrong, and waits again where it asked to.
    #[must_use]
    pub fn is_disturbance(&self) -> bool {
        matches!(self, Self::Preempted | Self::NodeLost | Self::DeviceFailed | Self::Evicted | Self::QuotaReduced)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_read_back() {
        for reason in ALL.into_iter().chain([Reason::Error("IMAGE_PULL_FAILED".into())]) {
            assert_eq!(Reason::read(reason.as_str()), reason);
        }
    }
}
