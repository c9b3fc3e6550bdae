//! What an executor asks of a place where attempts run apart from it, each in a container of its own: a cluster, a cloud.
//!
//! What is launched there is the executor's own program as `orrery-executor run-attempt`. It opens a session to the
//! executor that launched it, and all words of the attempt (its assignment, lines, calls, result, a stop) travel over
//! that session. So a backend carries no words: it starts containers, looks at them and removes them. It refuses to know
//! what an attempt means and which of them counts.

use std::{collections::BTreeMap, fmt, time::Duration};

/// Bytes of a [`Name`]: it is a DNS label.
pub const NAME_BYTES_MAX: usize = 63;
/// The arguments of the program that is launched.
pub const ARGUMENTS: [&str; 1] = ["run-attempt"];
/// The variable of its environment that names the file with [`Launch::token`].
pub const TOKEN_FILE_VARIABLE: &str = "ORRERY_EXECUTOR_CLUSTER_TOKEN_FILE";
/// The variable that names a file into which it writes at its end, as one JSON object, how the attempt ended. It has at
/// most 4,096 bytes, so that it fits where a cluster shows why a container ended.
pub const OUTCOME_FILE_VARIABLE: &str = "ORRERY_EXECUTOR_OUTCOME_FILE";
/// The variable that names the folder in which it keeps everything while it runs.
pub const DATA_DIR_VARIABLE: &str = "ORRERY_EXECUTOR_DATA_DIR";
/// The variable that names, between commas, those variables of its environment that user code may see.
pub const PASS_ENV_VARIABLE: &str = "ORRERY_EXECUTOR_PASS_ENV";

/// A place where attempts run. Dropping a future of it leaves what it did; doing it again is safe.
pub trait Backend: Send + Sync + 'static {
    /// As people read it in the list of executors, such as `kubernetes`.
    fn name(&self) -> &'static str;

    /// The devices that a launch asks for and that this place has; they are given by the owner of a pool, and come back in
    /// [`Launch::place`]. None where there are no devices.
    ///
    /// # Errors
    /// None could ever be had in the way in which they are asked for.
    fn devices(&self, launch: &Launch) -> Result<Option<Devices>, NoDevices> {
        let _ = launch;
        Ok(None)
    }

    /// Starts a container. One of this name that is there already is adopted: a name is never used for two attempts, so it
    /// was started by a launch whose answer was lost. Answers what of [`Launch::config`] does not hold here, and why: one
    /// sentence each, for whoever wrote it.
    ///
    /// # Errors
    /// [`Error::Away`] when it is not known whether it was started; [`Error::Refused`] when it will never be.
    fn launch(&self, launch: &Launch) -> impl Future<Output = Result<Vec<String>, Error>> + Send;

    /// How a container does. It is asked about once a second for each, so the answer should come from a watch or a list
    /// that is shared.
    ///
    /// # Errors
    /// [`Error::Away`] when the place does not answer.
    fn observe(&self, name: &Name) -> impl Future<Output = Result<Phase, Error>> + Send;

    /// Ends a container and removes what the launch left, its token included. One that has ended is removed at once, one
    /// that runs gets SIGTERM, and SIGKILL after the grace. One that is absent is no error. Returns before it is gone.
    ///
    /// # Errors
    /// [`Error::Away`] when the place does not answer.
    fn cancel(&self, name: &Name, grace: Duration) -> impl Future<Output = Result<(), Error>> + Send;

    /// Cancels every container of this executor (the one with the mark that the backend was made with) that does not
    /// live: what an earlier life launched, or a cancellation that failed. First it looks what there is and then asks who
    /// lives, since others are launched meanwhile. Answers how many.
    ///
    /// # Errors
    /// [`Error::Away`] when the place does not answer.
    fn reap(&self, lives: &(dyn Fn(&Name) -> bool + Sync)) -> impl Future<Output = Result<usize, Error>> + Send;
}

/// What is to be started.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Its name there.
    pub name: Name,
    /// For people who look there: `run`, `block`, `child`, `lease`, `pipeline`, `workspace`. Values are not cut.
    pub labels: BTreeMap<&'static str, String>,
    /// The environment of the program. Nothing in it is secret.
    pub env: BTreeMap<String, String>,
    /// By what the attempt proves itself to the executor, until it has ended. To be mounted as a file that
    /// [`TOKEN_FILE_VARIABLE`] names; never an argument, nor a variable.
    pub token: Token,
    /// What the block asks of its container, as the project wrote it: its `executor_config` as a JSON object.
    pub config: String,
    /// Where it runs, and with which devices, when it asks for some.
    pub place: Option<Place>,
    /// After so long the place should end it without being told, lest it outlives an executor that never comes back.
    pub lifetime_max: Duration,
}

