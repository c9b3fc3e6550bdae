//! Pages of a list: how many rows, and where the next page begins. Refuses to know the lists.
//!
//! A token holds the keys of the last row seen, for the list and filter that it was made for. It guards against mistakes,
//! not against attacks: whoever changes one sees what the same caller may see anyway.

use crate::status::Problem;
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;

/// Rows of a page when nobody asks for a number.
pub const PAGE_SIZE_DEFAULT: usize = 50;
/// The most rows of a page; a wish for more gets this many.
pub const PAGE_SIZE_MAX: usize = 500;
/// The longest token.
const TOKEN_BYTES_MAX: usize = 2048;
const VERSION: u8 = 1;
const SUM_BYTES: usize = 8;

/// The number of rows for a wish; zero wishes nothing.
///
/// # Errors
/// A negative number.
pub fn page_size(requested: i32) -> Result<usize, Problem> {
    match usize::try_from(requested) {
        Ok(0) => Ok(PAGE_SIZE_DEFAULT),
        Ok(wish) => Ok(wish.min(PAGE_SIZE_MAX)),
        Err(_) => Err(Problem::invalid("page_size", "must not be negative").remedy("leave it out for 50 rows")),
    }
}

/// The token for the page after `keys`. `scope` names the list and everything that selects and orders its rows.
///
/// # Errors
/// Keys that JSON cannot hold, or too long ones: a fault of the caller's.
pub fn encode<K: Serialize>(scope: &str, keys: &K) -> Result<String, Problem> {
    let fault = || Problem::new(domain::ErrorKind::Internal, "PAGE_TOKEN", "the next page cannot be named");
    let keys = serde_json::to_vec(keys).map_err(|_| fault())?;
    let mut token = String::new();
    let sum = sum(scope, &keys);
    for byte in [VERSION].iter().chain(&sum).chain(&keys) {
        // Writing to a String cannot fail.
        let _ = write!(token, "{byte:02x}");
    }
    if token.len() > TOKEN_BYTES_MAX { Err(fault()) } else { Ok(token) }
}

/// The keys in a token, `None` for the first page (the empty token).
///
/// # Errors
/// Tokens of another list, filter or version, and altered ones.
pub fn decode<K: DeserializeOwned>(scope: &str, token: &str) -> Result<Option<K>, Problem> {
    if token.is_empty() {
        return Ok(None);
    }
    let refuse = || {
        Problem::invalid("page_token", "is not one that this list gave for this filter")
            .remedy("begin with the first page, or repeat the filter of the page before")
    };
    let bytes = bytes(token).ok_or_else(refuse)?;
    let (version, rest) = bytes.split_first().ok_or_else(refuse)?;
    let (given, keys) = rest.split_at_checked(SUM_BYTES).ok_or_else(refuse)?;
    if *version != VERSION || given != sum(scope, keys) {
        return Err(refuse());
    }
    serde_json::from_slice(keys).map(Some).map_err(|_| refuse())
}

fn sum(scope: &str, keys: &[u8]) -> [u8; SUM_BYTES] {
    let digest =
        Sha256::new().chain_update([VERSION]).chain_update(scope).chain_update([0]).chain_update(keys).finalize();
    std::array::from_fn(|i| digest[i])
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    if hex.len() > TOKEN_BYTES_MAX || !hex.len().is_multiple_of(2) {
        return None;
    }
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    hex.as_bytes().chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    type Keys = (i64, String);

    #[test]
    fn keys_come_back() {
        let keys: Keys = (-7, "é/x".into());
        let token = encode("runs:failed", &keys).unwrap();
        assert!(token.bytes().all(|b| b.is_ascii_alphanumeric()));
        assert_eq!(decode::<Keys>("runs:failed", &token), Ok(Some(keys)));
        assert_eq!(decode::<Keys>("runs:failed", ""), Ok(None));
    }

    #[test]
    fn tokens_of_other_lists_types_and_hands_are_refused() {
        let token = encode("runs", &(1, "x")).unwrap();
        assert!(decode::<Keys>("runs:failed", &token).is_err());
        assert!(decode::<Vec<u8>>("runs", &token).is_err());
        for at in 0..token.len() {
            let mut altered = token.clone().into_bytes();
            altered[at] = if altered[at] == b'0' { b'1' } else { b'0' };
            assert!(decode::<Keys>("runs", &String::from_utf8(altered).unwrap()).is_err(), "{at}");
        }
        for junk in ["0", "é", "zz", "01", &"0".repeat(10_000), &token[..token.len() - 2]] {
            assert_eq!(decode::<Keys>("runs", junk).unwrap_err().violations[0].field, "page_token");
        }
        assert!(encode("runs", &"x".repeat(4096)).is_err());
    }

    #[test]
    fn sizes_are_bounded() {
        assert_eq!([0, 1, 500, 501, i32::MAX].map(|n| page_size(n).unwrap()), [50, 1, 500, 500, 500]);
        assert!(page_size(-1).is_err());
    }
}
