//! Project folders that code may write to. The folder of a bundle is laid out once and never run in; each run gets a copy
//! of its own, which its blocks on this executor share, so that what one run writes no other run finds.
//!
//! Copies that nobody wrote to go from run to run: looking whether one is untouched costs a look at each of its files,
//! which is less than a copy. One that was written to stays with its run, for the run's later blocks, as long as there is
//! room. Refuses to know what files mean.

mod copy;

use crate::leftovers;
use backend_process::shelf;
use copy::Seal;
use domain::id::RunId;
use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;

/// Untouched copies that wait for a run; beyond it the oldest go.
const SPARE_MAX: usize = 64;
/// Copies of runs that wrote to them and have no attempt here; beyond it the ones that wait longest go.
const WRITTEN_MAX: usize = 64;
/// A copy that was written to waits so long for its run's next attempt.
const WRITTEN_TTL: Duration = Duration::from_secs(3600);

/// The copies of one executor.
#[derive(Debug, Clone)]
pub struct Views(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    /// For copies that were written to and have no attempt here.
    bytes_max: u64,
    next: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// In the order in which they came back.
    spare: Vec<Copy>,
    bound: HashMap<(RunId, String), Bound>,
}

/// A copy, and what it looked like when it was made.
#[derive(Debug)]
struct Copy {
    digest: String,
    /// The folder of this copy alone; the project is in it.
    folder: PathBuf,
    project: PathBuf,
    seal: Arc<Seal>,
}

/// The copy of a run.
#[derive(Debug)]
struct Bound {
    copy: Copy,
    users: usize,
    since: Instant,
    /// As it was found written to, last.
    bytes: u64,
}

/// A run's copy, as long as an attempt uses it.
#[derive(Debug)]
pub struct View {
    views: Views,
    key: (RunId, String),
    project: PathBuf,
}

impl View {
    /// The project's folder.
    #[must_use]
    pub fn project(&self) -> &Path {
        &self.project
    }
}

impl Views {
    /// Copies below a folder, which is emptied: those of an earlier life are nobody's. Those that were written to and wait
    /// for their run may take `bytes_max`, or what the latest of them takes.
    ///
    /// # Errors
    /// When the folder cannot be emptied.
    pub fn new(folder: PathBuf, bytes_max: u64) -> io::Result<Self> {
        leftovers::leave_behind(&folder)?;
        Ok(Self(Arc::new(Inner { folder, bytes_max, next: AtomicU64::new(0), state: Mutex::default() })))
    }

