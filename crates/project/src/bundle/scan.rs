//! What of a folder belongs to its bundle.
//!
//! Symlinks inside the folder are followed to their content, since a bundle has none; one that leads out is refused.

use super::{
    DEPTH_MAX, FILE_BYTES_MAX, FILES_MAX, IGNORE_FILE, Manifest, ManifestFile, TOTAL_BYTES_MAX, hex, manifest::fault,
};
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use sha2::{Digest, Sha256};
use std::{
    fs, io,
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// Names that are never part of a bundle, wherever they are.
const LEFT_OUT: [&str; 9] =
    [".git", "__pycache__", ".venv", "venv", "node_modules", ".variables", ".logs", "mage_data", ".DS_Store"];
const LEFT_OUT_ENDING: &str = ".pyc";
/// Files of this name, and of this name with an ending, hold secrets; they travel only when the patterns ask for them.
const SECRETS: &str = ".env";
/// Endings of those that hold none.
const EXAMPLES: [&str; 4] = ["example", "sample", "template", "dist"];
/// Refusals that are told at once; beyond them nothing is looked at any more.
const REFUSED_MAX: usize = 20;
/// Bytes hashed at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// Why a folder has no manifest. Paths are relative to it.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The folder itself.
    #[error("the project folder {path} cannot be read: {source}")]
    Folder {
        /// As given.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Something in it.
    #[error("{path} cannot be read: {source}; check its permissions, or list it in .orreryignore")]
    Unreadable {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The link's content would be somebody else's.
    #[error(
        "{0} is a symlink that leads out of the project folder; copy the content into the folder, or list it in .orreryignore"
    )]
    LinkOutside(String),
    /// The folder contains itself.
    #[error("{0} is a symlink to a folder that contains it; remove it, or list it in .orreryignore")]
    LinkLoop(String),
    /// A socket, a device or a pipe.
    #[error("{0} is neither a file nor a folder; list it in .orreryignore")]
    Special(String),
    /// A name that a bundle cannot carry.
    #[error("the path {path:?} {reason}; rename it, or list it in .orreryignore")]
    Path {
        /// Which, with replacement characters where it is not UTF-8.
        path: String,
        /// Completes "the path …".
        reason: &'static str,
    },
    /// Over one of the limits.
    #[error("{what}; list what the pipelines do not need in .orreryignore")]
    TooLarge {
        /// What there is too much of, and the limit.
        what: String,
    },
    /// More than one of these, of which each alone would be enough.
    #[error("{}", several(.0))]
    Several(Vec<ScanError>),
    /// A pattern that is none.
    #[error(".orreryignore: {0}")]
    Patterns(ignore::Error),
}

/// One on each line.
fn several(refused: &[ScanError]) -> String {
    let least = if refused.len() < REFUSED_MAX { "" } else { "at least " };
    let all: String = refused.iter().map(|error| format!("\n  {error}")).collect();
    format!("{least}{} things in the folder cannot be part of a bundle:{all}", refused.len())
}

/// What of a folder belongs to its bundle, and what a person should know was left out.
#[derive(Debug, Clone)]
pub struct Scanned {
    /// The files.
    pub manifest: Manifest,
    /// Files that hold secrets, by their names: relative paths.
    pub secrets: Vec<String>,
}

impl Scanned {
    /// One sentence with the remedy, when files with secrets were left out.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let first = self.secrets.first()?;
        let more = if self.secrets.len() > 1 { format!(" and {} more", self.secrets.len() - 1) } else { String::new() };
        Some(format!(
            "{first}{more} was left out: such files hold secrets, and bundles are kept for ever. Give executors the \
             variables instead (pass_env), or write the line `!{first}` into {IGNORE_FILE} to send it all the same"
        ))
    }
}

