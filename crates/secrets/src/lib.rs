//! Secrets at rest: a value is sealed with a key of its own, and that key with one of the cluster's. So the cluster's keys
//! change without any value being touched, and a stolen table opens nothing.
//!
//! Refuses to know where sealed values are kept, and who may open them.

mod keyring;

pub use keyring::{KeyFileError, Keyring};

use aes_gcm::{
    Aes256Gcm, KeyInit,
    aead::{Aead, Generate, Key, Nonce, Payload},
};
use domain::ErrorKind;
use zeroize::Zeroizing;

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;
/// Bytes of a nonce, before every sealed text.
const NONCE_BYTES: usize = 12;

/// What a sealed value belongs to: opened for anything else it does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// The project, workspace or pipeline.
    pub scope: &'a str,
    /// The secret's name.
    pub name: &'a str,
    /// Which of its values.
    pub version: i64,
}

impl Place<'_> {
    fn bytes(&self) -> Vec<u8> {
        format!("{}|{}|{}", self.scope, self.name, self.version).into_bytes()
    }
}

/// A sealed value and its sealed key. Neither tells anything without the cluster's key of this id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// The cluster's key.
    pub key_id: String,
    /// The value's own key, sealed with that.
    pub wrapped_key: Vec<u8>,
    /// The value, sealed with its own key.
    pub value: Vec<u8>,
}

impl Sealed {
    /// All three as one column.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(4 + self.key_id.len() + self.wrapped_key.len() + self.value.len());
        for part in [self.key_id.as_bytes(), &self.wrapped_key] {
            // Names of keys and wrapped keys are tens of bytes.
            let length = u16::try_from(part.len()).unwrap_or(u16::MAX);
            bytes.extend(length.to_be_bytes());
            bytes.extend(&part[..usize::from(length)]);
        }
        bytes.extend(&self.value);
        bytes
    }

    /// How [`Sealed::to_bytes`] begins for everything that this key seals, and for nothing else: by it a table is asked
    /// for what another key seals.
    #[must_use]
    pub fn begins(key_id: &str) -> Vec<u8> {
        Self { key_id: key_id.to_owned(), wrapped_key: Vec::new(), value: Vec::new() }.to_bytes()[..2 + key_id.len()]
            .to_vec()
    }

    /// Reads [`Sealed::to_bytes`].
    ///
    /// # Errors
    /// [`Error::Altered`] for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        fn part(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
            let (length, rest) = bytes.split_first_chunk::<2>()?;
            rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
        }
        let read = || {
            let (key_id, rest) = part(bytes)?;
            let (wrapped_key, value) = part(rest)?;
            let key_id = String::from_utf8(key_id.to_vec()).ok()?;
            Some(Self { key_id, wrapped_key: wrapped_key.to_vec(), value: value.to_vec() })
        };
        read().ok_or(Error::Altered)
    }
}

/// 256 random bits, as 64 hexadecimal digits.
#[must_use]
pub fn random_key() -> Zeroizing<String> {
    let bytes = Zeroizing::new(<[u8; KEY_BYTES]>::from(Key::<Aes256Gcm>::generate()));
    Zeroizing::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// What opens the application of a runtime, in one of its lives. `workspace` is the workspace's id as text.
#[must_use]
pub const fn access_key(workspace: &str, number: i64) -> Place<'_> {
    Place { scope: workspace, name: "runtime access key", version: number }
}

/// A value cannot be sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The cluster's key is not among those that this process was given.
    #[error("the secrets' key `{0}` is not in the file of keys; add it until every secret is rotated")]
    UnknownKey(String),
    /// Altered, moved to another place, or sealed with another key of the same id.
    #[error("a sealed secret does not open: it was altered, or its key was replaced under the same name")]
    Altered,
    /// The cipher refused, which it does not do for texts of our sizes.
    #[error("a secret cannot be sealed")]
    Cipher,
}

impl Error {
    /// What a caller can do about it.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownKey(_) => ErrorKind::FailedPrecondition,
            Self::Altered | Self::Cipher => ErrorKind::Internal,
        }
    }
}

impl Keyring {
    /// Seals a value for a place, with the first key.
    ///
    /// # Errors
    /// When the cipher refuses.
    pub fn seal(&self, place: &Place<'_>, value: &[u8]) -> Result<Sealed, Error> {
        let (key_id, master) = self.first();
        let own = Zeroizing::new(<[u8; KEY_BYTES]>::from(Key::<Aes256Gcm>::generate()));
        let value = seal(&own, &place.bytes(), value)?;
        let wrapped_key = seal(master, &wrapping(key_id, place), &*own)?;
        Ok(Sealed { key_id: key_id.to_owned(), wrapped_key, value })
    }

    /// Opens what was sealed for this place.
    ///
    /// # Errors
    /// When it was sealed for another place or by an unknown key, or was altered.
    pub fn open(&self, place: &Place<'_>, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, Error> {
        let own = self.unwrap(place, sealed)?;
        open(&own, &place.bytes(), &sealed.value)
    }

