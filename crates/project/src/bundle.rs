//! A project folder as an immutable, content-addressed bundle.
//!
//! [`scan`] lists and hashes what belongs to it; [`Manifest::validate`] judges a list that came over the wire. Refuses
//! to know where the content is stored.

mod manifest;
mod scan;

pub use manifest::{Invalid, Manifest, ManifestFile};
pub use scan::{ScanError, Scanned, scan};

use sha2::{Digest, Sha256};

/// Files of one bundle.
pub const FILES_MAX: usize = 20_000;
/// Size of one file, bytes.
pub const FILE_BYTES_MAX: u64 = 256 << 20;
/// Size of all files together, bytes.
pub const TOTAL_BYTES_MAX: u64 = 2 << 30;
/// Length of one path, bytes.
pub const PATH_BYTES_MAX: usize = 1_024;
/// Length of one name between slashes, bytes: what file systems allow.
pub const NAME_BYTES_MAX: usize = 255;
/// Nesting of folders.
pub const DEPTH_MAX: usize = 64;
/// The file with further patterns to leave out, in the syntax of `.gitignore`.
pub const IGNORE_FILE: &str = ".orreryignore";

/// The SHA-256 of the bytes in lower-case hexadecimal.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]]).map(char::from).collect()
}
