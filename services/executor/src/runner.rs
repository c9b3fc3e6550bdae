//! The Python packages that ship inside this binary: `orrery_runner`, and the `mage_ai` interface that projects import.

use rust_embed::RustEmbed;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

#[derive(RustEmbed)]
#[folder = "python"]
#[include = "*.py"]
#[include = "base-requirements.txt"]
#[exclude = "tests/*"]
struct Packages;

/// The list of packages that every environment has.
const BASE_REQUIREMENTS: &str = "base-requirements.txt";

/// Where the runner lies, and what its environments must hold.
#[derive(Debug, Clone)]
pub struct Runner {
    /// For `PYTHONPATH`.
    pub folder: PathBuf,
    /// In the form of a requirements.txt.
    pub base_requirements: String,
}

/// Unpacks the packages below a folder, under the digest of their content.
///
/// # Errors
/// When the folder cannot be written.
pub fn unpack(below: &Path) -> io::Result<Runner> {
    let mut names: Vec<_> = Packages::iter().collect();
    names.sort_unstable();
    let mut identity = Vec::new();
    for name in &names {
        if let Some(file) = Packages::get(name) {
            identity.extend(file.metadata.sha256_hash());
        }
    }
    let digest: String = sha256(&identity).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let folder = below.join(digest);
    if !folder.join(".complete").exists() {
        for name in &names {
            let Some(file) = Packages::get(name) else { continue };
            let path = folder.join(name.as_ref());
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(path, file.data)?;
        }
        fs::write(folder.join(".complete"), "")?;
    }
    at(folder)
}

/// A runner that lies somewhere already: for development.
///
/// # Errors
/// When it is not there.
pub fn at(folder: PathBuf) -> io::Result<Runner> {
    let base_requirements = fs::read_to_string(folder.join(BASE_REQUIREMENTS))?;
    Ok(Runner { folder, base_requirements })
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).to_vec()
}
