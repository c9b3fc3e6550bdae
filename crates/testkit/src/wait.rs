//! Waiting for a level with a time-out.

use std::{fmt::Display, time::Duration};
use tokio::time::{Instant, sleep};

/// The first pause between two looks; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(2);
/// The longest pause between two looks.
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// Looks again and again until `look` answers `Some`, and returns what it found.
///
/// # Panics
/// After `timeout`, naming `what`.
pub async fn wait_for<T, F>(what: impl Display, timeout: Duration, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let end = Instant::now() + timeout;
    let mut pause = PAUSE_MIN;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < end, "waited {timeout:?} in vain for {what}");
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}
