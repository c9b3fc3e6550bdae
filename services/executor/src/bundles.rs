//! Code as immutable folders, fetched once per bundle.

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

/// A bundle on this disk. Nobody writes to it and nothing runs in it.
#[derive(Debug)]
pub struct Laid {
    /// The project's folder.
    pub project: PathBuf,
    /// Its `requirements.txt`, if it has one.
    pub requirements: Option<String>,
}

/// What is found out once per bundle.
type Known<T> = Mutex<HashMap<String, Arc<OnceCell<T>>>>;

/// The bundles of an executor.
#[derive(Debug)]
pub struct Bundles {
    blobs: Blobs,
    folder: PathBuf,
    known: Known<Arc<Laid>>,
    places: Known<Arc<OutputsPlace>>,
    pass_env: Vec<String>,
}

impl Bundles {
    /// Bundles below a folder. Their configuration sees the named variables of this process's environment.
    #[must_use]
    pub fn new(blobs: Blobs, folder: &Path, pass_env: &[String]) -> Self {
        let (known, places) = (Mutex::default(), Mutex::default());
        Self { blobs, folder: folder.to_owned(), known, places, pass_env: pass_env.to_vec() }
    }

    /// A bundle, laid out. Many attempts may ask at once; one fetches.
    ///
    /// # Errors
    /// When it cannot be fetched; the next one who asks tries again.
    pub async fn ensure(&self, digest: &str) -> Result<Arc<Laid>, Error> {
        let cell = Arc::clone(self.known.lock().await.entry(digest.to_owned()).or_default());
        if let Some(known) = cell.get() {
            return Ok(known.clone());
        }
        let (blobs, folder, digest) = (self.blobs.clone(), self.folder.clone(), digest.to_owned());
        cell.get_or_try_init(|| async move { fetch(&blobs, &digest, &folder).await }).await.cloned()
    }

    /// Where the project of a bundle wants its outputs. Two small files are read for it, and nothing is laid out.
    ///
    /// # Errors
    /// When they cannot be fetched; the next one who asks tries again.
    pub async fn outputs_place(&self, digest: &str) -> Result<Arc<OutputsPlace>, Error> {
        let cell = Arc::clone(self.places.lock().await.entry(digest.to_owned()).or_default());
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

async fn manifest(blobs: &Blobs, digest: &str) -> Result<Manifest, Error> {
    let manifest: Manifest = serde_json::from_slice(&blobs.get_manifest(digest).await?).map_err(Error::Manifest)?;
    manifest.validate().map_err(|invalid| Error::Invalid(invalid.to_string()))?;
    Ok(manifest)
}

async fn fetch(blobs: &Blobs, digest: &str, folder: &Path) -> Result<Arc<Laid>, Error> {
    let manifest = manifest(blobs, digest).await?;
    let files: Vec<BundleFile> = manifest
        .files
        .into_iter()
        .map(|file| BundleFile { path: file.path, sha256: file.sha256, executable: file.executable })
        .collect();
    let bundle = Bundle { digest, project_name: &manifest.project_name, files: &files };
    let project = blobs.materialise(&bundle, folder).await?;
    let requirements = tokio::fs::read_to_string(project.join(REQUIREMENTS)).await.ok();
    Ok(Arc::new(Laid { project, requirements }))
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
