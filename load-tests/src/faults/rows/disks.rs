//! Disks of one's own, small and then full.

use super::schedulers::LATE_MAX_S;
use crate::{
    cluster::Shape,
    faults::{
        Plan, Seen,
        stage::{Stage, WRITER},
    },
};
use anyhow::{Context, Result, ensure};
use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs::{self, File},
    io::Write,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use tempfile::TempDir;

/// Bytes of one write.
const PIECE: usize = 64 * 1024;

/// A file system of its own, in memory. It goes with the value, whoever still uses it.
pub(super) struct Tmpfs {
    folder: TempDir,
}

/// Fills a disk until it is removed.
pub(super) struct Ballast(PathBuf);

impl Drop for Ballast {
    fn drop(&mut self) {
        // The disk may be gone.
        let _ = fs::remove_file(&self.0);
    }
}

impl Tmpfs {
    /// Of so many MiB, for the owner of `for_whom`.
    ///
    /// # Errors
    /// When this is not root, or the kernel refuses.
    pub(super) fn new(mib: u32, for_whom: &Path) -> Result<Self> {
        let owner = fs::metadata(for_whom).with_context(|| format!("find the owner of {}", for_whom.display()))?;
        let folder = TempDir::with_prefix("orrery-disk-")?;
        let options = format!("size={mib}m,mode=0700,uid={},gid={}", owner.uid(), owner.gid());
        let mut mount = Command::new("mount");
        let status = mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder.path()).status()?;
        ensure!(status.success(), "a disk of one's own needs root: mount answered {status}");
        Ok(Self { folder })
    }

    /// What lies in `folder` lies on a disk of so many MiB from now on.
    ///
    /// # Errors
    /// As [`Tmpfs::new`], or when it cannot be moved.
    pub(super) fn under(folder: &Path, mib: u32) -> Result<Self> {
        let disk = Self::new(mib, folder)?;
        let copied = Command::new("cp").arg("-a").arg(folder.join(".")).arg(disk.path()).status()?;
        ensure!(copied.success(), "what is in {} could not be moved", folder.display());
        fs::remove_dir_all(folder)?;
        std::os::unix::fs::symlink(disk.path(), folder)?;
        Ok(disk)
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Fills it to the last byte.
    ///
    /// # Errors
    /// When nothing can be written at all.
    pub(super) fn fill(&self) -> Result<Ballast> {
        let path = self.path().join("ballast");
        let mut file = File::create(&path)?;
        while file.write_all(&[0; PIECE]).is_ok() {}
        while file.write_all(&[0]).is_ok() {}
        Ok(Ballast(path))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.folder.path()).status();
    }
}

/// Those of a stage; each has a disk of its own.
const EXECUTORS: [&str; 3] = ["executor-1", "executor-2", "executor-3"];
/// Attempts that write what does not fit, and others.
const WRITING_RUNS: usize = 12;
const WRITING_TRIES: usize = 10;
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a scheduler's log is looked at while its disk is full, and what passes in between.
const LOOKS: usize = 10;
const COMMITS: &str = "scheduler_commits_total";
const BETWEEN_LOOKS: Duration = Duration::from_millis(300);

/// Looks at a log of `scheduler-1` that had not grown though the scheduler had committed since the one before.
async fn speechless(stage: &mut Stage, log: &Path) -> Result<u64> {
    let mut speechless = 0;
    let mut before = (fs::metadata(log)?.len(), stage.metric("scheduler-1", COMMITS).await);
    for _ in 0..LOOKS {
        tokio::time::sleep(BETWEEN_LOOKS).await;
        let now = (fs::metadata(log)?.len(), stage.metric("scheduler-1", COMMITS).await);
        speechless += u64::from(now.0 == before.0 && now.1 > before.1);
        before = now;
    }
    Ok(speechless)
}

/// Row 12: the disk of an executor, and the one that a scheduler logs to.
pub(super) async fn full(plan: Plan) -> Result<Seen> {
    let disks = EXECUTORS.map(|_| Tmpfs::new(48, Path::new("/")));
    let disks: BTreeMap<&str, Tmpfs> =
        EXECUTORS.into_iter().zip(disks).map(|(name, disk)| Ok((name, disk?))).collect::<Result<_>>()?;
    let logs = Tmpfs::new(64, Path::new("/"))?;
    let log = logs.path().join("scheduler-1.log");
    let data_dir = |(name, disk): (&&'static str, &Tmpfs)| {
        (*name, "ORRERY_EXECUTOR_DATA_DIR".to_owned(), disk.path().display().to_string())
    };
    let mut own_settings: Vec<_> = disks.iter().map(data_dir).collect();
    own_settings.push(("scheduler-1", "ORRERY_LOG__FILTER".to_owned(), "debug".to_owned()));
    let log_folders = vec![("scheduler-1", logs.path().to_owned())];
    let mut stage = Stage::open(plan, Shape { own_settings, log_folders, ..Stage::shape(plan) }).await?;
    let mut seen = Seen::default();
    // Environments and code are laid out first: what is full is full of outputs.
    let first = stage.start_runs(WRITER, WRITING_RUNS, &[("mib", 0.1)]).await?;
    stage.until_ended(&first, PATIENCE).await?;
    stage.begin().await?;
    let log_ballast = logs.fill()?;
    seen.bite("times that a scheduler had worked and its log had taken nothing", speechless(&mut stage, &log).await?);
    let full = fs::metadata(&log)?.len();
    let (mut failed, mut reasons, mut ballasts) = (0, Vec::new(), BTreeMap::new());
    let mut worker = stage.worker(&first).await?;
    // Which executor gets which run is not the row's to say: the disk of the one that got most of the last ones is full.
    for _ in 0..WRITING_TRIES {
        let disk = disks.get(worker.as_str()).with_context(|| format!("{worker} has no disk of its own"))?;
        if let Entry::Vacant(place) = ballasts.entry(worker.clone()) {
            place.insert(disk.fill()?);
        }
        let runs = stage.start_runs(WRITER, WRITING_RUNS, &[("mib", 1.0)]).await?;
        let ended = stage.until_ended(&runs, PATIENCE).await?;
        reasons.extend(stage.errors_of(&runs).await?);
        failed += ended.get("failed").copied().unwrap_or_default();
        if failed > 0 {
            break;
        }
        worker = stage.worker(&runs).await?;
    }
    seen.bite("blocks that failed for want of space", u64::try_from(failed)?);
    seen.must(reasons.iter().all(|reason| reason.contains("No space left")), || {
        format!("blocks failed without the reason: {reasons:?}")
    });
    let lost = stage.metric_of_all("scheduler", "scheduler_executors_lost_total").await;
    seen.must(lost == 0.0, || format!("{lost} executors were taken to be lost"));
    let gone = stage.ended();
    seen.must(gone.is_empty(), || format!("services ended: {}", gone.join(", ")));
    drop((ballasts, log_ballast));
    let again = stage.start_runs(WRITER, WRITING_RUNS, &[("mib", 1.0)]).await?;
    let ended = stage.until_ended(&again, PATIENCE).await?;
    seen.must(ended.get("completed") == Some(&i64::try_from(again.len())?), || {
        format!("with space again the runs stand as {ended:?}")
    });
    let written = fs::metadata(&log)?.len() - full;
    seen.must(written > 0, || "a scheduler logs nothing though there is space again".to_owned());
    stage.finish_within(seen, LATE_MAX_S).await
}
