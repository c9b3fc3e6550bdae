//! Personal tokens: what they look like, and what a server keeps of them. Whoever makes one, a server or a program that a
//! person lets in, makes it here. Refuses to know whose they are.

use sha2::{Digest, Sha256};
use std::fmt::Write as _;

/// What every personal token begins with, so that scanners of source code know one when they see it.
pub const MARK: &str = "orr_";
/// Random bytes by which a token is found; no secret.
const PREFIX_BYTES: usize = 6;
/// The secret.
const SECRET_BYTES: usize = 32;

/// A token that was made just now. It has no `Debug`, since it is shown to its owner and to nobody else.
pub struct Fresh {
    /// All of it.
    pub text: String,
    /// How it begins: what it is found and listed by.
    pub prefix: String,
    /// The SHA-256 of its secret part: all that a server keeps.
    pub secret_hash: [u8; 32],
}

/// A new personal token of 256 random bits.
#[must_use]
pub fn generate() -> Fresh {
    let prefix = format!("{MARK}{}", hex(&rand::random::<[u8; PREFIX_BYTES]>()));
    let secret = secret();
    Fresh { text: format!("{prefix}_{secret}"), secret_hash: hash(&secret), prefix }
}

/// The parts of a personal token: what finds it, and what proves it. `None` for what is no such token.
#[must_use]
pub fn split(token: &str) -> Option<(&str, &str)> {
    let (prefix, secret) = token.rsplit_once('_')?;
    (is_prefix(prefix) && is_hex(secret, SECRET_BYTES)).then_some((prefix, secret))
}

/// Whether a token may begin so.
#[must_use]
pub fn is_prefix(text: &str) -> bool {
    text.strip_prefix(MARK).is_some_and(|digits| is_hex(digits, PREFIX_BYTES))
}

/// What a person compares who lets a program in: the digits of a token's beginning, in groups, as `1A2B-3C4D-5E6F`.
#[must_use]
pub fn code(prefix: &str) -> String {
    let digits = prefix.strip_prefix(MARK).unwrap_or(prefix).to_ascii_uppercase();
    let groups: Vec<String> =
        digits.chars().collect::<Vec<_>>().chunks(4).map(|group| group.iter().collect()).collect();
    groups.join("-")
}

/// 256 random bits as text.
#[must_use]
pub fn secret() -> String {
    hex(&rand::random::<[u8; SECRET_BYTES]>())
}

/// What is stored of a secret. Random bits need no slow hash.
#[must_use]
pub fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret).into()
}

/// Bytes as hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The hash that these 64 hexadecimal digits stand for; `None` for anything else.
#[must_use]
pub fn hash_from_hex(digits: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    if !is_hex(digits, hash.len()) {
        return None;
    }
    for (at, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(hash)
}

fn is_hex(text: &str, bytes: usize) -> bool {
    text.len() == 2 * bytes && text.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rubbish_is_no_token() {
        for rubbish in ["", "orr_", "orr_0123456789ab", "orr_0123456789ab_", "_", "orr_0123456789ab_zz"] {
            assert_eq!(split(rubbish), None, "{rubbish}");
        }
        for rubbish in
            ["orr_0123456789a", "orr_0123456789abc", "orr_0123456789ag", "ghp_0123456789ab", "orr_01234567é9a"]
        {
            assert!(!is_prefix(rubbish), "{rubbish}");
        }
        let fresh = generate();
        assert_eq!(split(&fresh.text).unwrap().0, fresh.prefix);
        assert_eq!(hash_from_hex(&hex(&fresh.secret_hash)), Some(fresh.secret_hash));
        for rubbish in ["", "0", &"0".repeat(63), &"0".repeat(65), &"g".repeat(64), &"é".repeat(32)] {
            assert_eq!(hash_from_hex(rubbish), None, "{rubbish}");
        }
        assert_eq!(code("orr_0123456789ab"), "0123-4567-89AB");
    }
}
