//! A bundle's files on a local disk: complete and verified, or not there.
//!
//! Everything is written into a folder of its own beside the target, which is then renamed into place. Several
//! processes may do it at once: the first rename wins, and the others use its result.

use crate::{Blobs, Error, digest};
use futures_util::{StreamExt, TryStreamExt, stream};
use std::{
    collections::BTreeSet,
    fs::Permissions,
    io,
    os::unix::fs::PermissionsExt,
    path::{Component, Path, PathBuf},
    process,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, SystemTime},
};
use tokio::{
    fs,
    io::{AsyncReadExt, AsyncWriteExt},
};

/// Files written or verified at once.
const FILES_AT_ONCE: usize = 8;
/// Bytes read at a time when verifying.
const CHUNK_BYTES: usize = 256 << 10;
/// Age from which an unfinished folder is nobody's any more.
const ABANDONED_AFTER: Duration = Duration::from_secs(3600);
/// Ends the name of an unfinished folder.
const UNFINISHED: &str = ".tmp";

/// What to lay out.
#[derive(Debug, Clone)]
pub struct Bundle<'a> {
    /// `sha256:<hex>`.
    pub digest: &'a str,
    /// The name of the folder that holds the files.
    pub project_name: &'a str,
    /// The files; their order does not matter.
    pub files: &'a [BundleFile],
}

/// One file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleFile {
    /// Relative, without `.` or `..`.
    pub path: String,
    /// Lower-case hexadecimal.
    pub sha256: String,
    /// Whether it may be executed.
    pub executable: bool,
}

impl Blobs {
    /// Lays the bundle out as `<into>/<digest>/<project name>/` and answers that path. The files are read-only.
    ///
    /// A bundle that is there already is verified, and replaced when a file is missing or was changed; other files
    /// that user code left beside them are not looked at. On any error, a full disk included, nothing half done stays.
    ///
    /// # Errors
    /// When a path leaves the bundle, content is missing or corrupt, or the disk fails.
    pub async fn materialise(&self, bundle: &Bundle<'_>, into: &Path) -> Result<PathBuf, Error> {
        let hex = digest::of_bundle(bundle.digest)?;
        check_paths(bundle)?;
        fs::create_dir_all(into).await.map_err(|error| Error::disk(into, error))?;
        let target = into.join(hex);
        let files = target.join(bundle.project_name);
        if fs::try_exists(&target).await.map_err(|error| Error::disk(&target, error))? {
            if is_intact(bundle, &files).await? {
                return Ok(files);
            }
            discard(into, hex, &target).await?;
        }
        sweep(into).await;
        let unfinished = Unfinished::create(into, hex).await?;
        self.write_all(bundle, &unfinished.0.join(bundle.project_name)).await?;
        match fs::rename(&unfinished.0, &target).await {
            Ok(()) => Ok(files),
            // Somebody else was faster; theirs was verified as ours was.
            Err(error) if is_taken(&error) => Ok(files),
            Err(error) => Err(Error::disk(&target, error)),
        }
    }

    async fn write_all(&self, bundle: &Bundle<'_>, folder: &Path) -> Result<(), Error> {
        fs::create_dir_all(folder).await.map_err(|error| Error::disk(folder, error))?;
        // Made before the stream: futures made by a closure inside it would not be Send for every lifetime.
        let has_failed = AtomicBool::new(false);
        let writes: Vec<_> = bundle
            .files
            .iter()
            .map(|file| self.write_unless(&has_failed, file.clone(), folder.join(&file.path)))
            .collect();
        let mut writes = stream::iter(writes).buffer_unordered(FILES_AT_ONCE);
        let mut outcome = Ok(());
        // To the end, also of those beside one that failed: a file whose making is left goes on in a thread of its own, and would
        // be there again when its folder is removed.
        while let Some(written) = writes.next().await {
            outcome = outcome.and(written);
        }
        outcome
    }

    /// Nothing where another one has failed.
    async fn write_unless(&self, has_failed: &AtomicBool, file: BundleFile, at: PathBuf) -> Result<(), Error> {
        if has_failed.load(Ordering::Relaxed) {
            return Ok(());
        }
        let written = self.write(file, at).await;
        has_failed.fetch_or(written.is_err(), Ordering::Relaxed);
        written
    }