    /// The run's copy of the bundle `digest`, which lies in `original`. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub async fn of(&self, run: RunId, digest: &str, original: &Path) -> io::Result<View> {
        let key = (run, digest.to_owned());
        if let Some(view) = self.known(&key) {
            return Ok(view);
        }
        let folder = self.0.folder.join(self.0.next.fetch_add(1, Ordering::Relaxed).to_string());
        let (original, digest) = (original.to_owned(), digest.to_owned());
        let copied = tokio::task::spawn_blocking(move || Copy::make(digest, folder, &original)).await;
        let copy = copied.map_err(io::Error::other)??;
        // Attempts of one run may have copied at once: the first one's counts, and the other one waits for another run.
        let mut state = self.state();
        if state.bound.contains_key(&key) {
            state.spare.push(copy);
        } else {
            state.bound.insert(key.clone(), Bound::new(copy));
        }
        drop(state);
        self.known(&key).ok_or_else(|| io::Error::other("the copy of the project was removed at once"))
    }

    /// The run's copy, or one that waits for a run.
    fn known(&self, key: &(RunId, String)) -> Option<View> {
        let mut state = self.state();
        if !state.bound.contains_key(key) {
            let at = state.spare.iter().rposition(|copy| copy.digest == key.1)?;
            let copy = state.spare.remove(at);
            state.bound.insert(key.clone(), Bound::new(copy));
        }
        let bound = state.bound.get_mut(key)?;
        bound.users += 1;
        Some(View { views: self.clone(), key: key.clone(), project: bound.copy.project.clone() })
    }

    /// Called when nobody used the copy a moment ago: passes it on when it is untouched. Blocking work.
    fn settle(&self, key: &(RunId, String)) {
        let Some((project, seal, since)) = self.state().bound.get(key).map(Bound::sealed) else { return };
        let untouched = seal.holds(&project);
        let bytes = if untouched { 0 } else { shelf::bytes_of(&project) };
        let mut state = self.state();
        // Who came meanwhile goes on with it, or may have written to it, and settles it after that.
        if state.bound.get(key).is_some_and(|bound| bound.users == 0 && bound.since == since) {
            if untouched {
                let copy = state.bound.remove(key).map(|bound| bound.copy);
                state.spare.extend(copy);
            } else if let Some(bound) = state.bound.get_mut(key) {
                bound.bytes = bytes;
            }
        }
        let gone = state.shrink(self.0.bytes_max);
        drop(state);
        for copy in gone {
            copy.remove();
        }
    }

    /// The run has ended: what was written to goes, unless an attempt uses it. Blocking work.
    pub fn end(&self, run: RunId) {
        let mut keys: Vec<_> = self.state().bound.keys().filter(|(of, _)| *of == run).cloned().collect();
        for key in &keys {
            self.settle(key);
        }
        let mut state = self.state();
        keys.retain(|key| state.bound.get(key).is_some_and(|bound| bound.users == 0));
        let gone: Vec<_> = keys.iter().filter_map(|key| state.bound.remove(key)).collect();
        drop(state);
        for bound in gone {
            bound.copy.remove();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes out what is one too many, takes too much of the disk, or has waited too long.
    fn shrink(&mut self, bytes_max: u64) -> Vec<Copy> {
        let mut gone: Vec<Copy> = self.spare.drain(..self.spare.len().saturating_sub(SPARE_MAX)).collect();
        let mut idle: Vec<_> = self.bound.iter().filter(|(_, bound)| bound.users == 0).collect();
        idle.sort_by_key(|(_, bound)| bound.since);
        let surplus = idle.len().saturating_sub(WRITTEN_MAX).max(without_room(&idle, bytes_max));
        let late = |(at, (_, bound)): &(usize, (_, &Bound))| *at < surplus || bound.since.elapsed() > WRITTEN_TTL;
        let late: Vec<_> = idle.into_iter().enumerate().filter(late).map(|(_, (key, _))| key.clone()).collect();
        gone.extend(late.iter().filter_map(|key| self.bound.remove(key)).map(|bound| bound.copy));
        gone
    }
}

/// How many of the oldest have to go for the others to find room. The latest stays: its run goes on in a moment, and would
/// never find what it wrote.
fn without_room<T>(idle: &[(T, &Bound)], bytes_max: u64) -> usize {
    let mut bytes = 0_u64;
    let fits = |(_, bound): &&(T, &Bound)| {
        bytes = bytes.saturating_add(bound.bytes);
        bytes <= bytes_max
    };
    idle.len() - idle.iter().rev().take_while(fits).count().max(1).min(idle.len())
}

impl Bound {
    fn new(copy: Copy) -> Self {
        Self { copy, users: 0, since: Instant::now(), bytes: 0 }
    }

    fn sealed(&self) -> (PathBuf, Arc<Seal>, Instant) {
        (self.copy.project.clone(), Arc::clone(&self.copy.seal), self.since)
    }
}

impl Copy {
    fn make(digest: String, folder: PathBuf, original: &Path) -> io::Result<Self> {
        let name = original.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let project = folder.join(name);
        match copy::copy(original, &project) {
            Ok(seal) => Ok(Self { digest, folder, project, seal: Arc::new(seal) }),
            Err(error) => {
                // Half a copy is of no use, and the disk may be full of it.
                let _ = std::fs::remove_dir_all(&folder);
                Err(error)
            }
        }
    }

    fn remove(self) {
        if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            tracing::warn!(path = %self.folder.display(), %error, "failed to remove a copy of a project");
        }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        let last = {
            let mut state = self.views.state();
            state.bound.get_mut(&self.key).is_some_and(|bound| {
                bound.users -= 1;
                bound.since = Instant::now();
                bound.users == 0
            })
        };
        // Without a runtime the process is at its end, and its next life empties the folder.
        if last && let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (views, key) = (self.views.clone(), self.key.clone());
            runtime.spawn_blocking(move || views.settle(&key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn copy(name: &str) -> Copy {
        Copy { digest: String::new(), folder: name.into(), project: name.into(), seal: Arc::new(Seal::default()) }
    }

    fn gone(state: &mut State, bytes_max: u64) -> Vec<String> {
        state.shrink(bytes_max).into_iter().map(|copy| copy.folder.display().to_string()).collect()
    }

    /// Waits until nothing of a dropped view is under way: its copy is spare, or stays with its run.
    async fn spare(views: &Views, count: usize) {
        let there = async || (views.state().spare.len() == count).then_some(());
        testkit::wait_for("spare copies", SOON, there).await;
    }

    #[tokio::test]
    async fn a_run_finds_what_it_wrote_and_no_other_run_does() {
        let root = tempfile::tempdir().unwrap();
        let original = root.path().join("shop");
        std::fs::create_dir_all(original.join("nested")).unwrap();
        std::fs::write(original.join("nested/a.py"), "a").unwrap();
        let views = Views::new(root.path().join("views"), u64::MAX).unwrap();
        let (first, second) = (RunId::new_in(0), RunId::new_in(0));
        let of = async |run| views.of(run, "digest", &original).await.unwrap();

        let clean = of(first).await;
        let untouched = clean.project().to_owned();
        drop(clean);
        spare(&views, 1).await;
        let writing = of(first).await;
        assert_eq!(writing.project(), untouched, "an untouched copy is used again");
        let shared = of(first).await;
        assert_eq!(shared.project(), writing.project());
        assert_ne!(of(second).await.project(), writing.project());
        spare(&views, 1).await;
        std::fs::write(writing.project().join("nested/a.py"), "b").unwrap();
        drop((writing, shared));
        let views_of_first = of(first).await;
        assert_eq!(std::fs::read_to_string(views_of_first.project().join("nested/a.py")).unwrap(), "b");
        let other = of(second).await;
        assert_eq!(std::fs::read_to_string(other.project().join("nested/a.py")).unwrap(), "a");
        drop(views_of_first);
        drop(other);
        spare(&views, 1).await;
        assert_eq!(views.state().bound.len(), 1, "what was written to stays with its run");
        assert_eq!(std::fs::read_to_string(original.join("nested/a.py")).unwrap(), "a");
    }

    #[test]
    fn what_waits_too_long_or_is_one_too_many_goes() {
        let mut state = State::default();
        state.spare.extend((0..=SPARE_MAX).map(|at| copy(&format!("spare {at}"))));
        let begun = Instant::now();
        for at in 0..=WRITTEN_MAX {
            let since = begun + Duration::from_millis(at as u64);
            let bound = Bound { since, ..Bound::new(copy(&format!("written {at}"))) };
            state.bound.insert((RunId::new_in(0), String::new()), bound);
        }
        let used = Bound { users: 1, since: begun, ..Bound::new(copy("used")) };
        state.bound.insert((RunId::new_in(0), String::new()), used);
        assert_eq!(gone(&mut state, u64::MAX), ["spare 0", "written 0"]);
    }

    #[test]
    fn what_was_written_to_finds_room_or_the_oldest_go_but_never_the_latest() {
        let mut state = State::default();
        let begun = Instant::now();
        for (at, bytes) in [40_u64, 30, 20, 10].into_iter().enumerate() {
            let since = begun + Duration::from_millis(at as u64);
            let bound = Bound { since, bytes, ..Bound::new(copy(&bytes.to_string())) };
            state.bound.insert((RunId::new_in(0), String::new()), bound);
        }
        let used = Bound { users: 1, since: begun, bytes: 1_000, ..Bound::new(copy("used")) };
        state.bound.insert((RunId::new_in(0), String::new()), used);
        assert!(gone(&mut state, 100).is_empty(), "what an attempt uses does not count");
        assert_eq!(gone(&mut state, 59), ["40", "30"], "all that is older than what finds no room");
        assert_eq!(gone(&mut state, 5), ["20"]);
        assert!(gone(&mut state, 0).is_empty());
    }

    #[tokio::test]
    async fn with_the_end_of_its_run_a_copy_that_was_written_to_goes() {
        let root = tempfile::tempdir().unwrap();
        let original = root.path().join("shop");
        std::fs::create_dir_all(&original).unwrap();
        std::fs::write(original.join("a.py"), "a").unwrap();
        let views = Views::new(root.path().join("views"), u64::MAX).unwrap();
        let (ended, other) = (RunId::new_in(0), RunId::new_in(0));
        let mut folders = Vec::new();
        for run in [ended, other] {
            let view = views.of(run, "digest", &original).await.unwrap();
            std::fs::write(view.project().join("b.py"), "b").unwrap();
            folders.push(view.project().to_owned());
        }
        let measured = async || views.state().bound.values().all(|bound| bound.bytes > 0).then_some(());
        testkit::wait_for("both to be measured", SOON, measured).await;
        let clean = views.of(RunId::new_in(0), "digest", &original).await.unwrap();
        views.end(ended);
        assert_eq!(folders.iter().map(|folder| folder.exists()).collect::<Vec<_>>(), [false, true]);
        let held = views.of(other, "digest", &original).await.unwrap();
        views.end(other);
        assert!(held.project().join("b.py").exists() && clean.project().exists(), "what is used stays");
    }
}