/// Lists and hashes the files of the project at `root`, sorted by path.
///
/// It reads every file, so it blocks for as long as that takes.
///
/// # Errors
/// When something cannot be read, leaves the folder, or is too large. Of single files, all are named.
pub fn scan(root: &Path) -> Result<Scanned, ScanError> {
    let unreadable = |source| ScanError::Folder { path: root.display().to_string(), source };
    let real = root.canonicalize().map_err(unreadable)?;
    // What is no folder, or one that may not be read, is named as it was given.
    fs::read_dir(&real).map(drop).map_err(unreadable)?;
    let project_name = real.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    if project_name.is_empty() {
        return Err(ScanError::Path {
            path: root.display().to_string(),
            reason: "has no name that a bundle can carry",
        });
    }
    let ignored = patterns(&real)?;
    let mut scan = Scan {
        root: real.clone(),
        ignored,
        ancestors: Vec::new(),
        files: Vec::new(),
        secrets: Vec::new(),
        refused: Vec::new(),
        total: 0,
    };
    scan.folder(&real, "")?;
    scan.verdict()?;
    scan.files.sort_by(|a, b| a.path.cmp(&b.path));
    scan.secrets.sort();
    Ok(Scanned { manifest: Manifest { project_name, files: scan.files }, secrets: scan.secrets })
}

fn patterns(root: &Path) -> Result<Gitignore, ScanError> {
    let mut builder = GitignoreBuilder::new(root);
    let file = root.join(IGNORE_FILE);
    if file.is_file() {
        builder.add(file).map_or(Ok(()), Err).map_err(ScanError::Patterns)?;
    }
    builder.build().map_err(ScanError::Patterns)
}

struct Scan {
    root: PathBuf,
    ignored: Gitignore,
    /// Real paths of the folders that are being read, to notice a link to one of them.
    ancestors: Vec<PathBuf>,
    files: Vec<ManifestFile>,
    secrets: Vec<String>,
    refused: Vec<ScanError>,
    total: u64,
}

impl Scan {
    /// Notes what is refused, so that the others are found too; answers what ends the search.
    fn refuse(&mut self, error: ScanError) -> Result<(), ScanError> {
        if matches!(error, ScanError::TooLarge { .. } | ScanError::Several(_)) {
            return Err(error);
        }
        self.refused.push(error);
        if self.refused.len() < REFUSED_MAX { Ok(()) } else { self.verdict() }
    }

    /// What was refused, if anything was.
    fn verdict(&mut self) -> Result<(), ScanError> {
        let mut refused = std::mem::take(&mut self.refused);
        match refused.len() {
            0 => Ok(()),
            1 => Err(refused.remove(0)),
            _ => {
                // The order of a folder's entries is nobody's.
                refused.sort_by_cached_key(ToString::to_string);
                Err(ScanError::Several(refused))
            }
        }
    }

    fn folder(&mut self, real: &Path, relative: &str) -> Result<(), ScanError> {
        if self.ancestors.iter().any(|ancestor| ancestor == real) {
            return Err(ScanError::LinkLoop(relative.to_owned()));
        }
        if self.ancestors.len() >= DEPTH_MAX {
            return Err(ScanError::Path { path: relative.to_owned(), reason: "is nested too deeply" });
        }
        let unreadable = |source| ScanError::Unreadable { path: relative.to_owned(), source };
        let entries = fs::read_dir(real).map_err(unreadable)?;
        self.ancestors.push(real.to_owned());
        for entry in entries {
            if let Err(error) = entry.map_err(unreadable).and_then(|entry| self.entry(&entry, relative)) {
                self.refuse(error)?;
            }
        }
        self.ancestors.pop();
        Ok(())
    }

    fn entry(&mut self, entry: &fs::DirEntry, parent: &str) -> Result<(), ScanError> {
        let name = entry.file_name();
        let shown = name.to_string_lossy();
        let path = if parent.is_empty() { shown.clone().into_owned() } else { format!("{parent}/{shown}") };
        if LEFT_OUT.contains(&&*shown) || shown.ends_with(LEFT_OUT_ENDING) {
            return Ok(());
        }
        let unreadable = |source| ScanError::Unreadable { path: path.clone(), source };
        let kind = entry.file_type().map_err(unreadable)?;
        let is_folder = if kind.is_symlink() { entry.path().is_dir() } else { kind.is_dir() };
        let verdict = self.ignored.matched(&path, is_folder);
        if verdict.is_ignore() {
            return Ok(());
        }
        if !is_folder && holds_secrets(&shown) && !verdict.is_whitelist() {
            self.secrets.push(path);
            return Ok(());
        }
        if name.to_str().is_none() {
            return Err(ScanError::Path { path, reason: "is not UTF-8" });
        }
        let real = entry.path().canonicalize().map_err(unreadable)?;
        if !real.starts_with(&self.root) {
            return Err(ScanError::LinkOutside(path));
        }
        if real.is_dir() { self.folder(&real, &path) } else { self.file(&real, path) }
    }

