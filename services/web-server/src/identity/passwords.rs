//! Passwords: hashed slowly, a few at a time, and guessed at a named rate at most. Refuses to know where they are kept.

use crate::fault::Fault;
use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, PasswordHasher, PasswordVerifier};
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// The shortest password that a person may choose.
pub(crate) const CHARS_MIN: usize = 12;
/// A longer one is refused before it costs anything.
pub(crate) const BYTES_MAX: usize = 256;
/// Hashes at once: each takes 19 MiB and some 20 ms of a core.
const HASHES_MAX: usize = 2;
/// Passwords that wait for their hash; at two at once a second and a half.
const WAITING_MAX: usize = 128;
/// Wrong passwords of one address within [`WINDOW`].
const FAILURES_MAX: u32 = 10;
const WINDOW: Duration = Duration::from_secs(5 * 60);
/// Addresses that are remembered.
const ADDRESSES_MAX: usize = 10_000;

static HASHES: Semaphore = Semaphore::const_new(HASHES_MAX);
static WAITING: Semaphore = Semaphore::const_new(WAITING_MAX);

/// What is compared with when there is no such person, so that an answer takes as long.
static NOBODY: LazyLock<Option<String>> = LazyLock::new(|| of("nobody's password").ok());

/// Refuses what no password may be.
pub(crate) fn check(password: &str, field: &'static str) -> Result<(), Fault> {
    if password.chars().count() < CHARS_MIN || password.len() > BYTES_MAX {
        return Err(Fault::field(
            field,
            format!("must have {CHARS_MIN} characters or more, and at most {BYTES_MAX} bytes"),
        ));
    }
    Ok(())
}

/// The PHC string of a password. Not cancelled once it has begun.
///
/// # Errors
/// When hashing fails, which is a fault of ours.
pub(crate) async fn hash(password: String) -> Result<String, Fault> {
    let hashed = in_place(move || of(&password)).await?;
    hashed.map_err(|e| Fault::internal(&e))
}

/// Whether a password is the one of this hash; `None` takes as long and is never right.
///
/// # Errors
/// When hashing fails, which is a fault of ours.
pub(crate) async fn verify(password: String, hash: Option<String>) -> Result<bool, Fault> {
    if password.len() > BYTES_MAX {
        return Ok(false);
    }
    let verify = move || {
        let known = hash.is_some();
        let Some(hash) = hash.or_else(|| NOBODY.clone()) else { return false };
        let right = PasswordHash::new(&hash)
            .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok());
        known && right
    };
    in_place(verify).await
}

/// Hashes in its turn; nobody waits where too many do. The turn lasts as long as the hashing, whoever still waits for it.
async fn in_place<T: Send + 'static>(hash: impl FnOnce() -> T + Send + 'static) -> Result<T, Fault> {
    let busy = |_| Fault::busy("TOO_MANY_SIGN_INS", "too many people sign in; try again soon", Fault::SOON);
    let waiting = WAITING.try_acquire().map_err(busy)?;
    let place = HASHES.acquire().await.map_err(|e| Fault::internal(&e))?;
    drop(waiting);
    let hashed = spawn_blocking(move || {
        let _place = place;
        hash()
    });
    hashed.await.map_err(|e| Fault::internal(&e))
}

fn of(password: &str) -> Result<String, argon2::password_hash::Error> {
    Ok(Argon2::default().hash_password(password.as_bytes())?.to_string())
}

/// Wrong passwords by address, in this process.
#[derive(Default)]
pub(crate) struct Guesses(Mutex<HashMap<String, (Instant, u32)>>);

