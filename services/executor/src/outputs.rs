//! Where attempts write: one folder each, never shared and never overwritten. Which of them counts is the scheduler's
//! knowledge (the committed lease), not this module's.
//!
//! On a file system that executors share, an attempt's folder is there for all of them. For an object store it is sent
//! after the attempt and before its result, and fetched for whoever reads it; this disk then only holds copies.

mod cache;

use crate::{
    attempt::AttemptId,
    logs::{Masks, mask::Held},
};
use blobs::{Access, Amount, Folders};
use cache::Cache;
use domain::{ErrorKind, id::RunId, unit};
use futures_util::{StreamExt, TryStreamExt, stream};
use project::OutputsPlace;
use std::{
    collections::{BTreeMap, HashMap},
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

/// Written last into an attempt's folder.
const MANIFEST: &str = "manifest.json";
/// Inputs of one attempt that are fetched at once.
const FETCHES_MAX: usize = 4;
/// Stores of projects that are kept open.
const STORES_MAX: usize = 256;

/// What the outputs of an executor are made of.
#[derive(Debug)]
pub struct Parts {
    /// A folder that executors share, for outputs that are in no object store.
    pub shared: PathBuf,
    /// The cluster's object store, when outputs are in one.
    pub store: Option<Folders>,
    /// A folder of this executor alone, for copies. Emptied at the start: nothing is only there.
    pub cache: PathBuf,
    /// Bytes of copies.
    pub cache_bytes: u64,
    /// Beginnings of addresses that projects may give and that are opened with this process's credentials.
    pub allowed: Vec<String>,
}

/// The secrets that say where a project's outputs are, by name.
pub type Secrets = BTreeMap<String, String>;

/// Stores of projects by address and access. Addresses may hold secrets, so they are not shown.
#[derive(Default)]
struct Opened(HashMap<(String, Access), Folders>);

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} stores", self.0.len())
    }
}

/// The outputs of an executor.
#[derive(Debug)]
pub struct Outputs {
    shared: PathBuf,
    store: Option<Folders>,
    allowed: Vec<String>,
    cache: Cache,
    others: Mutex<Opened>,
    /// Attempts whose outputs are in a store while nobody has said yet whether they count.
    sent: Mutex<HashMap<AttemptId, Place>>,
}

/// Where the outputs of one project are.
#[derive(Debug, Clone)]
pub struct Place {
    root: PathBuf,
    store: Option<Folders>,
    address: String,
    /// The secrets that it is named by.
    masked: Option<Arc<Held>>,
}

impl Place {
    /// The folder of one attempt on this disk. It exists once there is something in it, or once it was fetched.
    #[must_use]
    pub fn folder(&self, run: RunId, block: &str, child: i32, lease: i64) -> PathBuf {
        self.root.join(unit::output_folder(run, block, child, lease))
    }

    /// The address of the store that the project itself names, with the names of secrets instead of these; empty for the
    /// cluster's own.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Whether this disk only holds copies.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.store.is_some()
    }

    fn of(&self, attempt: &AttemptId) -> PathBuf {
        self.folder(attempt.run, &attempt.block, attempt.child, attempt.lease)
    }

    fn failed(&self, url: &str, source: &blobs::Error) -> Error {
        failed(url, source, self.masked.as_ref().map(|held| held.masks()))
    }
}

/// Why outputs are not where they should be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The project names a store that this executor may not open with its own credentials.
    #[error(
        "the project keeps outputs in {0}, which this executor may not open for it: add it to project_outputs, or give \
         AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or GOOGLE_SERVICE_ACC_KEY, in the default profile of io_config.yaml"
    )]
    Foreign(String),
    /// The project names a secret for it that its pipeline was not deployed with, or that nobody has set.
    #[error(
        "the project keeps outputs in {url}, and there is no secret `{name}` of its pipeline, workspace or project: `orrery \
         secrets set` makes one; if there is one, deploy the project again"
    )]
    Secret {
        /// Where.
        url: String,
        /// Which.
        name: String,
    },
    /// There is no room for another secret, and none is used that could not be masked.
    #[error("this executor was given too many secrets; it must be started again")]
    TooManySecrets,
    /// The store.
    #[error("outputs in {url}: {reason}")]
    Store {
        /// Which.
        url: String,
        /// Why, without any secret.
        reason: String,
        /// What a caller can do about it.
        kind: ErrorKind,
    },
}

impl Error {
    /// What a caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Foreign(_) | Self::Secret { .. } => ErrorKind::FailedPrecondition,
            Self::TooManySecrets => ErrorKind::ResourceExhausted,
            Self::Store { kind, .. } => *kind,
        }
    }
}

