//! Python environments: the base packages and a project's own, installed once per content.
//!
//! The folder belongs to one executor: nobody else builds in it. What it holds is bounded: environments that nobody uses go,
//! the least recently used first.

mod install;
mod requirements;

use crate::{Error, Shelf, shelf::Held};
use requirements::{merged, renamed, significant};
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    fs,
    process::Command,
    sync::{Mutex, MutexGuard, OnceCell, mpsc, watch},
    time::Instant,
};

/// After a failed build, attempts that want the same packages fail with the same words for so long: those that waited
/// for it do not try one after the other, and a repaired index is noticed soon.
const REMEMBER_FAILURE: Duration = Duration::from_secs(30);
/// Lists of packages whose environments are known at once.
const FOUND_MAX: usize = 256;
/// The key of the base environment that was given ready.
pub(crate) const BASE: &str = "base";
/// The marker of a whole environment, written last.
const COMPLETE: &str = ".complete";
/// Ends the name of an environment's list of packages, beside it.
const LIST: &str = "txt";

/// An interpreter with its packages.
#[derive(Debug, Clone)]
pub struct Environment {
    /// What it was made from.
    pub key: String,
    /// `bin/python` of it.
    pub python: PathBuf,
    /// As long as somebody has it, it stays. The one that was given ready is not ours to remove.
    _held: Option<Arc<Held>>,
}

/// The environments of an executor.
#[derive(Debug)]
pub struct Environments {
    folder: PathBuf,
    shelf: Shelf,
    python: PathBuf,
    base_requirements: String,
    base: Option<PathBuf>,
    version: OnceCell<String>,
    builds: AtomicU64,
    places: Mutex<HashMap<String, Arc<Place>>>,
    /// Keys by what was asked for, so that most attempts wait for nothing.
    found: RwLock<HashMap<String, String>>,
}

/// What is known of one environment in this life.
#[derive(Debug, Default)]
struct Place {
    /// Why the last build failed, and when. Locked by whoever builds.
    failed: Mutex<Option<(String, Instant)>>,
    /// For whom it is being built.
    builder: watch::Sender<Option<String>>,
}

/// Whoever builds, until it is dropped.
struct Building<'a>(&'a Place);

impl Place {
    fn building(&self, who: &str) -> Building<'_> {
        self.builder.send_replace(Some(who.to_owned()));
        Building(self)
    }

    /// Waits until nobody else builds it, and tells `progress` who does, as `what` is in words.
    async fn turn(&self, what: &str, progress: &mpsc::Sender<String>) -> MutexGuard<'_, Option<(String, Instant)>> {
        let mut builder = self.builder.subscribe();
        builder.mark_changed();
        let lock = self.failed.lock();
        tokio::pin!(lock);
        loop {
            tokio::select! {
                biased;
                turn = &mut lock => return turn,
                Ok(()) = builder.changed() => {
                    let who = builder.borrow_and_update().clone();
                    if let Some(who) = who {
                        let _ = progress.send(format!("waits for {what}, which {who} installs")).await;
                    }
                }
            }
        }
    }
}

impl Drop for Building<'_> {
    fn drop(&mut self) {
        self.0.builder.send_replace(None);
    }
}

impl Environments {
    /// Environments below `folder`, made with the interpreter `python`. `base` is a ready environment that holds
    /// `base_requirements`; without it one is made like any other.
    #[must_use]
    pub fn new(folder: PathBuf, python: PathBuf, base_requirements: String, base: Option<PathBuf>) -> Self {
        Self {
            shelf: Shelf::new(folder.clone(), u64::MAX),
            folder,
            python,
            base_requirements,
            base,
            version: OnceCell::new(),
            builds: AtomicU64::new(0),
            places: Mutex::default(),
            found: RwLock::default(),
        }
    }

    /// The same, which together take no more than this, or what those in use take; see [`Self::shrink`].
    #[must_use]
    pub fn kept_below(self, bytes_max: u64) -> Self {
        Self { shelf: Shelf::new(self.folder.clone(), bytes_max), ..self }
    }

    /// Removes environments that nobody uses and that there is no room for.
    pub async fn shrink(&self) {
        let shelf = self.shelf.clone();
        let gone = tokio::task::spawn_blocking(move || shelf.shrink()).await.unwrap_or_default();
        if gone.is_empty() {
            return;
        }
        self.found.write().unwrap_or_else(PoisonError::into_inner).retain(|_, key| !gone.contains(key));
        self.places.lock().await.retain(|key, place| !gone.contains(key) || Arc::strong_count(place) > 1);
    }

    /// How many were built, ever.
    #[must_use]
    pub fn builds(&self) -> u64 {
        self.builds.load(Ordering::Relaxed)
    }

    /// The base environment, when it was given ready: what most attempts will want first.
    #[must_use]
    pub fn ready_base(&self) -> Option<Environment> {
        let base = self.base.as_ref()?;
        Some(Environment { key: BASE.to_owned(), python: base.join("bin/python"), _held: None })
    }