    fn file(&mut self, real: &Path, path: String) -> Result<(), ScanError> {
        if let Some(reason) = fault(&path) {
            return Err(ScanError::Path { path, reason });
        }
        if self.files.len() >= FILES_MAX {
            return Err(ScanError::TooLarge { what: format!("the folder has more than {FILES_MAX} files") });
        }
        let unreadable = |source| ScanError::Unreadable { path: path.clone(), source };
        let metadata = fs::metadata(real).map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(ScanError::Special(path));
        }
        let (sha256, size) = hash(real).map_err(unreadable)?;
        if size > FILE_BYTES_MAX {
            return Err(ScanError::TooLarge { what: format!("{path} is larger than {FILE_BYTES_MAX} bytes") });
        }
        self.total += size;
        if self.total > TOTAL_BYTES_MAX {
            return Err(ScanError::TooLarge {
                what: format!("the files together are larger than {TOTAL_BYTES_MAX} bytes"),
            });
        }
        let executable = metadata.permissions().mode() & 0o100 != 0;
        self.files.push(ManifestFile { path, sha256, size, executable });
        Ok(())
    }
}

fn holds_secrets(name: &str) -> bool {
    let ending =
        name.strip_prefix(SECRETS).and_then(|rest| if rest.is_empty() { Some(rest) } else { rest.strip_prefix('.') });
    ending.is_some_and(|ending| !EXAMPLES.contains(&ending))
}

