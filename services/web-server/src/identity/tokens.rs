//! Secrets that we hand out: 256 random bits, kept as SHA-256 only, compared in constant time. Random bits need no slow
//! hash. Refuses to know whose they are.

use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use subtle::ConstantTimeEq as _;

/// What every personal token begins with, so that scanners of source code know one when they see it.
pub(crate) const MARK: &str = "orr_";
/// Random bytes by which the row is found; no secret.
const PREFIX_BYTES: usize = 6;
/// The secret.
const SECRET_BYTES: usize = 32;
/// Letters of one-time passwords: none that is taken for another.
const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// Each of 32 letters is 5 bits: 100 in all.
const ONE_TIME_LETTERS: usize = 20;

/// A token that was made just now.
pub(crate) struct Fresh {
    /// All of it, for its owner and nobody else.
    pub(crate) text: String,
    /// How it begins.
    pub(crate) prefix: String,
    /// Of its secret part.
    pub(crate) secret_hash: [u8; 32],
}

/// A new personal token.
pub(crate) fn generate() -> Fresh {
    let prefix = format!("{MARK}{}", hex(&rand::random::<[u8; PREFIX_BYTES]>()));
    let secret = secret();
    Fresh { text: format!("{prefix}_{secret}"), secret_hash: hash(&secret), prefix }
}

/// The parts of a personal token: what finds it, and what proves it.
pub(crate) fn split(token: &str) -> Option<(&str, &str)> {
    let (prefix, secret) = token.rsplit_once('_')?;
    let well_formed = prefix.len() == MARK.len() + 2 * PREFIX_BYTES
        && prefix.starts_with(MARK)
        && secret.len() == 2 * SECRET_BYTES
        && secret.bytes().all(|b| b.is_ascii_hexdigit());
    well_formed.then_some((prefix, secret))
}

/// 256 random bits as text.
pub(crate) fn secret() -> String {
    hex(&rand::random::<[u8; SECRET_BYTES]>())
}

/// What is stored of a secret.
pub(crate) fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret).into()
}

/// Whether a secret is the one of this hash, in a time that does not tell how much of it was right.
pub(crate) fn matches(secret: &str, known_hash: &[u8]) -> bool {
    hash(secret).ct_eq(known_hash).into()
}

/// A password for one use, easy to type.
pub(crate) fn one_time_password() -> String {
    let bytes: [u8; ONE_TIME_LETTERS] = rand::random();
    let letter = |byte: &u8| char::from(LETTERS[usize::from(*byte) % LETTERS.len()]);
    let groups: Vec<String> = bytes.chunks(5).map(|group| group.iter().map(letter).collect()).collect();
    groups.join("-")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_found_by_one_part_and_proved_by_the_other() {
        let token = generate();
        let (prefix, secret) = split(&token.text).unwrap();
        assert_eq!(prefix, token.prefix);
        assert!(matches(secret, &token.secret_hash) && !token.text[..prefix.len()].contains(secret));
        for at in 0..token.text.len() {
            let mut altered = token.text.clone().into_bytes();
            altered[at] = if altered[at] == b'0' { b'1' } else { b'0' };
            let altered = String::from_utf8(altered).unwrap();
            let accepted = split(&altered)
                .is_some_and(|(prefix, secret)| prefix == token.prefix && matches(secret, &token.secret_hash));
            assert!(!accepted, "{at}");
        }
    }

    #[test]
    fn rubbish_is_no_token() {
        for rubbish in ["", "orr_", "orr_0123456789ab", "orr_0123456789ab_", "_", "orr_0123456789ab_zz"] {
            assert_eq!(split(rubbish), None, "{rubbish}");
        }
        let password = one_time_password();
        assert!(password.len() == 23 && password != one_time_password());
    }
}