    /// The same value with its key sealed by the first key; the value itself is not opened.
    ///
    /// # Errors
    /// As [`Keyring::open`].
    pub fn rewrap(&self, place: &Place<'_>, sealed: &Sealed) -> Result<Sealed, Error> {
        let own = self.unwrap(place, sealed)?;
        let (key_id, master) = self.first();
        let wrapped_key = seal(master, &wrapping(key_id, place), &*own)?;
        Ok(Sealed { key_id: key_id.to_owned(), wrapped_key, value: sealed.value.clone() })
    }

    fn unwrap(&self, place: &Place<'_>, sealed: &Sealed) -> Result<Zeroizing<[u8; KEY_BYTES]>, Error> {
        let master = self.get(&sealed.key_id).ok_or_else(|| Error::UnknownKey(sealed.key_id.clone()))?;
        let own = open(master, &wrapping(&sealed.key_id, place), &sealed.wrapped_key)?;
        <[u8; KEY_BYTES]>::try_from(own.as_slice()).map(Zeroizing::new).map_err(|_| Error::Altered)
    }
}

/// What a wrapped key is bound to: it must not open under another value, or in the name of another key.
fn wrapping(key_id: &str, place: &Place<'_>) -> Vec<u8> {
    [key_id.as_bytes(), b"|", &place.bytes()].concat()
}

fn seal(key: &[u8; KEY_BYTES], aad: &[u8], text: &[u8]) -> Result<Vec<u8>, Error> {
    let nonce = Nonce::<Aes256Gcm>::generate();
    let sealed = Aes256Gcm::new(key.into()).encrypt(&nonce, Payload { msg: text, aad }).map_err(|_| Error::Cipher)?;
    Ok([nonce.as_slice(), &sealed].concat())
}

fn open(key: &[u8; KEY_BYTES], aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
    let (nonce, text) = sealed.split_at_checked(NONCE_BYTES).ok_or(Error::Altered)?;
    let nonce = Nonce::<Aes256Gcm>::try_from(nonce).map_err(|_| Error::Altered)?;
    let opened = Aes256Gcm::new(key.into()).decrypt(&nonce, Payload { msg: text, aad });
    opened.map(Zeroizing::new).map_err(|_| Error::Altered)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place<'_> = Place { scope: "workspace:w", name: "PASSWORD", version: 1 };

    fn keyring(keys: &[(&str, u8)]) -> Keyring {
        let text: String =
            keys.iter().map(|(id, byte)| format!("{id}:{}\n", format!("{byte:02x}").repeat(32))).collect();
        Keyring::parse(&text).unwrap()
    }

    #[test]
    fn a_value_opens_in_its_place_only() {
        let keys = keyring(&[("one", 1)]);
        let sealed = keys.seal(&PLACE, b"hunter2").unwrap();
        assert_eq!(&*keys.open(&PLACE, &sealed).unwrap(), b"hunter2");
        for place in [
            Place { scope: "workspace:x", ..PLACE },
            Place { name: "PASSWORT", ..PLACE },
            Place { version: 2, ..PLACE },
        ] {
            assert_eq!(keys.open(&place, &sealed), Err(Error::Altered), "{place:?}");
        }
        assert_ne!(keys.seal(&PLACE, b"hunter2").unwrap(), sealed, "two seals of one value look alike");
    }

    #[test]
    fn one_column_holds_a_sealed_value() {
        let sealed = keyring(&[("one", 1)]).seal(&PLACE, b"hunter2").unwrap();
        let bytes = sealed.to_bytes();
        assert!(bytes.starts_with(&Sealed::begins("one")) && !bytes.starts_with(&Sealed::begins("on")));
        assert_eq!(Sealed::from_bytes(&bytes), Ok(sealed));
        assert_eq!(Sealed::from_bytes(&bytes[..10]), Err(Error::Altered));
    }

    #[test]
    fn every_bit_counts() {
        let keys = keyring(&[("one", 1)]);
        let sealed = keys.seal(&PLACE, b"hunter2").unwrap();
        for at in 0..sealed.value.len() {
            let mut altered = sealed.clone();
            altered.value[at] ^= 1;
            assert_eq!(keys.open(&PLACE, &altered), Err(Error::Altered), "value {at}");
        }
        for at in 0..sealed.wrapped_key.len() {
            let mut altered = sealed.clone();
            altered.wrapped_key[at] ^= 1;
            assert_eq!(keys.open(&PLACE, &altered), Err(Error::Altered), "key {at}");
        }
        let short = Sealed { value: vec![0; 3], ..sealed };
        assert_eq!(keys.open(&PLACE, &short), Err(Error::Altered));
    }

    #[test]
    fn keys_change_while_values_stay() {
        let old = keyring(&[("one", 1)]);
        let both = keyring(&[("two", 2), ("one", 1)]);
        let new = keyring(&[("two", 2)]);
        let sealed = old.seal(&PLACE, b"v").unwrap();
        let rotated = both.rewrap(&PLACE, &sealed).unwrap();
        assert_eq!((rotated.key_id.as_str(), &rotated.value), ("two", &sealed.value));
        assert_eq!(&*new.open(&PLACE, &rotated).unwrap(), b"v");
        assert_eq!(new.open(&PLACE, &sealed), Err(Error::UnknownKey("one".into())));
        // Another key under the old name is noticed.
        assert_eq!(keyring(&[("one", 3)]).open(&PLACE, &sealed), Err(Error::Altered));
    }
}
