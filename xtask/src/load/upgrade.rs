//! `cargo xtask load upgrade --from REF`: a cluster that begins as an earlier commit's programs and is replaced by this one's,
//! process by process and under load: row 19 of the fault matrix.
//!
//! The earlier commit is built in a work tree of its own, which goes when that is done, and its programs are kept below the
//! target folder. Refuses to know what the row does with them.

use super::{become_scenario, build, scenario};
use crate::workspace;
use anyhow::{Context, Result, ensure};
use clap::Parser;
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

/// As it is called.
pub(super) const NAME: &str = "upgrade";
/// The row that replaces every process.
const ROW: [&str; 3] = ["faults", "--row", "19"];
/// Names the folder of the earlier programs to that row.
const PREVIOUS: &str = "ORRERY_PREVIOUS_PROGRAMS";
/// What is replaced: of each its crate and its program.
const SERVICES: [(&str, &str); 3] =
    [("web-server", "orrery-web-server"), ("scheduler", "orrery-scheduler"), ("executor", "orrery-executor")];

/// Replaces an earlier build by this one, process by process under load, and judges what became of the work
#[derive(Debug, Parser)]
#[command(name = "cargo xtask load upgrade")]
struct Options {
    /// The commit, tag or branch that the cluster begins as; its migrations must not be more than this one's
    #[arg(long, value_name = "REF", required_unless_present = "from_binaries")]
    from: Option<String>,
    /// A folder that holds the earlier programs, instead of building them
    #[arg(long, value_name = "FOLDER", conflicts_with = "from")]
    from_binaries: Option<PathBuf>,
    /// What `cargo xtask load faults` takes: --full, --seed S, --seconds S, --triggers N, --record FILE
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Builds both, and becomes the row.
pub(super) fn run(arguments: &[String]) -> Result<ExitCode> {
    let options = Options::parse_from(arguments);
    let programs = match (&options.from, &options.from_binaries) {
        (Some(from), _) => built(workspace::root(), from, &workspace::metadata()?.target_directory.join(NAME))?,
        (None, given) => given.clone().context("--from or --from-binaries")?,
    };
    let programs = whole(&programs)?;
    build(true)?;
    become_scenario(scenario()?.args(ROW).args(&options.rest).env(PREVIOUS, programs))
}

/// The folder, when every program is in it.
fn whole(folder: &Path) -> Result<PathBuf> {
    let folder = folder.canonicalize().with_context(|| format!("there is no folder {}", folder.display()))?;
    let missing: Vec<&str> =
        SERVICES.iter().map(|(_, program)| *program).filter(|program| !folder.join(program).is_file()).collect();
    ensure!(missing.is_empty(), "{} lacks {}", folder.display(), missing.join(", "));
    Ok(folder)
}

/// The folder of a commit's programs, below `kept`; what was built once is not built again.
fn built(repository: &Path, from: &str, kept: &Path) -> Result<PathBuf> {
    let commit = commit(repository, from)?;
    let programs = kept.join(&commit);
    if whole(&programs).is_ok() {
        return Ok(programs);
    }
    let tree = Tree::new(repository, &commit, &kept.join("tree"))?;
    // One for all commits: they have most dependencies in common.
    let target = kept.join("target");
    let mut build = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.current_dir(&tree.folder).env("CARGO_TARGET_DIR", &target).args(["build", "--release", "--locked"]);
    build.args(SERVICES.iter().flat_map(|(package, _)| ["--package", package]));
    ensure!(build.status().context("cannot run cargo")?.success(), "the build of {commit} failed");
    fs::create_dir_all(&programs).with_context(|| format!("create {}", programs.display()))?;
    for (_, program) in SERVICES {
        let built = target.join("release").join(program);
        fs::copy(&built, programs.join(program)).with_context(|| format!("copy {}", built.display()))?;
    }
    Ok(programs)
}

/// The whole name of what a person calls a commit.
fn commit(repository: &Path, from: &str) -> Result<String> {
    let name = format!("{from}^{{commit}}");
    let output = git(repository).args(["rev-parse", "--verify", "--quiet", "--end-of-options", &name]).output();
    let output = output.context("cannot run git")?;
    ensure!(output.status.success(), "there is no commit {from:?} here");
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn git(repository: &Path) -> Command {
    let mut git = Command::new("git");
    git.current_dir(repository).stdin(Stdio::null());
    git
}

/// A work tree of one commit, removed when dropped.
struct Tree<'a> {
    repository: &'a Path,
    folder: PathBuf,
}

impl<'a> Tree<'a> {
    fn new(repository: &'a Path, commit: &str, folder: &Path) -> Result<Self> {
        let tree = Self { repository, folder: folder.to_owned() };
        // One that was cut off left its own.
        tree.remove();
        fs::create_dir_all(folder.parent().unwrap_or(folder))?;
        let mut add = git(repository);
        add.args(["worktree", "add", "--quiet", "--force", "--detach"]).arg(folder).arg(commit);
        ensure!(add.status().context("cannot run git")?.success(), "git makes no work tree of {commit}");
        Ok(tree)
    }

