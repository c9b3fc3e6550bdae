//! How often a credential may be used: a bucket of calls for each, which refills with time. Each replica counts for itself.
//! Refuses to know what is called.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The most credentials that are remembered; a full bucket is worth no memory, so those go first.
const BUCKETS_MAX: usize = 10_000;

/// Buckets by the public id of a credential.
pub(crate) struct Rates {
    per_second: f64,
    buckets: Mutex<HashMap<String, Bucket>>,
}

struct Bucket {
    left: f64,
    at: Instant,
}

impl Rates {
    /// For so many calls a second each, and twice as many at once. At least one.
    pub(crate) fn new(per_second: u32) -> Self {
        Self { per_second: f64::from(per_second.max(1)), buckets: Mutex::default() }
    }

    /// Takes one call, or says how long to wait for it.
    pub(crate) fn take(&self, id: &str, now: Instant) -> Result<(), Duration> {
        let most = self.per_second * 2.0;
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= BUCKETS_MAX && !buckets.contains_key(id) {
            buckets.retain(|_, bucket| bucket.filled(self.per_second, most, now) < most);
            if buckets.len() >= BUCKETS_MAX {
                // So many at work at once: better a short memory than an endless one.
                buckets.clear();
            }
        }
        let bucket = buckets.entry(id.to_owned()).or_insert(Bucket { left: most, at: now });
        bucket.left = bucket.filled(self.per_second, most, now);
        bucket.at = now;
        if bucket.left < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - bucket.left) / self.per_second));
        }
        bucket.left -= 1.0;
        Ok(())
    }
}

impl Bucket {
    fn filled(&self, per_second: f64, most: f64, now: Instant) -> f64 {
        (self.left + now.saturating_duration_since(self.at).as_secs_f64() * per_second).min(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_bucket_empties_and_fills_and_is_nobody_elses() {
        let (rates, now) = (Rates::new(5), Instant::now());
        assert_eq!((0..20).filter(|_| rates.take("a", now).is_ok()).count(), 10);
        assert_eq!(rates.take("a", now), Err(Duration::from_millis(200)));
        assert!(rates.take("b", now).is_ok());
        let later = now + Duration::from_millis(400);
        assert_eq!((0..20).filter(|_| rates.take("a", later).is_ok()).count(), 2);
    }

    #[tokio::test]
    async fn the_memory_is_bounded() {
        let (rates, now) = (Rates::new(1), Instant::now());
        for n in 0..BUCKETS_MAX * 2 {
            rates.take(&n.to_string(), now).unwrap();
        }
        assert!(rates.buckets.lock().unwrap().len() <= BUCKETS_MAX);
    }
}
