//! Logical keys: what names a firing among all firings of its trigger, forever.
//!
//! A key is a wire format between versions of this program. It is stored, and `(trigger, key)` is what makes that nothing
//! fires twice: replicas of two versions that named one time by two keys would both fire it, and every stored time that is
//! still to be caught up with would fire once more after the upgrade. So a form that is here never changes; a new kind of
//! firing gets a form of its own. `tests/triggers/keys.rs` holds each to the letter.

use crate::id::RunId;
use jiff::Timestamp;
use uuid::Uuid;

/// The most bytes of a key.
pub const BYTES_MAX: usize = 255;
/// The only firing of an `@once` that was never set anew.
pub const ONCE: &str = "once";

/// A nominal time of a schedule or of a backfill, before any jitter, in milliseconds since 1970.
#[must_use]
pub fn of_time(nominal: Timestamp) -> String {
    format!("at:{}", nominal.as_millisecond())
}

/// The only firing of `@once` as it was set by this version of its trigger; 1 is the first.
#[must_use]
pub fn of_once(version: i64) -> String {
    match version {
        ..=1 => ONCE.to_owned(),
        version => format!("{ONCE}:{version}"),
    }
}

/// A run of `@always_on`, by when it became due.
#[must_use]
pub fn of_always_on(due: Timestamp) -> String {
    format!("always:{}", due.as_millisecond())
}

/// A request or a call, by the idempotency key that its client chose; `fresh` names one whose client chose none.
#[must_use]
pub fn of_request(idempotency_key: &str, fresh: impl FnOnce() -> Uuid) -> String {
    match idempotency_key {
        "" => format!("request:{}", fresh()),
        key => format!("key:{key}"),
    }
}

/// An event, by the idempotency key that its source chose; `fresh` names one whose source chose none.
#[must_use]
pub fn of_event(idempotency_key: &str, fresh: impl FnOnce() -> Uuid) -> String {
    match idempotency_key {
        "" => format!("event:{}", fresh()),
        key => format!("event-key:{key}"),
    }
}

/// A key of the same kind as this one of a request or an event, which nobody chose: for a start that is only told of, and
/// leaves the key that its client chose free.
#[must_use]
pub fn unchosen(key: &str, fresh: impl FnOnce() -> Uuid) -> String {
    if key.starts_with("event") { of_event("", fresh) } else { of_request("", fresh) }
}

/// A run that user code starts: by the run, the block and its child (-1 for none) that ask, and by what they call it.
#[must_use]
pub fn of_child(parent: RunId, block: &str, child: i32, key: &str) -> String {
    format!("{parent}/{block}/{child}/{key}")
}

/// What a key of [`of_successor`] begins with.
pub const SUCCESSOR: &str = "after:";

/// A run that takes the place of one that user code started and that failed: by that run, so that there is one, whoever asks.
#[must_use]
pub fn of_successor(failed: RunId) -> String {
    format!("{SUCCESSOR}{failed}")
}

/// What a key of [`of_repetition`] begins with.
pub const REPETITION: &str = "again:";

/// A run that is made again as a whole, below what the former one was made by: by the former one, and by the key of the
/// request. No other form begins like this, whatever is retried and whatever keys its callers choose.
#[must_use]
pub fn of_repetition(former: RunId, request: &str) -> String {
    format!("{REPETITION}{former}:{request}")
}

/// The least and the greatest key of [`of_product`].
pub const PRODUCTS: (&str, &str) = ("product:000000000000", "product:999999999999");

/// The n-th refresh of the global data product that a pipeline is; of as many digits as the last one will need, so that keys
/// are in the order of their numbers.
#[must_use]
pub fn of_product(number: u64) -> String {
    format!("product:{number:012}")
}

/// The number in a key of [`of_product`].
#[must_use]
pub fn number_of_product(key: &str) -> Option<u64> {
    key.strip_prefix("product:")?.parse().ok()
}

/// Whether a key that somebody else chose, wholly or in part, can be stored: 1 to [`BYTES_MAX`] bytes, and no NUL, which
/// PostgreSQL does not take.
#[must_use]
pub fn is_storable(key: &str) -> bool {
    (1..=BYTES_MAX).contains(&key.len()) && !key.contains('\0')
}
