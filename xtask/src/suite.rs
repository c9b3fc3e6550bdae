//! The tests in Rust: built with everything that they start in one call of cargo, and run several programs at a time, since they
//! wait for each other's processes more than they compute.

use crate::{
    step::{self, Count},
    test::Extent,
    workspace,
};
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::{
    cmp::Reverse,
    fs,
    io::BufReader,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
};

/// What the names of those tests hold that take minutes: the rows of the fault matrix, the activities of real applications,
/// clusters whose guards are taken away, and those whose replicas are killed.
const LONG: [&str; 3] = ["matrix_", "mutants::", "replicas_"];

/// The commands of a person on whole clusters: it begins first.
const LONGEST: &str = "cluster";

/// Where clusters are broken.
const LOAD_TESTS: &str = "load-tests";

/// The programs that hold the tests.
pub(crate) struct Suite(Vec<Program>);

/// What cargo says of a program that it built.
#[derive(Debug, Deserialize)]
struct Program {
    executable: PathBuf,
    manifest_path: PathBuf,
    target: Target,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
}

/// A line of cargo's; most are of libraries.
#[derive(Debug, Deserialize)]
struct Message {
    #[serde(default)]
    profile: Profile,
    #[serde(flatten)]
    program: Option<Program>,
}

#[derive(Debug, Default, Deserialize)]
struct Profile {
    test: bool,
}

impl Suite {
    /// Builds the tests and the services that they start, which lie beside them; counts as one check.
    ///
    /// # Errors
    /// Cargo cannot be run, or speaks otherwise than it is known to. What does not compile is a failed check and no error.
    pub(crate) fn build() -> Result<(Self, Count)> {
        let begun = step::announce("build");
        let mut cargo = workspace::cargo();
        cargo.args(["build", "--workspace", "--bins", "--tests", "--quiet"]);
        cargo.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped());
        let mut child = cargo.spawn().context("cannot run cargo")?;
        let said = child.stdout.take().context("cargo has no output")?;
        let mut programs = Vec::new();
        for message in serde_json::Deserializer::from_reader(BufReader::new(said)).into_iter::<Message>() {
            let message = message.context("cannot read what cargo built")?;
            programs.extend(message.program.filter(|_| message.profile.test));
        }
        let ok = child.wait()?.success();
        ensure!(!ok || !programs.is_empty(), "cargo built no test");
        // Who links most does most: the long ones begin first, and the short ones fill the end.
        let size = |program: &Program| fs::metadata(&program.executable).map_or(0, |file| file.len());
        programs.sort_by_key(|program| (program.target.name != LONGEST, Reverse(size(program))));
        Ok((Self(programs), step::closed("build", Count::of_check(ok), begun)))
    }

    /// Runs them with these variables set, and `others` beside them.
    ///
    /// # Errors
    /// One of the programs cannot be run. What fails is counted.
    pub(crate) fn run(
        self,
        extent: Extent,
        variables: &[(&str, String)],
        others: Vec<(String, Command)>,
    ) -> Result<Count> {
        let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let prepared = |program: Program, tests: usize| {
            let mut command = program.command();
            command
                .env("RUST_TEST_THREADS", tests.to_string())
                .envs(variables.iter().map(|(name, value)| (name, value)));
            if extent == Extent::Tests {
                command.args(LONG.iter().flat_map(|name| ["--skip", name]));
            }
            (program.name(), command)
        };
        // All of what breaks clusters holds bars of seconds meanwhile: such a program has the machine. The others wait, for processes and
        // for turns, twice as long as they compute: each has twice as many tests at a time as there are cores.
        let has_bars = |program: &mut Program| extent == Extent::All && program.folder().ends_with(LOAD_TESTS);
        let mut together = self.0;
        let alone: Vec<Program> = together.extract_if(.., has_bars).collect();
        let together =
            others.into_iter().chain(together.into_iter().map(|program| prepared(program, 2 * cores))).collect();
        let mut count = step::side_by_side(cores, together)?;
        count += step::side_by_side(1, alone.into_iter().map(|program| prepared(program, cores)).collect())?;
        Ok(count)
    }
}

impl Program {
    fn folder(&self) -> PathBuf {
        self.manifest_path.parent().map(PathBuf::from).unwrap_or_default()
    }

    /// `services/web-server: service`.
    fn name(&self) -> String {
        let folder = self.folder();
        let package = folder.strip_prefix(workspace::root()).unwrap_or(&folder);
        format!("{}: {}", package.display(), self.target.name)
    }

    /// As cargo would start it.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.executable);
        command.arg("--quiet").current_dir(self.folder()).env("CARGO_MANIFEST_DIR", self.folder());
        command
    }
}
