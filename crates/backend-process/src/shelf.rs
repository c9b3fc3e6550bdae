//! Folders beside each other that are kept for whoever comes next, as long as there is room: of those that nobody uses, the
//! least recently used go. Refuses to know what is in them, and who makes them.
//!
//! Whoever is about to use one *holds* it first, and looks for it then: what is there stays, and what is not there has to
//! be made. A folder that goes is renamed under the same lock under which it is held, so nobody finds half of one.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

/// How the name of a folder begins that is being removed.
const GONE: &str = ".gone-";
/// What a file takes at least on a disk.
const BLOCK_BYTES: u64 = 4_096;

/// See the module's page. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Shelf(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    bytes_max: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    folders: HashMap<String, Folder>,
    removed: u64,
}

/// What is known of one, whether it is there or not.
#[derive(Debug)]
struct Folder {
    users: usize,
    used_at: SystemTime,
    /// Of its last use, as its own time of change on the disk tells it to a next life.
    noted_at: Option<SystemTime>,
    /// Not known before it was measured.
    bytes: Option<u64>,
    /// Rises with each change of what is in it.
    changes: u64,
}

/// A folder that stays as long as this lives.
#[derive(Debug)]
pub struct Held {
    shelf: Shelf,
    name: String,
}

impl Shelf {
    /// The folders in `root`, which together take `bytes_max`, or what those in use take.
    #[must_use]
    pub fn new(root: PathBuf, bytes_max: u64) -> Self {
        Self(Arc::new(Inner { root, bytes_max, state: Mutex::default() }))
    }

