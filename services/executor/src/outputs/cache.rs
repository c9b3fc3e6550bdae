//! Copies of outputs on this disk: the least recently used go when there are too many bytes of them, but none that a
//! running attempt reads. Refuses to know where they come from.

use crate::{attempt::AttemptId, leftovers};
use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// See the module's page.
#[derive(Debug)]
pub(super) struct Cache {
    root: PathBuf,
    bytes_max: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes of each copy, and when it was used last, counted in uses.
    copies: HashMap<PathBuf, (u64, u64)>,
    pins: HashMap<AttemptId, Vec<PathBuf>>,
    bytes: u64,
    uses: u64,
}

impl Cache {
    /// Empties the folder.
    pub(super) fn empty(root: PathBuf, bytes_max: u64) -> io::Result<Self> {
        leftovers::leave_behind(&root)?;
        Ok(Self { root, bytes_max, state: Mutex::default() })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The copy stays until its reader is released.
    pub(super) fn pin(&self, reader: &AttemptId, copy: &Path) {
        self.state().pins.entry(reader.clone()).or_default().push(copy.to_owned());
    }

    /// Whether it is there; it counts as used now.
    pub(super) fn touch(&self, copy: &Path) -> bool {
        let mut state = self.state();
        state.uses += 1;
        let now = state.uses;
        state.copies.get_mut(copy).is_some_and(|(_, used)| {
            *used = now;
            true
        })
    }

    /// A copy was made. Others go for it.
    pub(super) fn add(&self, copy: &Path, bytes: u64) {
        let mut state = self.state();
        state.uses += 1;
        let now = state.uses;
        let before = state.copies.insert(copy.to_owned(), (bytes, now)).map_or(0, |(bytes, _)| bytes);
        state.bytes = state.bytes - before + bytes;
        self.shrink(&mut state);
    }

    /// The reader is over.
    pub(super) fn release(&self, reader: &AttemptId) {
        let mut state = self.state();
        if state.pins.remove(reader).is_some() {
            self.shrink(&mut state);
        }
    }

    /// Under the lock, so that nobody finds a copy that is about to go. Folders of outputs have few files.
    fn shrink(&self, state: &mut State) {
        while state.bytes > self.bytes_max {
            let pinned = |copy: &PathBuf| state.pins.values().any(|pins| pins.contains(copy));
            let oldest = state.copies.iter().filter(|(copy, _)| !pinned(copy)).min_by_key(|(_, (_, used))| *used);
            let Some(oldest) = oldest.map(|(copy, _)| copy.clone()) else { return };
            if let Some((bytes, _)) = state.copies.remove(&oldest) {
                state.bytes -= bytes;
            }
            if let Err(error) = std::fs::remove_dir_all(&oldest) {
                tracing::warn!(path = %oldest.display(), %error, "failed to remove a copy of outputs");
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::id::RunId;

    #[test]
    fn what_was_used_long_ago_goes_and_what_is_read_stays() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::empty(root.path().join("cache"), 100).unwrap();
        let reader = |lease| AttemptId { run: RunId::new_in(0), block: "a".to_owned(), child: -1, lease };
        let copy = |name: &str| {
            let path = cache.root().join(name);
            std::fs::create_dir_all(&path).unwrap();
            path
        };
        let there = |names: &[&str]| names.iter().map(|name| cache.root().join(name).exists()).collect::<Vec<_>>();
        let first = reader(1);
        let a = copy("a");
        cache.pin(&first, &a);
        cache.add(&a, 60);
        cache.add(&copy("b"), 30);
        cache.add(&copy("c"), 10);
        assert!(cache.touch(&cache.root().join("b")) && !cache.touch(&cache.root().join("none")));
        cache.add(&copy("d"), 20);
        assert_eq!(there(&["a", "b", "c", "d"]), [true, false, false, true], "c before b, a is read, d is the newest");
        cache.release(&first);
        cache.add(&copy("e"), 50);
        assert_eq!(there(&["a", "d", "e"]), [false, true, true]);
    }
}
