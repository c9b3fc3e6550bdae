//! Secrets that we hand out: random bits, of which a hash is kept only, compared in constant time. Refuses to know whose
//! they are.

pub(crate) use rpc::personal_token::{Fresh, generate, hash, is_prefix, secret, split};

use subtle::ConstantTimeEq as _;

/// Letters of one-time passwords: none that is taken for another.
const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// Each of 32 letters is 5 bits: 100 in all.
const ONE_TIME_LETTERS: usize = 20;

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
    fn no_two_one_time_passwords_are_the_same() {
        let password = one_time_password();
        assert!(password.len() == 23 && password != one_time_password());
    }
}