impl Outputs {
    /// Removes the copies of an earlier life.
    ///
    /// # Errors
    /// When the folder of copies cannot be emptied.
    pub fn new(parts: Parts) -> io::Result<Self> {
        let Parts { shared, store, cache, cache_bytes, allowed } = parts;
        Ok(Self {
            shared,
            store,
            allowed,
            cache: Cache::empty(cache, cache_bytes)?,
            others: Mutex::default(),
            sent: Mutex::default(),
        })
    }

    /// Where a project's outputs are. The secrets that it names are masked by `masks`, its workspace's, as long as that lives.
    ///
    /// # Errors
    /// When the project names a store that it may not use, or that is none, or a secret that is not among these.
    pub fn place(&self, wanted: &OutputsPlace, secrets: &Secrets, masks: &Arc<Masks>) -> Result<Place, Error> {
        let Some(address) = wanted.url.clone() else {
            let store = self.store.clone();
            let root = if store.is_some() { self.cache.root().to_owned() } else { self.shared.clone() };
            return Ok(Place { root, store, address: String::new(), masked: None });
        };
        let masked = masks.hold(secrets.values().map(String::as_str)).ok_or(Error::TooManySecrets)?;
        let filled = wanted.filled(secrets).map_err(|name| Error::Secret { url: address.clone(), name })?;
        let url = filled.url.as_deref().unwrap_or_default();
        let mut access = access(&filled);
        if !access.opens(url) {
            if !self.allowed.iter().any(|beginning| unit::store_is_below(url, beginning)) {
                return Err(Error::Foreign(address));
            }
            // An endpoint of the project's choice must not see this process's credentials.
            access = Access::default();
        }
        let folders = self.open(url, access).map_err(|source| failed(&address, &source, Some(masks)))?;
        let (root, store) = (self.cache.root().to_owned(), Some(folders.told_as(&address)));
        Ok(Place { root, store, address, masked: Some(Arc::new(masked)) })
    }

    fn open(&self, url: &str, access: Access) -> Result<Folders, blobs::Error> {
        let others = &mut self.others.lock().unwrap_or_else(PoisonError::into_inner).0;
        let key = (url.to_owned(), access);
        if let Some(known) = others.get(&key) {
            return Ok(known.clone());
        }
        let opened = Folders::open(url, &key.1)?;
        if others.len() >= STORES_MAX {
            others.clear();
        }
        others.insert(key, opened.clone());
        Ok(opened)
    }

    /// Brings the outputs of committed attempts to this disk for `reader`, for whom they stay until it is over.
    ///
    /// # Errors
    /// When the store or the disk fails.
    pub async fn fetch(&self, reader: &AttemptId, place: &Place, attempts: &[AttemptId]) -> Result<(), Error> {
        let Some(store) = &place.store else { return Ok(()) };
        let fetches: Vec<_> =
            attempts.iter().map(|attempt| self.fetch_one(reader, place, store, attempt.clone())).collect();
        stream::iter(fetches).buffer_unordered(FETCHES_MAX).try_collect().await
    }

    async fn fetch_one(
        &self,
        reader: &AttemptId,
        place: &Place,
        store: &Folders,
        attempt: AttemptId,
    ) -> Result<(), Error> {
        let path = place.of(&attempt);
        self.cache.pin(reader, &path);
        if self.cache.touch(&path) || path.join(MANIFEST).is_file() {
            return Ok(());
        }
        let folder = unit::output_folder(attempt.run, &attempt.block, attempt.child, attempt.lease);
        let fetched = store.fetch(&folder, &path, MANIFEST).await;
        let fetched = fetched.map_err(|source| place.failed(store.url(), &source))?;
        if let Some(Amount { bytes, .. }) = fetched {
            self.cache.add(&path, bytes);
        }
        Ok(())
    }