    /// As far as it is there.
    fn remove(&self) {
        let mut remove = git(self.repository);
        remove.args(["worktree", "remove", "--force", "--force"]).arg(&self.folder);
        let _ = remove.stdout(Stdio::null()).stderr(Stdio::null()).status();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Drop for Tree<'_> {
    fn drop(&mut self) {
        self.remove();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(command: &mut Command) {
        let output = command.output().expect("git runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// A repository with two commits of one file, the first of them tagged `v1`.
    fn repository() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        let commit = |text: &str| {
            fs::write(folder.path().join("version"), text).expect("a file");
            done(git(folder.path()).args(["add", "version"]));
            let who = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"];
            done(git(folder.path()).args(who).args(["commit", "--quiet", "--no-verify", "-m", text]));
        };
        done(git(folder.path()).args(["init", "--quiet"]));
        commit("before");
        done(git(folder.path()).args(["tag", "v1"]));
        commit("after");
        folder
    }

    #[test]
    fn a_commit_is_laid_out_beside_the_work_tree_and_goes_again() {
        let (repository, kept) = (repository(), tempfile::tempdir().expect("a folder"));
        let folder = kept.path().join("upgrade/tree");
        let before = commit(repository.path(), "v1").expect("a tag");
        assert_eq!(before.len(), 40);
        for _ in 0..2 {
            let tree = Tree::new(repository.path(), &before, &folder).expect("a work tree");
            assert_eq!(fs::read_to_string(folder.join("version")).expect("its file"), "before");
            assert_eq!(fs::read_to_string(repository.path().join("version")).expect("ours"), "after");
            // A process that is killed removes nothing, and the next one begins all the same.
            std::mem::forget(tree);
        }
        drop(Tree::new(repository.path(), &before, &folder).expect("a work tree"));
        assert!(!folder.exists());
        for unknown in ["v2", "--help", ""] {
            assert!(commit(repository.path(), unknown).is_err(), "{unknown:?}");
        }
    }

    #[test]
    fn what_was_built_once_is_not_built_again_and_what_is_missing_is_named() {
        let (repository, kept) = (repository(), tempfile::tempdir().expect("a folder"));
        let programs = kept.path().join(commit(repository.path(), "v1").expect("a tag"));
        fs::create_dir_all(&programs).expect("a folder");
        for (_, program) in SERVICES {
            assert!(format!("{:#}", whole(&programs).expect_err("it lacks some")).contains(program));
            fs::write(programs.join(program), "").expect("a file");
        }
        assert_eq!(built(repository.path(), "v1", kept.path()).expect("they are there"), programs);
        assert!(!kept.path().join("target").exists());
        assert!(whole(&kept.path().join("nothing")).is_err());
    }

    #[test]
    fn one_of_both_is_said_and_the_rest_goes_on() {
        let parsed = |arguments: &[&str]| Options::try_parse_from([&[NAME], arguments].concat());
        let options = parsed(&["--from", "v1", "--full", "--seed", "6"]).expect("they make sense");
        assert_eq!((options.from.as_deref(), options.rest.join(" ").as_str()), (Some("v1"), "--full --seed 6"));
        let options = parsed(&["--from-binaries", "old"]).expect("they make sense");
        assert_eq!((options.from_binaries, options.rest.len()), (Some(PathBuf::from("old")), 0));
        assert!(parsed(&[]).is_err() && parsed(&["--from", "v1", "--from-binaries", "old"]).is_err());
    }
}