    /// Where a folder is, if it is there.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.root.join(name)
    }

    /// From here on the folder stays, or is not there.
    #[must_use]
    pub fn hold(&self, name: &str) -> Held {
        let mut state = self.state();
        let folder = state.folders.entry(name.to_owned()).or_insert_with(|| Folder::used(SystemTime::now()));
        folder.users += 1;
        drop(state);
        Held { shelf: self.clone(), name: name.to_owned() }
    }

    /// What is in it has changed, and with it its size.
    pub fn changed(&self, name: &str) {
        if let Some(folder) = self.state().folders.get_mut(name) {
            folder.changes += 1;
            folder.bytes = None;
        }
    }

    /// Removes what there is no room for; answers the names. Work that blocks.
    #[must_use]
    pub fn shrink(&self) -> Vec<String> {
        self.find();
        self.measure();
        let taken = self.take_out();
        for (name, folder) in &taken {
            tracing::info!(folder = %self.0.root.display(), name, "removed what was used least recently, for lack of room");
            if let Err(error) = fs::remove_dir_all(folder) {
                tracing::warn!(path = %folder.display(), %error, "failed to remove what there is no room for");
            }
        }
        taken.into_iter().map(|(name, _)| name).collect()
    }

    /// Learns of folders of an earlier life, forgets those that are not there, and removes what an earlier life began to.
    fn find(&self) {
        let Ok(entries) = fs::read_dir(&self.0.root) else { return };
        let mut there = HashSet::new();
        for entry in entries.flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            if name.starts_with(GONE) {
                // Nobody else removes them, and none is there that this life has not finished with.
                let _ = fs::remove_dir_all(entry.path());
            }
            let Some(metadata) = entry.metadata().ok().filter(fs::Metadata::is_dir) else { continue };
            if name.starts_with('.') {
                continue;
            }
            let changed_at = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            self.state().folders.entry(name.clone()).or_insert_with(|| Folder::used(changed_at));
            there.insert(name);
        }
        self.state().folders.retain(|name, folder| folder.users > 0 || there.contains(name));
    }

    /// Finds out sizes that are not known, and notes last uses on the disk.
    fn measure(&self) {
        let unknown =
            |(name, folder): (&String, &Folder)| folder.bytes.is_none().then(|| (name.clone(), folder.changes));
        let unknown: Vec<_> = self.state().folders.iter().filter_map(unknown).collect();
        for (name, changes) in unknown {
            let bytes = bytes_of(&self.path(&name));
            // What changed meanwhile is measured next time.
            if let Some(folder) = self.state().folders.get_mut(&name).filter(|folder| folder.changes == changes) {
                folder.bytes = Some(bytes);
            }
        }
        let mut used = Vec::new();
        for (name, folder) in &mut self.state().folders {
            if folder.noted_at != Some(folder.used_at) {
                folder.noted_at = Some(folder.used_at);
                used.push((name.clone(), folder.used_at));
            }
        }
        for (name, at) in used {
            // It is only the order in which a next life lets them go.
            let _ = File::open(self.path(&name)).and_then(|folder| folder.set_modified(at));
        }
    }

    /// Takes folders away under the lock, so that nobody who holds one finds it half there.
    fn take_out(&self) -> Vec<(String, PathBuf)> {
        let mut state = self.state();
        let mut bytes: u64 = state.folders.values().filter_map(|folder| folder.bytes).sum();
        let mut taken = Vec::new();
        while bytes > self.0.bytes_max {
            let idle = state.folders.iter().filter(|(_, folder)| folder.users == 0);
            let Some(oldest) = idle.min_by_key(|(_, folder)| folder.used_at).map(|(name, _)| name.clone()) else {
                break;
            };
            bytes -= state.folders.remove(&oldest).and_then(|folder| folder.bytes).unwrap_or_default();
            state.removed += 1;
            let aside = self.path(&format!("{GONE}{oldest}-{}", state.removed));
            match fs::rename(self.path(&oldest), &aside) {
                Ok(()) => taken.push((oldest, aside)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => tracing::warn!(name = oldest, %error, "failed to take away what there is no room for"),
            }
        }
        taken
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Folder {
    fn used(at: SystemTime) -> Self {
        Self { users: 0, used_at: at, noted_at: None, bytes: None, changes: 0 }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(folder) = self.shelf.state().folders.get_mut(&self.name) {
            folder.users -= 1;
            folder.used_at = SystemTime::now();
        }
    }
}

/// What a folder takes on a disk, about. Links are not followed. Work that blocks.
#[must_use]
pub fn bytes_of(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let of = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => BLOCK_BYTES + bytes_of(&entry.path()),
        Ok(metadata) => metadata.len().next_multiple_of(BLOCK_BYTES),
        Err(_) => 0,
    };
    entries.flatten().map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// A folder under the test's own name, removed at its end.
    struct Root(PathBuf);

    impl Root {
        fn new(test: &str) -> Self {
            let root = std::env::temp_dir().join(format!("orrery-shelf-{test}-{}", std::process::id()));
            fs::create_dir_all(&root).unwrap();
            Self(root)
        }

        /// A folder of so many blocks that was used so many seconds after the beginning of time.
        fn folder(&self, name: &str, blocks: usize, used_at: u64) {
            let folder = self.0.join(name);
            fs::create_dir_all(&folder).unwrap();
            for block in 0..blocks {
                fs::write(folder.join(block.to_string()), "x").unwrap();
            }
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(used_at);
            File::open(folder).unwrap().set_modified(at).unwrap();
        }

        fn there(&self) -> Vec<String> {
            let mut names: Vec<_> = fs::read_dir(&self.0).unwrap().flatten().collect::<Vec<_>>();
            names.sort_by_key(fs::DirEntry::file_name);
            names.into_iter().map(|entry| entry.file_name().into_string().unwrap()).collect()
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_least_recently_used_go_and_nothing_that_is_used() {
        let root = Root::new("order");
        for (name, used_at) in [("a", 1), ("b", 2), ("c", 3), ("d", 4)] {
            root.folder(name, 2, used_at);
        }
        fs::write(root.0.join("a.txt"), "beside it").unwrap();
        let shelf = Shelf::new(root.0.clone(), 5 * BLOCK_BYTES);
        let a = shelf.hold("a");
        assert_eq!(shelf.shrink(), ["b", "c"], "a is used, d was used last");
        assert_eq!(root.there(), ["a", "a.txt", "d"]);
        drop(shelf.hold("d"));
        let other = shelf.hold("a");
        drop(a);
        root.folder("e", 2, 9);
        assert_eq!(shelf.shrink(), ["e"], "one that came by itself counts from its time on the disk");
        drop(other);
        root.folder("f", 2, 10);
        drop(shelf.hold("f"));
        assert_eq!(shelf.shrink(), ["d"], "a was let go later");
        // The next life goes on with the same order.
        let next = Shelf::new(root.0.clone(), 3 * BLOCK_BYTES);
        assert_eq!(next.shrink(), ["a"]);
        assert_eq!(root.there(), ["a.txt", "f"]);
    }

    #[test]
    fn all_that_is_used_stays_whatever_it_takes() {
        let root = Root::new("used");
        root.folder("a", 3, 1);
        let shelf = Shelf::new(root.0.clone(), 0);
        let held = [shelf.hold("a"), shelf.hold("a")];
        assert!(shelf.shrink().is_empty());
        let [first, second] = held;
        drop(first);
        assert!(shelf.shrink().is_empty(), "somebody else uses it");
        drop(second);
        assert_eq!(shelf.shrink(), ["a"]);
        assert!(root.there().is_empty());
    }

    #[test]
    fn what_grew_is_measured_again_and_what_an_earlier_life_left_is_removed() {
        let root = Root::new("grown");
        root.folder("a", 1, 1);
        root.folder(".gone-b-1", 1, 1);
        root.folder(".made.tmp", 5, 1);
        let shelf = Shelf::new(root.0.clone(), 2 * BLOCK_BYTES);
        assert!(shelf.shrink().is_empty());
        assert_eq!(root.there(), [".made.tmp", "a"], "what somebody makes is his");
        root.folder("a", 3, 1);
        assert!(shelf.shrink().is_empty(), "nobody said that it grew");
        shelf.changed("a");
        assert_eq!(shelf.shrink(), ["a"]);
        // Held and never made, it is not remembered.
        drop(shelf.hold("c"));
        assert!(shelf.shrink().is_empty() && shelf.state().folders.is_empty());
    }
}
