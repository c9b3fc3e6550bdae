//! The list of a bundle's files, and whether a list may be believed.

use super::{DEPTH_MAX, FILE_BYTES_MAX, FILES_MAX, NAME_BYTES_MAX, PATH_BYTES_MAX, TOTAL_BYTES_MAX, sha256_hex};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What a project folder holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The folder's own name: user code imports `<name>.utils.x`.
    pub project_name: String,
    /// Sorted by path when it comes from [`super::scan`]; a valid manifest may be in any order.
    pub files: Vec<ManifestFile>,
}

/// One file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestFile {
    /// Relative, `/`-separated, without `.` or `..`.
    pub path: String,
    /// Lower-case hexadecimal SHA-256 of the content.
    pub sha256: String,
    /// Bytes.
    pub size: u64,
    /// Whether its owner may execute it.
    pub executable: bool,
}

/// Why a manifest is refused. It names the path, never the content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Not a plain folder name.
    #[error("the project name {0:?} is not a folder name")]
    ProjectName(String),
    /// Leaves the bundle, or is no path at all.
    #[error("the path {path:?} {reason}")]
    Path {
        /// Shortened for display.
        path: String,
        /// Completes "the path …".
        reason: &'static str,
    },
    /// The same path twice.
    #[error("the path {0:?} is listed twice")]
    Duplicate(String),
    /// A path that another one needs as a folder.
    #[error("the path {0:?} is both a file and a folder")]
    FileAndFolder(String),
    /// Not 64 lower-case hexadecimal digits.
    #[error("the digest of {0:?} is not a lower-case SHA-256")]
    Digest(String),
    /// Over one of the limits.
    #[error("the bundle has {what}; {limit} is allowed")]
    TooLarge {
        /// What there is too much of.
        what: String,
        /// The limit.
        limit: u64,
    },
}

impl Manifest {
    /// The bundle's identity: `sha256:` and the SHA-256, in lower-case hexadecimal, of the canonical form.
    ///
    /// The canonical form is UTF-8 text, one line each, every line ended by `\n`:
    ///
    /// ```text
    /// orrery-bundle 1
    /// <project name>
    /// <sha256> <size in decimal> <x or -> <path>
    /// ```
    ///
    /// with one such last line per file, sorted by the bytes of the path. It is unambiguous for a manifest that
    /// [`Manifest::validate`] accepts, since neither names nor paths may hold control characters. The order of `files`
    /// does not matter; times, owners and other permissions are no part of it.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut files: Vec<&ManifestFile> = self.files.iter().collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let mut form = format!("orrery-bundle 1\n{}\n", self.project_name);
        for ManifestFile { path, sha256, size, executable } in files {
            let mode = if *executable { 'x' } else { '-' };
            form.push_str(&format!("{sha256} {size} {mode} {path}\n"));
        }
        format!("sha256:{}", sha256_hex(form.as_bytes()))
    }

    /// Bytes of all files together.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum, file| sum.saturating_add(file.size))
    }

    /// Judges a manifest, wherever it came from; answers warnings, such as two paths that differ only in case.
    ///
    /// # Errors
    /// On the first thing that makes it unsafe or ambiguous.
    pub fn validate(&self) -> Result<Vec<String>, Invalid> {
        if !is_name(&self.project_name) {
            return Err(Invalid::ProjectName(shorten(&self.project_name)));
        }
        check_limits(self)?;
        let mut paths = BTreeSet::new();
        for file in &self.files {
            if let Some(reason) = fault(&file.path) {
                return Err(Invalid::Path { path: shorten(&file.path), reason });
            }
            if !is_sha256(&file.sha256) {
                return Err(Invalid::Digest(shorten(&file.path)));
            }
            if !paths.insert(file.path.as_str()) {
                return Err(Invalid::Duplicate(shorten(&file.path)));
            }
        }
        check_folders(&paths)?;
        Ok(case_collisions(&paths))
    }
}

fn check_limits(manifest: &Manifest) -> Result<(), Invalid> {
    let over = |what: String, limit: u64| Err(Invalid::TooLarge { what, limit });
    if manifest.files.len() > FILES_MAX {
        return over(format!("{} files", manifest.files.len()), FILES_MAX as u64);
    }
    if let Some(file) = manifest.files.iter().find(|file| file.size > FILE_BYTES_MAX) {
        return over(format!("{:?} with {} bytes", shorten(&file.path), file.size), FILE_BYTES_MAX);
    }
    if manifest.total_bytes() > TOTAL_BYTES_MAX {
        return over(format!("{} bytes", manifest.total_bytes()), TOTAL_BYTES_MAX);
    }
    Ok(())
}

