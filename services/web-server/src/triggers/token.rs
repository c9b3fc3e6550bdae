//! Tokens of API triggers: `ptk_<id>_<secret>`, with an id of 64 bits to look them up by and a secret of 256. Only their
//! hash is kept. A token that a project's file brings may have any form; its id is then made from its hash.
//!
//! Refuses to tell why a token is not accepted.

use sha2::{Digest, Sha256};
use store::triggers::Token;
use subtle::ConstantTimeEq as _;

/// By which scanners of code and logs know such a token.
const PREFIX: &str = "ptk_";
/// Nothing longer is looked up.
pub(crate) const BYTES_MAX: usize = 256;

/// A new token and what is stored of it.
pub(crate) fn generate() -> (String, Token) {
    let (id, secret): (u64, [u8; 32]) = (rand::random(), rand::random());
    let token = format!("{PREFIX}{id:016x}_{}", hex(&secret));
    let stored = stored(&token);
    (token, stored)
}

/// What is stored of a token.
pub(crate) fn stored(token: &str) -> Token {
    let hash: [u8; 32] = Sha256::digest(token).into();
    Token { id: id(token, &hash), hash }
}

/// Whether a token has this hash, in a time that does not depend on how much of it does.
pub(crate) fn is_same(token: &Token, hash: &[u8]) -> bool {
    token.hash.ct_eq(hash).into()
}

fn id(token: &str, hash: &[u8; 32]) -> String {
    let own = token.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_')).map(|(id, _)| id);
    match own.filter(|id| id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit())) {
        Some(id) => id.to_owned(),
        // Half of the hash tells nothing of the token, and nobody finds another token with the same half.
        None => format!("f-{}", hex(&hash[..16])),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_by_its_hash_and_nothing_near_it_is() {
        let (token, kept) = generate();
        assert!(token.starts_with("ptk_") && token.len() == 4 + 16 + 1 + 64);
        assert!(is_same(&stored(&token), &kept.hash));
        for at in 0..token.len() {
            let mut other = token.clone().into_bytes();
            other[at] = if other[at] == b'0' { b'1' } else { b'0' };
            let other = stored(&String::from_utf8(other).unwrap());
            assert!(!is_same(&other, &kept.hash), "a change at {at}");
        }
        assert_ne!(generate().0, token);
        assert!(!is_same(&stored(""), &kept.hash) && !is_same(&kept, &[]));
    }

    #[test]
    fn a_foreign_token_has_an_id_of_its_own() {
        let (a, b) = (stored("0123456789abcdef0123456789abcdef"), stored("0123456789abcdef0123456789abcdee"));
        assert!(a.id != b.id && a.id.starts_with("f-"));
        // One that only looks like ours is no other.
        assert!(stored("ptk_zz_").id.starts_with("f-"));
    }
}