/// Devices that a container asks for, all on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Devices {
    /// As the place names whoever has them.
    pub claim: String,
    /// Their class.
    pub class: String,
    /// How many.
    pub count: u32,
    /// Of the compute of each; 1000 is all.
    pub milli: u32,
    /// Of the memory of each, bytes; `None` is the same share as of the compute.
    pub memory_bytes: Option<u64>,
    /// Of the node's processor, thousandths of a core.
    pub cpu_milli: u64,
    /// Of the node's memory, bytes.
    pub node_memory_bytes: u64,
}

/// A node, and devices of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The node's name.
    pub node: String,
    /// One for each device.
    pub devices: Vec<Device>,
}

/// What a container has of one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// As the place names it.
    pub name: String,
    /// Its class; empty where whoever gave it does not say.
    pub class: String,
    /// The hardware's own id.
    pub hardware_id: String,
    /// Of its compute; 1000 is all.
    pub milli: u32,
    /// Of its memory, bytes.
    pub memory_bytes: u64,
    /// The piece of a device that is divided in hardware; empty for any other.
    pub profile: String,
    /// What its driver calls all of its compute, and the least step of that; `None` where it has no such amounts.
    pub cores: Option<(u64, u64)>,
}

/// The name of a container: a DNS label that derives from the attempt.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    /// Of at most [`NAME_BYTES_MAX`] lower-case letters, digits and hyphens, a letter first; `None` for anything else.
    #[must_use]
    pub fn new(name: String) -> Option<Self> {
        let fits = name.len() <= NAME_BYTES_MAX
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && !name.ends_with('-')
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        fits.then_some(Self(name))
    }

    /// `<word>-<digest>`; what is no name of that is left out, and what is too long is cut.
    #[must_use]
    pub fn of(word: &str, digest: &[u8]) -> Self {
        let hex = digest
            .iter()
            .flat_map(|byte| [byte >> 4, byte & 15])
            .filter_map(|digit| char::from_digit(digit.into(), 16));
        Self(word.chars().filter(char::is_ascii_lowercase).chain(['-']).chain(hex).take(NAME_BYTES_MAX).collect())
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A secret that `Debug` hides.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// A token.
    #[must_use]
    pub fn new(secret: String) -> Self {
        Self(secret)
    }

    /// The secret itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(hidden)")
    }
}

/// How a container does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// It is not running yet.
    Waiting {
        /// Why, for people: an image is pulled, no node has room.
        reason: String,
    },
    /// Its program runs, as far as the place knows.
    Running,
    /// It has ended: nothing of it runs any more.
    Ended(Ended),
    /// There is none of this name: nothing of it runs.
    Absent,
}

/// Why a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// By itself.
    Exited {
        /// With this code.
        code: i32,
        /// The last that was read of its output; may be empty.
        output: String,
    },
    /// It used more memory than it may.
    OutOfMemory,
    /// By the place.
    Evicted {
        /// Why, for people: a node was drained, a spot instance was taken back.
        reason: String,
    },
    /// Its machine does not answer any more and was given up by the place. What may still run there hears nothing from us
    /// either, and ends.
    Lost {
        /// Which, for people.
        reason: String,
    },
    /// It never began and never will: there is no such image, a setting makes no sense.
    Unstartable {
        /// Why, for people.
        reason: String,
    },
}

/// Why devices that a launch asks for can never be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct NoDevices {
    /// For programs.
    pub code: &'static str,
    /// In words, and what to change.
    pub why: String,
}

/// Why a backend did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// It is not there now; asking again may help.
    #[error("{0}")]
    Away(String),
    /// It will never do this; the text says why and what to change.
    #[error("{0}")]
    Refused(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels() {
        let fits = |name: &str| Name::new(name.to_owned()).is_some();
        assert!(fits("a") && fits("attempt-0-9") && fits(&"a".repeat(NAME_BYTES_MAX)));
        for wrong in ["", "A", "9a", "-a", "a-", "a_b", "a.b", &"a".repeat(NAME_BYTES_MAX + 1)] {
            assert!(!fits(wrong), "{wrong}");
        }
    }
}