/// What is wrong with a path, to complete "the path …".
pub(super) fn fault(path: &str) -> Option<&'static str> {
    if path.is_empty() {
        return Some("is empty");
    }
    if path.len() > PATH_BYTES_MAX {
        return Some("is too long");
    }
    if path.starts_with('/') {
        return Some("is absolute");
    }
    if path.contains('\\') {
        return Some("has a backslash");
    }
    if path.chars().any(char::is_control) {
        return Some("has a control character");
    }
    let mut depth = 0;
    for name in path.split('/') {
        depth += 1;
        match name {
            "" => return Some("has an empty name"),
            "." | ".." => return Some("has `.` or `..` in it"),
            name if name.len() > NAME_BYTES_MAX => return Some("has a name that is too long"),
            _ => {}
        }
    }
    (depth > DEPTH_MAX).then_some("is nested too deeply")
}

fn is_name(name: &str) -> bool {
    fault(name).is_none() && !name.contains('/')
}

fn is_sha256(digest: &str) -> bool {
    digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn check_folders(paths: &BTreeSet<&str>) -> Result<(), Invalid> {
    for path in paths {
        for (at, _) in path.match_indices('/') {
            if paths.contains(&path[..at]) {
                return Err(Invalid::FileAndFolder(shorten(&path[..at])));
            }
        }
    }
    Ok(())
}

fn case_collisions<'a>(paths: &BTreeSet<&'a str>) -> Vec<String> {
    let mut by_lower: BTreeMap<String, &'a str> = BTreeMap::new();
    let collide = |path: &&'a str| {
        let first = by_lower.insert(path.to_lowercase(), *path)?;
        Some(format!("{first:?} and {path:?} differ only in case; some file systems keep only one of them"))
    };
    paths.iter().filter_map(collide).collect()
}

fn shorten(text: &str) -> String {
    if text.chars().count() <= 120 { text.to_owned() } else { text.chars().take(119).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::{Component, Path};

    fn file(path: &str) -> ManifestFile {
        ManifestFile {
            path: path.into(),
            sha256: sha256_hex(path.as_bytes()),
            size: path.len() as u64,
            executable: false,
        }
    }

    fn manifest(paths: &[&str]) -> Manifest {
        Manifest { project_name: "demo".into(), files: paths.iter().map(|path| file(path)).collect() }
    }

    /// The identity of bundles that are stored already must never change.
    #[test]
    fn the_digest_is_golden() {
        let mut manifest = manifest(&["metadata.yaml", "data_loaders/load.py", "data_loaders.md"]);
        manifest.files[1].executable = true;
        assert_eq!(manifest.digest(), "sha256:b7110523d0f4f9f9cd3ddf07c75e6410f69ff82341faf17d582b9428f0fe6e1a");
        manifest.files.reverse();
        assert_eq!(manifest.digest(), "sha256:b7110523d0f4f9f9cd3ddf07c75e6410f69ff82341faf17d582b9428f0fe6e1a");
        manifest.files[1].executable = false;
        assert_ne!(manifest.digest(), "sha256:b7110523d0f4f9f9cd3ddf07c75e6410f69ff82341faf17d582b9428f0fe6e1a");
    }

    #[test]
    fn refusals() {
        let long_name = "x".repeat(256);
        let deep = vec!["d"; 65].join("/");
        let bad = [
            "",
            "/etc/passwd",
            "..",
            "../x",
            "a/../../x",
            "a/./b",
            "a//b",
            "a/",
            "a\\b",
            "a\0b",
            "a\nb",
            &long_name,
            &deep,
        ];
        for path in bad {
            assert!(matches!(manifest(&["ok", path]).validate(), Err(Invalid::Path { .. })), "{path:?}");
        }
        assert_eq!(manifest(&["a", "a"]).validate(), Err(Invalid::Duplicate("a".into())));
        assert_eq!(manifest(&["a/b", "a"]).validate(), Err(Invalid::FileAndFolder("a".into())));
        for name in ["", ".", "..", "a/b", "a\\b", "a\nb"] {
            let manifest = Manifest { project_name: name.into(), ..manifest(&["a"]) };
            assert!(matches!(manifest.validate(), Err(Invalid::ProjectName(_))), "{name:?}");
        }
        let mut upper = manifest(&["a"]);
        upper.files[0].sha256 = upper.files[0].sha256.to_uppercase();
        assert_eq!(upper.validate(), Err(Invalid::Digest("a".into())));
        let mut large = manifest(&["a"]);
        large.files[0].size = u64::MAX;
        assert!(matches!(large.validate(), Err(Invalid::TooLarge { .. })));
        assert_eq!(manifest(&["a/B.py", "a/b.py", "c"]).validate().map(|w| w.len()), Ok(1));
    }

    proptest! {
        #[test]
        fn no_accepted_path_escapes(path in "(\\PC|[./\\\\\0]){0,40}") {
            if manifest(&[&path]).validate().is_ok() {
                let joined = Path::new("/base").join(&path);
                prop_assert!(joined.starts_with("/base"));
                prop_assert!(Path::new(&path).components().all(|part| matches!(part, Component::Normal(_))));
                prop_assert_eq!(Path::new(&path).components().count(), path.split('/').count());
            }
        }
    }
}