impl Guesses {
    /// Counts a try, which is taken for wrong until it is [forgiven](Self::forgive): so tries that are made at once count as well.
    /// Refuses an address with too many of late.
    pub(crate) fn take(&self, email: &str, now: Instant) -> Result<(), Fault> {
        let mut guesses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if guesses.len() >= ADDRESSES_MAX {
            guesses.retain(|_, (since, _)| now.duration_since(*since) < WINDOW);
        }
        if guesses.len() >= ADDRESSES_MAX && !guesses.contains_key(email) {
            // Whoever tries many addresses does not crowd out the one that is tried again and again.
            let least =
                guesses.iter().min_by_key(|(_, (since, tries))| (*tries, *since)).map(|(email, _)| email.clone());
            if let Some(least) = least {
                guesses.remove(&least);
            }
        }
        let entry = guesses.entry(email.to_owned()).or_insert((now, 0));
        if now.duration_since(entry.0) >= WINDOW {
            *entry = (now, 0);
        }
        if entry.1 >= FAILURES_MAX {
            let message = "there were too many wrong passwords; wait five minutes, or ask an admin for a new one";
            let wait = WINDOW.saturating_sub(now.duration_since(entry.0));
            return Err(Fault::busy("TOO_MANY_SIGN_INS", message, wait));
        }
        entry.1 += 1;
        Ok(())
    }

    /// Takes back a try that nobody could answer: it has told nothing about the password.
    pub(crate) fn give_back(&self, email: &str) {
        let mut guesses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, tries)) = guesses.get_mut(email) {
            *tries = tries.saturating_sub(1);
        }
    }

    /// Forgets the tries of an address after a right one.
    pub(crate) fn forgive(&self, email: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(email);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[tokio::test]
    async fn a_hash_proves_its_password_only() {
        let hash = hash("correct horse battery".to_owned()).await.unwrap();
        assert!(hash.starts_with("$argon2id$") && !hash.contains("horse"));
        assert!(verify("correct horse battery".to_owned(), Some(hash.clone())).await.unwrap());
        assert!(!verify("correct horse batterx".to_owned(), Some(hash)).await.unwrap());
        assert!(!verify("nobody's password".to_owned(), None).await.unwrap());
        // Whoever gives up waiting leaves the turn to the hashing, which goes on.
        assert!(super::hash("correct horse battery".to_owned()).now_or_never().is_none());
        assert_eq!(HASHES.available_permits(), HASHES_MAX - 1);
        let all = HASHES.acquire_many(u32::try_from(HASHES_MAX).unwrap());
        assert!(tokio::time::timeout(WINDOW, all).await.is_ok());
    }

    #[test]
    fn guessing_ends_and_begins_again() {
        let (guesses, now) = (Guesses::default(), Instant::now());
        // None of them has been answered yet.
        for _ in 0..FAILURES_MAX {
            assert!(guesses.take("a@b.c", now).is_ok());
        }
        assert!(guesses.take("a@b.c", now).is_err() && guesses.take("x@b.c", now).is_ok());
        assert!(guesses.take("a@b.c", now + WINDOW).is_ok());
        guesses.forgive("a@b.c");
        assert!(guesses.take("a@b.c", now).is_ok());
    }

    #[test]
    fn addresses_without_number_do_not_hide_the_one_that_is_guessed() {
        let (guesses, now) = (Guesses::default(), Instant::now());
        let take = |email: &str| guesses.take(email, now).is_ok();
        assert!((0..2).all(|_| take("a@b.c")));
        assert!((0..ADDRESSES_MAX + 20).all(|other| take(&format!("{other}@b.c"))));
        assert!((2..FAILURES_MAX).all(|_| take("a@b.c")) && !take("a@b.c"), "it was counted from the first on");
        // One that comes late is counted as well.
        assert!((0..FAILURES_MAX).all(|_| take("x@b.c")) && !take("x@b.c"));
        assert_eq!(guesses.0.lock().unwrap().len(), ADDRESSES_MAX);
    }

    #[test]
    fn short_and_huge_passwords_are_refused() {
        assert!(check("elevenchars", "p").is_err() && check("twelve chars", "p").is_ok());
        assert!(check(&"x".repeat(BYTES_MAX + 1), "p").is_err());
    }
}
