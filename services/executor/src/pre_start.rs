//! The script of a spec that may change how its runtime is started: `get_custom_configs(container_config)`, run once in a
//! process apart, before the start.
//!
//! That process has an empty environment, an empty folder, no IP network, and limits of time, memory and output. It runs as
//! this executor's user: what that user may read, write and reach by UNIX sockets is in its reach. Refuses to know what a
//! backend makes of the answer.

mod changes;

use crate::plain;
use backend_process::{
    launch::{Launch, Limits, NOT_ISOLATED},
    sessions::{self, SESSION_MARK},
};
use domain::runtime::Spec;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

/// The longest that a script may take.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Processor time, seconds.
const CPU_SECONDS: u64 = 10;
/// Memory, bytes.
const MEMORY_BYTES: u64 = 512 << 20;
/// The longest answer, and the longest file of any kind.
const ANSWER_BYTES_MAX: u64 = 256 << 10;
/// Text that is quoted of what it printed.
const QUOTED_BYTES: usize = 1_000;

/// What it answers with, and what it prints to; both are names that the script may take for something else.
const ANSWER: &str = "answer.json";
const LOG: &str = "log";

/// Reads the script and the configuration from its folder, and writes the answer there.
const PROGRAM: &str = "\
import json, sys
scope = {'__name__': 'pre_start'}
with open('script.py') as f:
    exec(compile(f.read(), 'pre_start.py', 'exec'), scope)
if not callable(scope.get('get_custom_configs')):
    sys.exit('it has to define get_custom_configs(container_config)')
with open('config.json') as f:
    config = json.load(f)
answer = scope['get_custom_configs'](config)
if not isinstance(answer, dict):
    sys.exit('get_custom_configs has to return a dict')
with open('answer.json', 'w') as f:
    json.dump(answer, f)
";

/// What the scripts are run with.
#[derive(Debug, Clone)]
pub struct Sandbox {
    /// The binary that launches.
    pub launcher: PathBuf,
    /// The interpreter.
    pub python: PathBuf,
    /// Marks the processes of this executor.
    pub executor: String,
    /// Scripts are cut off from the network; where that is impossible they are not run.
    pub isolated: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum PreStartError {
    /// Nothing could be run.
    #[error("the pre-start script could not be run")]
    Io(#[from] io::Error),
    /// It failed, or did what it must not.
    #[error("the pre-start script failed: {0}")]
    Failed(String),
    /// This machine does not let a process be cut off from its network.
    #[error(
        "a pre-start script must not reach the network, and this machine does not let it be cut off ({0}); run the \
         executor as root or allow unprivileged user namespaces, or set its `pre_start_network` to `host`"
    )]
    NotIsolated(String),
}

/// Why a runtime does not start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// One of the codes of docs/RUNTIMES.md.
    pub code: &'static str,
    /// In words.
    pub message: String,
}

impl Sandbox {
    /// The variables that a spec's script sets; none without a script. `name` and `folder` are as for [`Sandbox::run`].
    ///
    /// # Errors
    /// When the script fails, cannot be run, or asks for what it may not change.
    pub async fn environment(
        &self,
        workspace: &str,
        spec: &Spec,
        name: &str,
        folder: &Path,
    ) -> Result<BTreeMap<String, String>, Refused> {
        if spec.pre_start.is_empty() {
            return Ok(BTreeMap::new());
        }
        let variables: Vec<Value> =
            spec.env.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
        let config = json!({ "name": workspace, "image": spec.image, "env": variables });
        let answer = self.run(&spec.pre_start, &config, name, folder).await.map_err(|error| match &error {
            PreStartError::NotIsolated(_) => Refused { code: "PRE_START_UNAVAILABLE", message: error.to_string() },
            PreStartError::Io(_) | PreStartError::Failed(_) => {
                Refused { code: "PRE_START_FAILED", message: runtime::exit::chain(&error) }
            }
        })?;
        changes::environment(&config, &answer).map_err(|message| Refused { code: "PRE_START_REFUSED", message })
    }

    /// What the script makes of `config`. `name` is that of the runtime, for the mark; `folder` is emptied before and
    /// removed after. Dropped half way, the processes are left to the next sweep of that name.
    ///
    /// # Errors
    /// When it fails, takes too long or too much, or answers no object.
    pub async fn run(&self, script: &str, config: &Value, name: &str, folder: &Path) -> Result<Value, PreStartError> {
        match tokio::fs::remove_dir_all(folder).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        tokio::fs::create_dir_all(folder).await?;
        tokio::fs::write(folder.join("script.py"), script).await?;
        tokio::fs::write(folder.join("config.json"), config.to_string()).await?;
        let answer = self.answer(name, folder).await;
        tokio::fs::remove_dir_all(folder).await?;
        answer
    }

