//! Why a runtime may not be as somebody wants it. Refuses to know how that is told on the wire.

use crate::ErrorKind;

/// The kinds of reasons; `docs/RUNTIMES.md` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Code {
    /// The workspace's name is too long, or no DNS label.
    NameInvalid,
    /// Not an image of the project's list.
    ImageNotAllowed,
    /// Not a reference of an image.
    ImageInvalid,
    /// The project, its group or the kind of device lets nobody be root.
    RootNotAllowed,
    /// No plan of the project opens the queue.
    QueueNotBound,
    /// The plan's window is closed.
    WindowClosed,
    /// More devices than a plan or a claim can have.
    GpuCountLimit,
    /// A model that the plan does not list.
    ModelNotAllowed,
    /// A share that is none.
    SmInvalid,
    /// These devices are not divided.
    SmUnsupported,
    /// Device memory that no device has.
    MemInvalid,
    /// Processor or memory beyond a limit, or a limit below what is asked for.
    ResourceLimit,
    /// More than the project may ever hold.
    QuotaTooSmall,
    /// More than the queue may ever hold.
    QueueTooSmall,
    /// A time-out that the policy forbids.
    TimeoutLimit,
    /// A lifetime that the policy or the plan forbids.
    LifetimeLimit,
    /// Not a name of a volume.
    PvcNameInvalid,
    /// A path at which nothing may be mounted.
    PvcPathInvalid,
    /// Two volumes at one path, or one below the other.
    PvcPathNested,
    /// Too many volumes.
    PvcTooMany,
    /// A variable that cannot be set.
    EnvInvalid,
    /// The application's port, command or path.
    AppInvalid,
    /// A script that is too long.
    ScriptTooLong,
    /// A priority that nobody may ask for.
    PriorityInvalid,
}

impl Code {
    /// In `SCREAMING_SNAKE_CASE`, as the API tells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NameInvalid => "NAME_INVALID",
            Self::ImageNotAllowed => "IMAGE_NOT_ALLOWED",
            Self::ImageInvalid => "IMAGE_INVALID",
            Self::RootNotAllowed => "ROOT_NOT_ALLOWED",
            Self::QueueNotBound => "QUEUE_NOT_BOUND",
            Self::WindowClosed => "WINDOW_CLOSED",
            Self::GpuCountLimit => "GPU_COUNT_LIMIT",
            Self::ModelNotAllowed => "MODEL_NOT_ALLOWED",
            Self::SmInvalid => "SM_INVALID",
            Self::SmUnsupported => "SM_UNSUPPORTED",
            Self::MemInvalid => "MEM_INVALID",
            Self::ResourceLimit => "RESOURCE_LIMIT",
            Self::QuotaTooSmall => "QUOTA_TOO_SMALL",
            Self::QueueTooSmall => "QUEUE_TOO_SMALL",
            Self::TimeoutLimit => "TIMEOUT_LIMIT",
            Self::LifetimeLimit => "LIFETIME_LIMIT",
            Self::PvcNameInvalid => "PVC_NAME_INVALID",
            Self::PvcPathInvalid => "PVC_PATH_INVALID",
            Self::PvcPathNested => "PVC_PATH_NESTED",
            Self::PvcTooMany => "PVC_TOO_MANY",
            Self::EnvInvalid => "ENV_INVALID",
            Self::AppInvalid => "APP_INVALID",
            Self::ScriptTooLong => "SCRIPT_TOO_LONG",
            Self::PriorityInvalid => "PRIORITY_INVALID",
        }
    }
}

/// A refusal, with what would help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}; {remedy}")]
pub struct Denial {
    /// The kind of reason.
    pub code: Code,
    /// The field of the spec to blame, as the API names it.
    pub field: &'static str,
    /// For the person who asked.
    pub sentence: String,
    /// What would help.
    pub remedy: String,
}

impl Denial {
    pub(crate) fn new(code: Code, field: &'static str, sentence: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { code, field, sentence: sentence.into(), remedy: remedy.into() }
    }

    /// What is wrong in itself is the caller's to mend; the rest depends on what others set.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self.code {
            Code::ImageNotAllowed
            | Code::RootNotAllowed
            | Code::QueueNotBound
            | Code::WindowClosed
            | Code::ModelNotAllowed
            | Code::SmUnsupported
            | Code::QuotaTooSmall
            | Code::QueueTooSmall => ErrorKind::FailedPrecondition,
            _ => ErrorKind::InvalidArgument,
        }
    }
}