    async fn write(&self, file: BundleFile, at: PathBuf) -> Result<(), Error> {
        let disk = |error| Error::disk(&at, error);
        if let Some(parent) = at.parent() {
            fs::create_dir_all(parent).await.map_err(disk)?;
        }
        let mut content = self.get(&file.sha256).await?;
        let mut written = fs::File::options().write(true).create_new(true).open(&at).await.map_err(disk)?;
        while let Some(chunk) = content.try_next().await? {
            written.write_all(&chunk).await.map_err(disk)?;
        }
        // Without it the last write's error would be lost.
        written.flush().await.map_err(disk)?;
        let mode = if file.executable { 0o555 } else { 0o444 };
        written.set_permissions(Permissions::from_mode(mode)).await.map_err(disk)
    }
}

/// A folder that is removed unless it was renamed away.
struct Unfinished(PathBuf);

impl Unfinished {
    async fn create(into: &Path, hex: &str) -> Result<Self, Error> {
        let path = unused(into, hex);
        fs::create_dir(&path).await.map_err(|error| Error::disk(&path, error))?;
        Ok(Self(path))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Also when the caller drops the future half way; what cannot be removed now is swept later.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A name that no other call uses: processes in different containers may share the folder and a process id.
fn unused(into: &Path, hex: &str) -> PathBuf {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
    into.join(format!(".{hex}.{}-{nanos:x}-{count}{UNFINISHED}", process::id()))
}

fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty)
}

/// Refuses whatever would write outside of the bundle, before anything is written.
fn check_paths(bundle: &Bundle<'_>) -> Result<(), Error> {
    let refuse = |path: &str, reason| Err(Error::Path { path: path.chars().take(120).collect(), reason });
    if !is_below(bundle.project_name) || bundle.project_name.contains('/') {
        return refuse(bundle.project_name, "is not a folder name");
    }
    let mut seen = BTreeSet::new();
    for file in bundle.files {
        digest::checked(&file.sha256)?;
        if !is_below(&file.path) {
            return refuse(&file.path, "leaves the bundle");
        }
        if !seen.insert(file.path.as_str()) {
            return refuse(&file.path, "is listed twice");
        }
    }
    Ok(())
}

fn is_below(path: &str) -> bool {
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    let normal = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    normal && !path.contains(['\0', '\\']) && path.split('/').all(plain)
}

/// Whether every file of the bundle is there with its content.
async fn is_intact(bundle: &Bundle<'_>, folder: &Path) -> Result<bool, Error> {
    if !fs::try_exists(folder).await.unwrap_or(false) {
        return Ok(false);
    }
    let verdicts: Vec<_> =
        bundle.files.iter().map(|file| has_content(folder.join(&file.path), file.sha256.clone())).collect();
    let mut verdicts = stream::iter(verdicts).buffer_unordered(FILES_AT_ONCE);
    while let Some(intact) = verdicts.try_next().await? {
        if !intact {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn has_content(at: PathBuf, sha256: String) -> Result<bool, Error> {
    match sha256_of(&at).await {
        Ok(found) => Ok(found == sha256),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
        Err(error) => Err(Error::disk(&at, error)),
    }
}

async fn sha256_of(path: &Path) -> io::Result<String> {
    let mut file = fs::File::open(path).await?;
    let (mut hasher, mut chunk) = (digest::Hasher::default(), vec![0; CHUNK_BYTES]);
    loop {
        match file.read(&mut chunk).await? {
            0 => return Ok(hasher.finish()),
            n => hasher.update(&chunk[..n]),
        }
    }
}

/// Moves a damaged bundle away in one step, so that nobody finds half of it, and then removes it.
async fn discard(into: &Path, hex: &str, target: &Path) -> Result<(), Error> {
    let aside = Unfinished(unused(into, hex));
    match fs::rename(target, &aside.0).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::disk(target, error)),
        _ => Ok(()),
    }
}

/// Removes what processes that were killed left unfinished. Best effort: it is only space.
async fn sweep(into: &Path) {
    let Ok(mut entries) = fs::read_dir(into).await else { return };
    while let Ok(Some(entry)) = entries.next_entry().await {
        let name = entry.file_name();
        let is_ours = name.to_str().is_some_and(|name| name.starts_with('.') && name.ends_with(UNFINISHED));
        let modified = entry.metadata().await.and_then(|metadata| metadata.modified());
        let age = modified.ok().and_then(|at| SystemTime::now().duration_since(at).ok()).unwrap_or_default();
        if is_ours && age > ABANDONED_AFTER {
            let _ = fs::remove_dir_all(entry.path()).await;
        }
    }
}