    async fn answer(&self, name: &str, folder: &Path) -> Result<Value, PreStartError> {
        let session = format!("{name}.pre-start");
        let mark = sessions::mark(&self.executor, &session);
        let launch = Launch {
            launcher: self.launcher.clone(),
            command: [self.python.as_os_str(), "-I".as_ref(), "-c".as_ref(), PROGRAM.as_ref()].map(Into::into).into(),
            env: std::env::var("PATH")
                .map(|path| ("PATH".to_owned(), path))
                .into_iter()
                .chain([(SESSION_MARK.to_owned(), mark)])
                .collect(),
            cwd: folder.to_owned(),
            limits: Limits {
                data_bytes: Some(MEMORY_BYTES),
                cpu_seconds: Some(CPU_SECONDS),
                file_bytes: Some(ANSWER_BYTES_MAX),
                isolated: self.isolated,
                cgroup: None,
            },
        };
        let mut child = tokio::process::Command::from(launch.command(&File::create(folder.join(LOG))?)?)
            .kill_on_drop(true)
            .spawn()?;
        let ended = tokio::time::timeout(TIMEOUT, child.wait()).await;
        // Also what it started and left.
        let executor = self.executor.clone();
        let kill =
            move || sessions::signal(sessions::all(&executor).get(&session).map_or(&[], Vec::as_slice), Signal::KILL);
        let _ = tokio::task::spawn_blocking(kill).await;
        let status = match ended {
            Err(_) => return Err(PreStartError::Failed(format!("it took longer than {} s", TIMEOUT.as_secs()))),
            Ok(status) => status?,
        };
        let (folder, isolated) = (folder.to_owned(), self.isolated);
        let left = move || answered(&folder, status, isolated);
        tokio::task::spawn_blocking(left).await.map_err(io::Error::other)?
    }
}

/// What it left when it had ended.
fn answered(folder: &Path, status: ExitStatus, isolated: bool) -> Result<Value, PreStartError> {
    if status.success() {
        return read(&folder.join(ANSWER));
    }
    let said = tail(&folder.join(LOG), QUOTED_BYTES);
    if isolated && status.code() == Some(NOT_ISOLATED.into()) {
        return Err(PreStartError::NotIsolated(said));
    }
    Err(PreStartError::Failed(quoted(&ended(status), &said)))
}

/// How it failed. The kernel ends who has used up its processor time, in one of two ways, and tells nobody why.
fn ended(status: ExitStatus) -> String {
    let signal = status.signal();
    if [Signal::XCPU, Signal::KILL].into_iter().any(|limit| signal == Some(limit.as_raw())) {
        return format!("it was killed, as one is that uses more than {CPU_SECONDS} s of processor time");
    }
    how(status)
}

/// How a script ended that failed.
pub(crate) fn how(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("it was ended by signal {signal}"),
        (None, Some(code)) => format!("it ended with code {code}"),
        (None, None) => status.to_string(),
    }
}

/// How it ended, and the last line that it printed before the rest: that tells most.
pub(crate) fn quoted(how: &str, said: &str) -> String {
    let lines: Vec<&str> = said.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    match lines.as_slice() {
        [] => how.to_owned(),
        [only] => format!("{how}; its last line: {only}"),
        [.., last] => format!("{how}; its last line: {last}\nthe end of its output:\n{}", lines.join("\n")),
    }
}

fn read(path: &Path) -> Result<Value, PreStartError> {
    let mut text = String::new();
    let read = plain::open(path).and_then(|file| file.take(ANSWER_BYTES_MAX + 1).read_to_string(&mut text));
    read.map_err(|error| PreStartError::Failed(format!("its answer cannot be read: {error}")))?;
    if text.len() as u64 > ANSWER_BYTES_MAX {
        return Err(PreStartError::Failed(format!("its answer is longer than {ANSWER_BYTES_MAX} bytes")));
    }
    serde_json::from_str(&text).map_err(|error| PreStartError::Failed(format!("its answer is no JSON: {error}")))
}

/// The end of a file that user code may have made something else of, as text.
pub(crate) fn tail(path: &Path, bytes: usize) -> String {
    use std::io::{Seek as _, SeekFrom};
    let mut text = Vec::new();
    let read = plain::open(path).and_then(|mut file| {
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(bytes as u64)))?;
        file.take(bytes as u64).read_to_end(&mut text)
    });
    match read {
        Ok(_) => String::from_utf8_lossy(&text).trim().to_owned(),
        Err(error) => format!("its output cannot be read: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_of_a_script_that_failed_is_told_first() {
        let how = "it ended with code 1";
        assert_eq!(quoted(how, " \n"), how);
        assert_eq!(quoted(how, "no idea\n"), "it ended with code 1; its last line: no idea");
        let told = quoted(how, "Traceback:\n\n  line 1\nValueError: no idea\n");
        let (first, rest) = told.split_once('\n').unwrap();
        assert_eq!(first, "it ended with code 1; its last line: ValueError: no idea");
        assert_eq!(rest, "the end of its output:\nTraceback:\n  line 1\nValueError: no idea");
    }
}