    /// The environment for a project's `requirements.txt`, when this executor has had it in its hands already.
    #[must_use]
    pub fn known(&self, requirements: Option<&str>) -> Option<Environment> {
        let found = self.found.read().unwrap_or_else(PoisonError::into_inner);
        let key = found.get(requirements.unwrap_or_default()).cloned()?;
        drop(found);
        if key == BASE {
            return self.ready_base();
        }
        // It may have had to go for others: held first, and looked for then.
        Some(self.held(key)).filter(|environment| self.shelf.path(&environment.key).join(COMPLETE).exists())
    }

    /// The environment of this key, there or not; from here on it stays.
    fn held(&self, key: String) -> Environment {
        let held = Some(Arc::new(self.shelf.hold(&key)));
        Environment { python: self.shelf.path(&key).join("bin/python"), key, _held: held }
    }

    /// The environment for a project's `requirements.txt` (`None` or blank: the base environment). When packages have
    /// to be installed, the installer's lines go to `progress`; when somebody else is at it, who that is: others hear it of
    /// `who`.
    ///
    /// # Errors
    /// When packages cannot be installed; the text names the line, if one can be told, and the reason first, and ends
    /// with what the installer said.
    pub async fn get(
        &self,
        requirements: Option<&str>,
        who: &str,
        progress: &mpsc::Sender<String>,
    ) -> Result<Environment, Error> {
        let environment = self.find_or_build(requirements, who, progress).await?;
        let mut found = self.found.write().unwrap_or_else(PoisonError::into_inner);
        // What is known beyond it is found again, by its digest.
        if found.len() >= FOUND_MAX {
            found.clear();
        }
        found.insert(requirements.unwrap_or_default().to_owned(), environment.key.clone());
        Ok(environment)
    }

    async fn find_or_build(
        &self,
        requirements: Option<&str>,
        who: &str,
        progress: &mpsc::Sender<String>,
    ) -> Result<Environment, Error> {
        let wanted = requirements.map(significant).map(|text| renamed(&text)).filter(|text| !text.is_empty());
        if let (None, Some(base)) = (&wanted, self.ready_base()) {
            return Ok(base);
        }
        let all = merged(&self.base_requirements, wanted.as_deref().unwrap_or_default());
        let version = self.version().await?;
        let key = hex(&Sha256::digest(format!("{}\n{version}\n{all}", self.python.display()).as_bytes()));
        let folder = self.folder.join(&key);
        let place = Arc::clone(self.places.lock().await.entry(key.clone()).or_default());
        let environment = self.held(key);
        let what = if wanted.is_some() { "the packages of requirements.txt" } else { "the platform's packages" };
        let mut failed = place.turn(what, progress).await;
        if !folder.join(COMPLETE).exists() {
            if let Some((reason, at)) = &*failed
                && at.elapsed() < REMEMBER_FAILURE
            {
                return Err(Error::Environment(reason.clone()));
            }
            self.builds.fetch_add(1, Ordering::Relaxed);
            let building = place.building(who);
            let built = self.build(&folder, &all, wanted.is_some(), progress).await;
            drop(building);
            self.shelf.changed(&environment.key);
            if let Err(error) = built {
                *failed = Some((error.to_string(), Instant::now()));
                return Err(error);
            }
        }
        Ok(environment)
    }

    /// What the interpreter says it is: packages for one version are of no use to another.
    async fn version(&self) -> Result<&String, Error> {
        let ask = async || {
            let python = self.python.display().to_string();
            let failed =
                |reason: String| Error::Environment(format!("the interpreter {python} cannot be used: {reason}"));
            let mut command = Command::new(&self.python);
            command.args(["-I", "-c", "import sys; print(sys.version)"]).kill_on_drop(true);
            let answer = command.output().await.map_err(|e| failed(e.to_string()))?;
            match answer.status.success() {
                true => Ok(String::from_utf8_lossy(&answer.stdout).trim().to_owned()),
                false => Err(failed(String::from_utf8_lossy(&answer.stderr).trim().to_owned())),
            }
        };
        self.version.get_or_try_init(ask).await
    }

    /// `of_project` is whose packages these are; without, the platform's own.
    async fn build(
        &self,
        place: &Path,
        requirements: &str,
        of_project: bool,
        progress: &mpsc::Sender<String>,
    ) -> Result<(), Error> {
        let file = |action, source| Error::File { action, path: place.display().to_string(), source };
        fs::create_dir_all(&self.folder).await.map_err(|e| file("create", e))?;
        // An interrupted build is made anew.
        match fs::remove_dir_all(place).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(file("remove the unfinished", error));
            }
            _ => {}
        }
        let list = place.with_extension(LIST);
        fs::write(&list, requirements).await.map_err(|e| file("write", e))?;
        let whose = if of_project { "project" } else { "platform" };
        let _ = progress.send(format!("installing the {whose}'s Python packages")).await;
        install::install(&self.python, place, &list, progress).await.map_err(|failure| {
            let line = requirements::blamed(requirements, &failure.said);
            let at = line.map(|line| format!("requirement `{line}`: ")).unwrap_or_default();
            let gist = failure.gist();
            Error::Environment(format!("the Python packages could not be installed: {at}{gist}\n{failure}"))
        })?;
        // Best effort: it is a few lines, and the next build writes it anew.
        let _ = fs::remove_file(&list).await;
        fs::write(place.join(COMPLETE), "").await.map_err(|e| file("write", e))?;
        let _ = progress.send("the Python packages are installed".to_owned()).await;
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