    /// Sends what an attempt wrote, so that its result may be told. On a shared file system there is nothing to do.
    ///
    /// # Errors
    /// When the store fails. Sending it again is safe.
    pub async fn send(&self, attempt: &AttemptId, place: &Place) -> Result<(), Error> {
        let Some(store) = &place.store else { return Ok(()) };
        let path = place.of(attempt);
        if !path.join(MANIFEST).is_file() {
            return Ok(());
        }
        self.cache.pin(attempt, &path);
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).insert(attempt.clone(), place.clone());
        let folder = unit::output_folder(attempt.run, &attempt.block, attempt.child, attempt.lease);
        let sent = store.send(&path, &folder, MANIFEST).await;
        let Amount { bytes, .. } = sent.map_err(|source| place.failed(store.url(), &source))?;
        self.cache.add(&path, bytes);
        Ok(())
    }

    /// A part of a file of an attempt that is in a store, `(offset, bytes)`, and the size of the file; `None` when it is not
    /// there. Nothing of it is kept here.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn read_part(
        &self,
        place: &Place,
        folder: &str,
        file: &str,
        part: (u64, u64),
    ) -> Result<Option<(u64, Vec<u8>)>, Error> {
        let Some(store) = &place.store else { return Ok(None) };
        let part = store.part(folder, file, part).await.map_err(|source| place.failed(store.url(), &source))?;
        Ok(part.map(|(size, content)| (size, content.into())))
    }

    /// The attempt is over on this executor: what it read may go.
    pub fn release(&self, reader: &AttemptId) {
        self.cache.release(reader);
    }

    /// The attempt counts: its outputs stay where they are.
    pub fn settle(&self, attempt: &AttemptId) {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).remove(attempt);
    }

    /// Removes what an attempt wrote that does not count.
    ///
    /// # Errors
    /// When something of it exists and cannot be removed.
    pub async fn discard(&self, attempt: &AttemptId) -> Result<(), Error> {
        let folder = unit::output_folder(attempt.run, &attempt.block, attempt.child, attempt.lease);
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner).remove(attempt);
        for root in [self.shared.as_path(), self.cache.root()] {
            remove(&root.join(&folder)).await.map_err(|source| local(root, source))?;
        }
        if let Some((store, place)) = sent.as_ref().and_then(|place| Some((place.store.as_ref()?, place))) {
            let removed = store.remove(&folder).await;
            removed.map_err(|source| place.failed(store.url(), &source))?;
        }
        Ok(())
    }

    /// As [`Self::discard`]; what cannot be removed is logged, and goes with the run.
    pub async fn discard_all(&self, attempts: &[AttemptId]) {
        for attempt in attempts {
            if let Err(error) = self.discard(attempt).await {
                let error = runtime::exit::chain(&error);
                tracing::warn!(%attempt, error, "failed to discard the outputs of a refused attempt");
            }
        }
    }

    /// The attempt writes elsewhere, to the same place: should it not count, its outputs are removed from here.
    pub fn expect(&self, attempt: &AttemptId, place: &Place) {
        if place.is_remote() {
            self.sent.lock().unwrap_or_else(PoisonError::into_inner).insert(attempt.clone(), place.clone());
        }
    }

    /// Removes everything that attempts of a run left.
    ///
    /// # Errors
    /// When something of it exists and cannot be removed; calling it again goes on.
    pub async fn remove_run(&self, run: RunId, place: &Place) -> Result<(), Error> {
        let folder = run.to_string();
        let root = place.root.as_path();
        remove(&root.join(&folder)).await.map_err(|source| local(root, source))?;
        if let Some(store) = &place.store {
            let removed = store.remove(&folder).await;
            removed.map_err(|source| place.failed(store.url(), &source))?;
        }
        Ok(())
    }

    /// The newest attempt of a block, or of one of its children, that finished writing: for code of the same run that
    /// asks for the outputs of a block that is over. An older lease never counts beside a newer one. `None` where this
    /// disk only holds copies, since those of others may be missing.
    #[must_use]
    pub fn newest(&self, place: &Place, run: RunId, block: &str, child: i32) -> Option<PathBuf> {
        if place.is_remote() {
            return None;
        }
        let parent = place.folder(run, block, child, 0).parent()?.to_owned();
        let attempts = std::fs::read_dir(parent).ok()?.flatten().map(|entry| entry.path());
        let leases = attempts.filter_map(|path| Some((path.file_name()?.to_str()?.parse::<i64>().ok()?, path)));
        leases.filter(|(_, path)| path.join(MANIFEST).is_file()).max_by_key(|(lease, _)| *lease).map(|(_, path)| path)
    }
}

fn local(root: &Path, source: io::Error) -> Error {
    let place = root.display().to_string();
    failed(&place.clone(), &blobs::Error::Disk { place, source }, None)
}

/// The store's own words may hold its address.
fn failed(url: &str, source: &blobs::Error, masks: Option<&Masks>) -> Error {
    let said = runtime::exit::chain(source);
    let reason = masks.map_or_else(|| said.clone(), |masks| masks.apply(&said).into_owned());
    Error::Store { url: url.to_owned(), reason, kind: source.kind() }
}