/// The digest and the size, both of the bytes that were read; stops one byte after the limit.
fn hash(path: &Path) -> io::Result<(String, u64)> {
    let mut file = fs::File::open(path)?.take(FILE_BYTES_MAX + 1);
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut size = 0;
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok((hex(&hasher.finalize()), size)),
            Ok(n) => {
                hasher.update(&chunk[..n]);
                size += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt, os::unix::fs::symlink};

    fn project(files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("demo");
        fs::create_dir(&root).unwrap();
        for (path, content) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        (outer, root)
    }

    fn paths(root: &Path) -> Vec<String> {
        let manifest = scan(root).unwrap().manifest;
        assert_eq!(manifest.validate(), Ok(Vec::new()));
        manifest.files.into_iter().map(|file| file.path).collect()
    }

    #[test]
    fn leaves_out_what_is_no_code() {
        let (_outer, root) = project(&[
            ("metadata.yaml", ""),
            ("data_loaders/load.py", "x"),
            ("data_loaders/__pycache__/load.cpython-39.pyc", "x"),
            ("old.pyc", "x"),
            (".git/HEAD", "x"),
            ("pipelines/p/.variables/x", "x"),
            ("big/data.csv", "x"),
            ("big/keep.csv", "x"),
            (".orreryignore", "big/*\n!big/keep.csv\n"),
        ]);
        assert_eq!(paths(&root), [".orreryignore", "big/keep.csv", "data_loaders/load.py", "metadata.yaml"]);
    }

    #[test]
    fn secrets_stay_at_home_unless_they_are_asked_for() {
        let (_outer, root) = project(&[
            (".env", "A=1"),
            ("utils/.env.production", "A=1"),
            (".env.example", ""),
            (".environment", ""),
            ("my.env", ""),
        ]);
        let scanned = scan(&root).unwrap();
        assert_eq!(scanned.secrets, [".env", "utils/.env.production"]);
        let warning = scanned.warning().unwrap();
        assert!(warning.contains(".env and 1 more") && warning.contains("`!.env`"), "{warning}");
        assert_eq!(paths(&root), [".env.example", ".environment", "my.env"]);
        fs::write(root.join(".orreryignore"), "!.env\nutils/.env.*\n").unwrap();
        assert_eq!(paths(&root), [".env", ".env.example", ".environment", ".orreryignore", "my.env"]);
        assert_eq!(scan(&root).unwrap().warning(), None);
    }

    #[test]
    fn content_and_mode_make_the_digest() {
        let (_outer, root) = project(&[("a.py", "print()"), ("b.sh", "true")]);
        let first = scan(&root).unwrap().manifest;
        assert_eq!((first.files[0].size, first.files[0].executable), (7, false));
        assert_eq!(first.files[0].sha256, crate::bundle::sha256_hex(b"print()"));
        assert_eq!(scan(&root).unwrap().manifest.digest(), first.digest());
        fs::set_permissions(root.join("b.sh"), fs::Permissions::from_mode(0o755)).unwrap();
        assert_ne!(scan(&root).unwrap().manifest.digest(), first.digest());
    }

    #[test]
    fn links_inside_are_followed_and_others_refused() {
        let (outer, root) = project(&[("lib/a.py", "x")]);
        symlink("lib", root.join("alias")).unwrap();
        assert_eq!(paths(&root), ["alias/a.py", "lib/a.py"]);
        symlink("..", root.join("lib/up")).unwrap();
        let loops = |all: &[ScanError]| all.iter().all(|error| matches!(error, ScanError::LinkLoop(_)));
        assert!(matches!(scan(&root), Err(ScanError::Several(all)) if all.len() == 2 && loops(&all)));
        fs::remove_file(root.join("lib/up")).unwrap();
        fs::write(outer.path().join("secret"), "s").unwrap();
        symlink("../secret", root.join("leak")).unwrap();
        assert!(matches!(scan(&root), Err(ScanError::LinkOutside(path)) if path == "leak"));
        fs::write(root.join(".orreryignore"), "leak\n").unwrap();
        assert_eq!(paths(&root), [".orreryignore", "alias/a.py", "lib/a.py"]);
    }

    #[test]
    fn all_that_is_refused_is_named_at_once() {
        let (outer, root) = project(&[("lib/a.py", "x"), ("a\\b", "x"), ("c\\d", "x")]);
        fs::write(outer.path().join("secret"), "s").unwrap();
        for link in ["leak", "lib/leak"] {
            symlink(outer.path().join("secret"), root.join(link)).unwrap();
        }
        symlink("..", root.join("lib/up")).unwrap();
        let told = scan(&root).unwrap_err().to_string();
        let lines: Vec<_> = told.lines().collect();
        assert_eq!(lines.len(), 6, "{told}");
        assert_eq!(lines[0], "5 things in the folder cannot be part of a bundle:");
        for (line, begins) in lines[1..].iter().zip(["leak is", "lib/leak is", "lib/up is", "the path", "the path"]) {
            assert!(line.starts_with(&format!("  {begins}")), "{told}");
        }
        for n in 0..2 * REFUSED_MAX {
            symlink(outer.path().join("secret"), root.join(format!("leak-{n}"))).unwrap();
        }
        let told = scan(&root).unwrap_err().to_string();
        assert!(told.starts_with("at least 20 things") && told.lines().count() == 21, "{told}");
    }

    #[test]
    fn what_is_no_folder_is_named_as_it_was_given() {
        let (_outer, root) = project(&[("a.py", "x")]);
        let file = root.join("a.py");
        let told = scan(&file).unwrap_err().to_string();
        assert!(told.starts_with(&format!("the project folder {} cannot be read: ", file.display())), "{told}");
    }

    #[test]
    fn names_that_no_bundle_carries() {
        let (_outer, root) = project(&[]);
        fs::write(root.join(OsStr::from_bytes(b"caf\xe9.py")), "x").unwrap();
        assert!(matches!(scan(&root), Err(ScanError::Path { reason: "is not UTF-8", .. })));
        let (_outer, root) = project(&[("a\\b", "x")]);
        assert!(matches!(scan(&root), Err(ScanError::Path { .. })));
        assert!(matches!(scan(&root.join("none")), Err(ScanError::Folder { .. })));
    }
}
