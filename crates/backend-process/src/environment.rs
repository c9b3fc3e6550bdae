//! Python environments: the base packages and a project's own, installed once per content.
//!
//! The folder belongs to one executor: nobody else builds in it.

mod install;
mod requirements;

use crate::Error;
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
    sync::{Mutex, OnceCell, mpsc},
    time::Instant,
};

/// After a failed build, attempts that want the same packages fail with the same words for so long: those that waited
/// for it do not try one after the other, and a repaired index is noticed soon.
const REMEMBER_FAILURE: Duration = Duration::from_secs(30);
/// Lists of packages whose environments are known at once.
const FOUND_MAX: usize = 256;
/// The marker of a whole environment, written last.
const COMPLETE: &str = ".complete";

/// An interpreter with its packages.
#[derive(Debug, Clone)]
pub struct Environment {
    /// What it was made from.
    pub key: String,
    /// `bin/python` of it.
    pub python: PathBuf,
}

/// The environments of an executor.
#[derive(Debug)]
pub struct Environments {
    folder: PathBuf,
    python: PathBuf,
    base_requirements: String,
    base: Option<PathBuf>,
    version: OnceCell<String>,
    builds: AtomicU64,
    places: Mutex<HashMap<String, Arc<Mutex<Place>>>>,
    /// By what was asked for, so that most attempts wait for nothing.
    found: RwLock<HashMap<String, Environment>>,
}

/// What is known of one environment in this life.
#[derive(Debug, Default)]
struct Place {
    complete: bool,
    failed: Option<(String, Instant)>,
}

impl Environments {
    /// Environments below `folder`, made with the interpreter `python`. `base` is a ready environment that holds
    /// `base_requirements`; without it one is made like any other.
    #[must_use]
    pub fn new(folder: PathBuf, python: PathBuf, base_requirements: String, base: Option<PathBuf>) -> Self {
        Self {
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

    /// How many were built, ever.
    #[must_use]
    pub fn builds(&self) -> u64 {
        self.builds.load(Ordering::Relaxed)
    }

    /// The base environment, when it was given ready: what most attempts will want first.
    #[must_use]
    pub fn ready_base(&self) -> Option<Environment> {
        let base = self.base.as_ref()?;
        Some(Environment { key: "base".to_owned(), python: base.join("bin/python") })
    }

    /// The environment for a project's `requirements.txt`, when this executor has had it in its hands already.
    #[must_use]
    pub fn known(&self, requirements: Option<&str>) -> Option<Environment> {
        let found = self.found.read().unwrap_or_else(PoisonError::into_inner);
        found.get(requirements.unwrap_or_default()).cloned()
    }

    /// The environment for a project's `requirements.txt` (`None` or blank: the base environment). When packages have
    /// to be installed, the installer's lines go to `progress`.
    ///
    /// # Errors
    /// When packages cannot be installed; the text names the line, if one can be told, and the reason first, and ends
    /// with what the installer said.
    pub async fn get(&self, requirements: Option<&str>, progress: &mpsc::Sender<String>) -> Result<Environment, Error> {
        let environment = self.find_or_build(requirements, progress).await?;
        let mut found = self.found.write().unwrap_or_else(PoisonError::into_inner);
        // What is known beyond it is found again, by its digest.
        if found.len() >= FOUND_MAX {
            found.clear();
        }
        found.insert(requirements.unwrap_or_default().to_owned(), environment.clone());
        Ok(environment)
    }

    async fn find_or_build(
        &self,
        requirements: Option<&str>,
        progress: &mpsc::Sender<String>,
    ) -> Result<Environment, Error> {
        let wanted = requirements.map(significant).map(|text| renamed(&text)).filter(|text| !text.is_empty());
        if let (None, Some(base)) = (&wanted, &self.base) {
            return Ok(Environment { key: "base".to_owned(), python: base.join("bin/python") });
        }
        let all = merged(&self.base_requirements, wanted.as_deref().unwrap_or_default());
        let version = self.version().await?;
        let key = hex(&Sha256::digest(format!("{}\n{version}\n{all}", self.python.display()).as_bytes()));
        let folder = self.folder.join(&key);
        let place = Arc::clone(self.places.lock().await.entry(key.clone()).or_default());
        let mut place = place.lock().await;
        if !place.complete && !folder.join(COMPLETE).exists() {
            if let Some((reason, at)) = &place.failed
                && at.elapsed() < REMEMBER_FAILURE
            {
                return Err(Error::Environment(reason.clone()));
            }
            self.builds.fetch_add(1, Ordering::Relaxed);
            if let Err(error) = self.build(&folder, &all, wanted.is_some(), progress).await {
                place.failed = Some((error.to_string(), Instant::now()));
                return Err(error);
            }
        }
        place.complete = true;
        Ok(Environment { key, python: folder.join("bin/python") })
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
        let list = place.with_extension("txt");
        fs::write(&list, requirements).await.map_err(|e| file("write", e))?;
        let whose = if of_project { "project" } else { "platform" };
        let _ = progress.send(format!("installing the {whose}'s Python packages")).await;
        install::install(&self.python, place, &list, progress).await.map_err(|failure| {
            let line = requirements::blamed(requirements, &failure.said);
            let at = line.map(|line| format!("requirement `{line}`: ")).unwrap_or_default();
            let gist = failure.gist();
            Error::Environment(format!("the Python packages could not be installed: {at}{gist}\n{failure}"))
        })?;
        fs::write(place.join(COMPLETE), "").await.map_err(|e| file("write", e))?;
        let _ = progress.send("the Python packages are installed".to_owned()).await;
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