fn access(wanted: &OutputsPlace) -> Access {
    let key = |name: &str| wanted.keys.get(name).cloned();
    let aws_key = key("AWS_ACCESS_KEY_ID").zip(key("AWS_SECRET_ACCESS_KEY"));
    Access {
        aws_key: aws_key.map(|(id, secret)| (id, secret, key("AWS_SESSION_TOKEN"))),
        aws_region: key("AWS_REGION"),
        aws_endpoint: key("AWS_ENDPOINT"),
        google_key: key("GOOGLE_SERVICE_ACC_KEY"),
        google_emulator: None,
    }
}

async fn remove(folder: &Path) -> io::Result<()> {
    match tokio::fs::remove_dir_all(folder).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outputs(root: &Path, allowed: &[&str]) -> Outputs {
        let parts = Parts {
            shared: root.join("outputs"),
            store: None,
            cache: root.join("cache"),
            cache_bytes: 1 << 20,
            allowed: allowed.iter().map(|&beginning| beginning.to_owned()).collect(),
        };
        Outputs::new(parts).unwrap()
    }

    fn at(outputs: &Outputs, wanted: &OutputsPlace, secrets: &Secrets) -> Result<Place, Error> {
        outputs.place(wanted, secrets, &Arc::default())
    }

    #[test]
    fn the_newest_finished_attempt_is_found() {
        let root = tempfile::tempdir().unwrap();
        let outputs = outputs(root.path(), &[]);
        let (run, place) = (RunId::new_in(0), at(&outputs, &OutputsPlace::default(), &Secrets::new()).unwrap());
        assert_eq!(outputs.newest(&place, run, "a/b", -1), None);
        for (lease, finished) in [(2, true), (10, true), (11, false)] {
            let folder = place.folder(run, "a/b", -1, lease);
            std::fs::create_dir_all(&folder).unwrap();
            if finished {
                std::fs::write(folder.join(MANIFEST), "{}").unwrap();
            }
        }
        assert_eq!(outputs.newest(&place, run, "a/b", -1), Some(place.folder(run, "a/b", -1, 10)));
    }

    #[test]
    fn a_project_opens_only_what_it_may() {
        let root = tempfile::tempdir().unwrap();
        let outputs = outputs(root.path(), &["s3://lake/"]);
        let wanted = |url: &str, keys: &[(&str, &str)]| OutputsPlace {
            url: Some(url.to_owned()),
            keys: keys.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        };
        let own = [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "secret")];
        let none = Secrets::new();
        let place = at(&outputs, &wanted("s3://lake/x", &[]), &none).unwrap();
        assert_eq!((place.address(), place.is_remote()), ("s3://lake/x", true));
        let refused = at(&outputs, &wanted("s3://other/x", &own[..1]), &none).unwrap_err();
        assert!(matches!(&refused, Error::Foreign(url) if url == "s3://other/x"), "{refused}");
        assert!(at(&outputs, &wanted("s3://other/x", &own), &none).is_ok());
    }

    #[test]
    fn a_place_that_a_secret_names_is_never_told() {
        let root = tempfile::tempdir().unwrap();
        let outputs = outputs(root.path(), &["s3://hidden-lake/"]);
        let (named, masks) = ("s3://{{ mage_secret_var('b') }}/x", Arc::<Masks>::default());
        let place = |url: &str, value: &str| {
            let wanted = OutputsPlace { url: Some(url.to_owned()), ..OutputsPlace::default() };
            outputs.place(&wanted, &[("b".to_owned(), value.to_owned())].into(), &masks)
        };
        let opened = place(named, "hidden-lake\n").unwrap();
        assert_eq!((opened.address(), opened.is_remote()), (named, true));
        // What the operator allows is no secret.
        let shown = format!("{opened:?} {:?} {masks:?}", outputs.others);
        assert!(!shown.contains("hidden"), "{shown}");
        assert_eq!(masks.apply("in hidden-lake"), "in [secret]");
        for (url, value) in [(named, "hidden-elsewhere"), ("s3://hidden-lake/{{ mage_secret_var('b') }}", "hidden//y")]
        {
            let told = format!("{0:?} {0}", place(url, value).unwrap_err());
            assert!(told.contains("mage_secret_var('b')") && !told.contains(value), "{told}");
        }
        let wanted = OutputsPlace { url: Some(named.to_owned()), ..OutputsPlace::default() };
        let missing = at(&outputs, &wanted, &Secrets::new()).unwrap_err();
        assert!(matches!(&missing, Error::Secret { name, .. } if name == "b"), "{missing}");
    }
}
