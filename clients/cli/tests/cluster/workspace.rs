//! A workspace of one test: its project folder, a folder in which the test and its blocks meet, and its runs.

use crate::{
    answer::{Answer, Run},
    cluster::Cluster,
    project::{Project, Step},
    wait::{self, Following, Started},
};
use serde_json::Value;
use std::{
    fs,
    ops::Deref,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

/// For what needs a process to start, or a run to end.
pub(crate) const SOON: Duration = Duration::from_secs(40);
/// How much later than its run's end a line may be readable.
const LOG_DELAY_MAX: Duration = Duration::from_secs(3);
/// Between two looks at a run.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// Derefs to its project.
pub(crate) struct Workspace {
    cluster: &'static Cluster,
    name: String,
    dir: tempfile::TempDir,
    project: Project,
}

impl Deref for Workspace {
    type Target = Project;

    fn deref(&self) -> &Project {
        &self.project
    }
}

impl Workspace {
    /// A new one; `name` is unique in the cluster.
    #[track_caller]
    pub(crate) fn new(cluster: &'static Cluster, name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("meet")).unwrap();
        let project = Project::new(dir.path().join(name));
        let workspace = Self { cluster, name: name.to_owned(), dir, project };
        workspace.orrery(&["workspaces", "--create", name]).with_code(0);
        workspace
    }

    /// A new one with one pipeline `p`, deployed.
    #[track_caller]
    pub(crate) fn with_pipeline(cluster: &'static Cluster, name: &str, top: &str, steps: &[Step]) -> Self {
        let workspace = Self::new(cluster, name);
        workspace.pipeline("p", top, steps);
        workspace.deploy().with_code(0);
        workspace
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.cluster.orrery();
        command.args(["--workspace", &self.name, "--json"]).args(arguments);
        command
    }

    /// Runs `orrery`.
    #[track_caller]
    pub(crate) fn orrery(&self, arguments: &[&str]) -> Answer {
        wait::output(&mut self.command(arguments)).into()
    }

    /// Runs `orrery` for what people read.
    #[track_caller]
    pub(crate) fn plain(&self, arguments: &[&str]) -> Answer {
        let mut command = self.cluster.orrery();
        wait::output(command.args(["--workspace", &self.name]).args(arguments)).into()
    }

    /// Starts `orrery`.
    #[track_caller]
    pub(crate) fn begin(&self, arguments: &[&str]) -> Started {
        Started::new(&mut self.command(arguments))
    }

    /// Starts `orrery` for its lines, one by one.
    #[track_caller]
    pub(crate) fn follow(&self, arguments: &[&str]) -> Following {
        Following::new(&mut self.command(arguments))
    }

    #[track_caller]
    pub(crate) fn deploy(&self) -> Answer {
        self.orrery(&["deploy", self.project.path().to_str().unwrap()])
    }

    /// Where blocks find the folder `meet`: in their variable `meet`.
    pub(crate) fn meet(&self) -> PathBuf {
        self.dir.path().join("meet")
    }

    /// Starts a run and answers its id.
    #[track_caller]
    pub(crate) fn start(&self, pipeline: &str, more: &[&str]) -> String {
        let meet = format!("meet={}", self.meet().display());
        let mut arguments = vec!["run", pipeline, "--var", &meet];
        arguments.extend(more);
        self.orrery(&arguments).with_code(0).json()["id"].as_str().unwrap().to_owned()
    }

    /// Starts a run and waits for its end.
    #[track_caller]
    pub(crate) fn run(&self, pipeline: &str) -> Run {
        self.end_of(&self.start(pipeline, &[]))
    }

    /// Waits for the end of a run.
    #[track_caller]
    pub(crate) fn end_of(&self, id: &str) -> Run {
        self.run_when(&format!("the end of run {id}"), id, |run| run.run["completedAt"].is_string())
    }

    /// The run, once it is as wanted.
    #[track_caller]
    pub(crate) fn run_when(&self, what: &str, id: &str, wanted: impl Fn(&Run) -> bool) -> Run {
        let begun = Instant::now();
        loop {
            let run = self.look(id);
            if wanted(&run) {
                return run;
            }
            assert!(begun.elapsed() < SOON * 2, "waited in vain for {what}: {run:#?}\n{}", self.logs(id, &[]));
            thread::sleep(LOOK_PAUSE);
        }
    }

    /// The run as it is now.
    #[track_caller]
    pub(crate) fn look(&self, id: &str) -> Run {
        // A restarting web-server answers 69; the next look will do.
        let runs = self.orrery(&["runs", "--limit", "100"]);
        let run = if runs.code == 0 { entry(&runs.json()["runs"], id) } else { Value::Null };
        let blocks = self.orrery(&["blocks", id, "--children"]);
        let blocks = if blocks.code == 0 { blocks.json()["blockRuns"].take() } else { Value::Null };
        Run { run, blocks: blocks.as_array().cloned().unwrap_or_default() }
    }

    /// The log of a run, as text.
    pub(crate) fn logs(&self, id: &str, more: &[&str]) -> String {
        let mut command = self.cluster.orrery();
        command.args(["--workspace", &self.name, "logs", id]).args(more);
        String::from_utf8_lossy(&wait::output(&mut command).stdout).into_owned()
    }

    /// The log of a run, once it holds this; lines may arrive a little later than the end of their run.
    #[track_caller]
    pub(crate) fn logged(&self, run: &Run, text: &str) -> String {
        let begun = Instant::now();
        loop {
            let logs = self.logs(run.id(), &[]);
            if logs.contains(text) {
                return logs;
            }
            assert!(begun.elapsed() < LOG_DELAY_MAX, "`{text}` is not in the log:\n{logs}\n{run:#?}");
            thread::sleep(LOOK_PAUSE);
        }
    }

    /// What a block wrote into the file `name` of the folder `meet`, once it is there and not empty.
    #[track_caller]
    pub(crate) fn told(&self, name: &str) -> String {
        let path = self.meet().join(name);
        wait::until(&format!("{name} of {}", self.name), SOON, || {
            fs::read_to_string(&path).ok().filter(|text| text.ends_with('\n')).map(|text| text.trim().to_owned())
        })
    }

    /// Tells blocks something by a file in the folder `meet`.
    pub(crate) fn tell(&self, name: &str) {
        fs::write(self.meet().join(name), "").unwrap();
    }

    pub(crate) fn has_been_told(&self, name: &str) -> bool {
        Path::exists(&self.meet().join(name))
    }
}

fn entry(runs: &Value, id: &str) -> Value {
    runs.as_array().into_iter().flatten().find(|run| run["id"] == id).cloned().unwrap_or_default()
}
