//! Code as immutable folders, fetched once per bundle. They are bounded: those that nobody reads go, the least recently used
//! first, and are fetched again when they are wanted.

use backend_process::{Shelf, shelf::Held};
use blobs::{Blobs, Bundle, BundleFile};
use domain::ErrorKind;
use futures_util::TryStreamExt;
use project::{OutputsPlace, bundle::Manifest};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::sync::{Mutex, OnceCell};

/// Files of a bundle that say where its outputs go, and their sizes.
const METADATA: &str = "metadata.yaml";
const IO_CONFIG: &str = "io_config.yaml";
const CONFIG_BYTES_MAX: u64 = project::YAML_BYTES_MAX;

/// The list of packages that a project asks for.
const REQUIREMENTS: &str = "requirements.txt";

/// Bundles of which something is remembered.
const KNOWN_MAX: usize = 1_024;

/// A bundle on this disk, as long as somebody has it. Nobody writes to it and nothing runs in it.
#[derive(Debug)]
pub struct Laid {
    /// The project's folder.
    pub project: PathBuf,
    /// Its `requirements.txt`, if it has one.
    pub requirements: Option<String>,
    _held: Held,
}

/// Where it lies, and what it asks for.
type Found = (PathBuf, Option<String>);

/// What is found out once per bundle.
type Known<T> = Mutex<HashMap<String, Arc<OnceCell<T>>>>;

/// The bundles of an executor.
#[derive(Debug)]
pub struct Bundles {
    blobs: Blobs,
    folder: PathBuf,
    shelf: Shelf,
    known: Known<Found>,
    places: Known<Arc<OutputsPlace>>,
    pass_env: Vec<String>,
}

impl Bundles {
    /// Bundles below a folder, which together take `bytes_max` there, or what is being read. Their configuration sees the named
    /// variables of this process's environment.
    #[must_use]
    pub fn new(blobs: Blobs, (folder, bytes_max): (&Path, u64), pass_env: &[String]) -> Self {
        let (known, places, shelf) = (Mutex::default(), Mutex::default(), Shelf::new(folder.to_owned(), bytes_max));
        Self { blobs, folder: folder.to_owned(), shelf, known, places, pass_env: pass_env.to_vec() }
    }

    /// Removes bundles that nobody reads and that there is no room for.
    pub async fn shrink(&self) {
        let shelf = self.shelf.clone();
        // What was removed is found to be so by whoever wants it.
        let _ = tokio::task::spawn_blocking(move || shelf.shrink()).await;
    }

    /// A bundle, laid out. Many attempts may ask at once; one fetches.
    ///
    /// # Errors
    /// When it cannot be fetched; the next one who asks tries again.
    pub async fn ensure(&self, digest: &str) -> Result<Laid, Error> {
        // Held first, and looked for then: what is there from now on stays.
        let name = digest.strip_prefix("sha256:").unwrap_or(digest);
        let held = self.shelf.hold(name);
        let cell = {
            let mut known = self.known.lock().await;
            let cell = entry(&mut known, digest);
            if cell.get().is_some_and(|(project, _)| !project.exists()) {
                *cell = Arc::default();
            }
            Arc::clone(cell)
        };
        let laid = async || {
            let found = fetch(&self.blobs, digest, &self.folder).await;
            self.shelf.changed(name);
            found
        };
        let (project, requirements) = cell.get_or_try_init(laid).await?.clone();
        Ok(Laid { project, requirements, _held: held })
    }

    /// Where the project of a bundle wants its outputs. Two small files are read for it, and nothing is laid out.
    ///
    /// # Errors
    /// When they cannot be fetched; the next one who asks tries again.
    pub async fn outputs_place(&self, digest: &str) -> Result<Arc<OutputsPlace>, Error> {
        let cell = Arc::clone(entry(&mut *self.places.lock().await, digest));
        cell.get_or_try_init(|| self.read_place(digest)).await.cloned()
    }

    async fn read_place(&self, digest: &str) -> Result<Arc<OutputsPlace>, Error> {
        let manifest = manifest(&self.blobs, digest).await?;
        let metadata = self.text(&manifest, METADATA).await?;
        let io_config = self.text(&manifest, IO_CONFIG).await?;
        let env = |name: &str| {
            let may = self.pass_env.iter().any(|passed| passed == name);
            may.then(|| std::env::var(name).ok()).flatten()
        };
        Ok(Arc::new(project::outputs_place(metadata.as_deref(), io_config.as_deref(), &env)))
    }

    /// A file of the bundle; none when it has no such file, or one too large to be what its name says.
    async fn text(&self, manifest: &Manifest, path: &str) -> Result<Option<String>, Error> {
        let Some(file) = manifest.files.iter().find(|file| file.path == path) else { return Ok(None) };
        if file.size > CONFIG_BYTES_MAX {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let mut content = self.blobs.get(&file.sha256).await?;
        while let Some(chunk) = content.try_next().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(String::from_utf8(bytes).ok())
    }
}

/// What is known of a bundle. What has to be forgotten for that is found out again.
fn entry<'a, T>(known: &'a mut HashMap<String, Arc<OnceCell<T>>>, digest: &str) -> &'a mut Arc<OnceCell<T>> {
    if known.len() >= KNOWN_MAX && !known.contains_key(digest) {
        known.clear();
    }
    known.entry(digest.to_owned()).or_default()
}

async fn manifest(blobs: &Blobs, digest: &str) -> Result<Manifest, Error> {
    let manifest: Manifest = serde_json::from_slice(&blobs.get_manifest(digest).await?).map_err(Error::Manifest)?;
    manifest.validate().map_err(|invalid| Error::Invalid(invalid.to_string()))?;
    Ok(manifest)
}

async fn fetch(blobs: &Blobs, digest: &str, folder: &Path) -> Result<Found, Error> {
    let manifest = manifest(blobs, digest).await?;
    let files: Vec<BundleFile> = manifest
        .files
        .into_iter()
        .map(|file| BundleFile { path: file.path, sha256: file.sha256, executable: file.executable })
        .collect();
    let bundle = Bundle { digest, project_name: &manifest.project_name, files: &files };
    let project = blobs.materialise(&bundle, folder).await?;
    let requirements = tokio::fs::read_to_string(project.join(REQUIREMENTS)).await.ok();
    Ok((project, requirements))
}

/// Why a bundle is not there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store, or what is in it.
    #[error("fetch the project's files")]
    Blobs(#[from] blobs::Error),
    /// The list of files cannot be read.
    #[error("read the bundle's list of files")]
    Manifest(#[source] serde_json::Error),
    /// The list of files is not to be believed.
    #[error("the bundle's list of files is refused: {0}")]
    Invalid(String),
}

impl Error {
    /// True when the disk is full.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Blobs(error) if error.kind() == ErrorKind::ResourceExhausted)
    }
}
