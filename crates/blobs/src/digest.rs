//! SHA-256 in lower-case hexadecimal, and nothing else, as the name of content.

use crate::Error;
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// A digest that is being computed.
#[derive(Default)]
pub(crate) struct Hasher(Sha256);

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> String {
        self.0.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

/// The same digest, when it is one: it becomes part of a path.
pub(crate) fn checked(sha256: &str) -> Result<&str, Error> {
    let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if sha256.len() == 64 && sha256.bytes().all(is_hex) {
        Ok(sha256)
    } else {
        Err(Error::NotADigest(sha256.chars().take(80).collect()))
    }
}

/// Refuses what is no SHA-256 as it is written here: 64 lower-case hexadecimal digits.
///
/// # Errors
/// When it is none.
pub fn check_digest(sha256: &str) -> Result<(), Error> {
    checked(sha256).map(drop)
}

/// The hexadecimal part of a bundle's digest, which is written `sha256:<hex>`.
pub(crate) fn of_bundle(digest: &str) -> Result<&str, Error> {
    checked(digest.strip_prefix("sha256:").unwrap_or(digest))
}
