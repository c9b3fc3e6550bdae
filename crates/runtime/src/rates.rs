//! How often a credential may be used: a bucket of calls for each, which refills with time. Counts in this process; what must
//! hold for a whole cluster is counted by whoever owns the thing that is used. Refuses to know what is called.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The most credentials that are remembered; a full bucket is worth no memory, so those go first.
const BUCKETS_MAX: usize = 10_000;

/// Buckets by the public id of a credential.
#[derive(Debug, Default)]
pub struct Rates {
    buckets: Mutex<HashMap<String, Bucket>>,
}

#[derive(Debug)]
struct Bucket {
    per_second: f64,
    left: f64,
    at: Instant,
}

impl Rates {
    /// Takes one call of so many a second, at least one, and twice as many at once.
    ///
    /// # Errors
    /// How long to wait for one.
    pub fn take(&self, id: &str, per_second: u32, now: Instant) -> Result<(), Duration> {
        let per_second = f64::from(per_second.max(1));
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= BUCKETS_MAX && !buckets.contains_key(id) {
            buckets.retain(|_, bucket| bucket.filled(now) < bucket.most());
            if buckets.len() >= BUCKETS_MAX {
                // So many at work at once: better a short memory than an endless one.
                buckets.clear();
            }
        }
        let new = || Bucket { per_second, left: per_second * 2.0, at: now };
        let bucket = buckets.entry(id.to_owned()).or_insert_with(new);
        bucket.per_second = per_second;
        bucket.left = bucket.filled(now);
        bucket.at = now;
        if bucket.left < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - bucket.left) / per_second));
        }
        bucket.left -= 1.0;
        Ok(())
    }
}

impl Bucket {
    fn most(&self) -> f64 {
        self.per_second * 2.0
    }

    fn filled(&self, now: Instant) -> f64 {
        (self.left + now.saturating_duration_since(self.at).as_secs_f64() * self.per_second).min(self.most())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_bucket_empties_and_fills_and_is_nobody_elses() {
        let (rates, now) = (Rates::default(), Instant::now());
        assert_eq!((0..20).filter(|_| rates.take("a", 5, now).is_ok()).count(), 10);
        assert_eq!(rates.take("a", 5, now), Err(Duration::from_millis(200)));
        assert!(rates.take("b", 5, now).is_ok());
        let later = now + Duration::from_millis(400);
        assert_eq!((0..20).filter(|_| rates.take("a", 5, later).is_ok()).count(), 2);
    }

    #[tokio::test]
    async fn the_memory_is_bounded() {
        let (rates, now) = (Rates::default(), Instant::now());
        for n in 0..BUCKETS_MAX * 2 {
            rates.take(&n.to_string(), 1, now).unwrap();
        }
        assert!(rates.buckets.lock().unwrap().len() <= BUCKETS_MAX);
    }
}
