//! Notices a duty that hangs: a loop must beat, or the process ends so that its supervisor starts a new one. Refuses to
//! repair anything; a hung loop may hold locks that only the end of the process frees.

use crate::exit::Code;
use std::{
    fmt,
    future::poll_fn,
    io,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// How long a duty may go without a beat.
pub const LIMIT: Duration = Duration::from_secs(30);

/// How often a loop that waits for work wakes to beat: waiting is not hanging.
pub const PULSE: Duration = Duration::from_secs(10);

/// How often the watchdog looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How late a look may come on a machine that is busy, as a part of the limit: 2 s of 30. One that comes later tells that the
/// process was frozen.
const LATE_PART: u32 = 15;

/// Watches the duties of this process from a thread of its own, which a blocked runtime cannot hold up.
#[derive(Clone)]
pub struct Watchdog(Arc<Inner>);

struct Inner {
    started: Instant,
    limit: Duration,
    duties: Mutex<Vec<Weak<Duty>>>,
}

struct Duty {
    name: &'static str,
    beat_ms: AtomicU64,
}

impl Watchdog {
    /// A watchdog that ends the process with code 70 when a duty has not beaten for `LIMIT`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start() -> io::Result<Self> {
        Self::ending_process_after(LIMIT, LOOK_INTERVAL)
    }

    /// As `start`, with another limit; for tests.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn ending_process_after(limit: Duration, look_interval: Duration) -> io::Result<Self> {
        Self::start_with(limit, look_interval, move |name| {
            eprintln!("the duty {name} has not moved for {} s: ending the process", limit.as_secs_f32());
            std::process::exit(i32::from(Code::Software.number()));
        })
    }

    /// As `start`, with another limit and another consequence; for tests.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start_with(
        limit: Duration,
        look_interval: Duration,
        on_stall: impl Fn(&'static str) + Send + 'static,
    ) -> io::Result<Self> {
        let inner = Arc::new(Inner::new(limit));
        let watched = Arc::downgrade(&inner);
        thread::Builder::new().name("watchdog".to_owned()).spawn(move || {
            let mut looked = Instant::now();
            // Ends with the last copy of the watchdog.
            while let Some(inner) = watched.upgrade() {
                // A process that was frozen as a whole has hung nowhere.
                inner.forgive(frozen(looked.elapsed(), look_interval + limit / LATE_PART));
                looked = Instant::now();
                inner.stalled().into_iter().for_each(&on_stall);
                drop(inner);
                thread::sleep(look_interval);
            }
        })?;
        Ok(Self(inner))
    }

    /// A duty that must beat from now on, until the handle is dropped.
    ///
    /// A loop that waits for work wakes at least every [`PULSE`] to beat.
    #[must_use]
    pub fn duty(&self, name: &'static str) -> Beat {
        let duty = Arc::new(Duty { name, beat_ms: AtomicU64::new(self.0.now_ms()) });
        self.0.duties.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&duty));
        Beat { duty, watchdog: self.0.clone() }
    }
}

/// How much of the time between two looks the process did not run. The rest of it counts, so that whatever hangs is noticed
/// after so many looks, however late each of them is.
fn frozen(between: Duration, in_time: Duration) -> Duration {
    between.saturating_sub(in_time)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Inner {
    fn new(limit: Duration) -> Self {
        Self { started: Instant::now(), limit, duties: Mutex::default() }
    }

    fn now_ms(&self) -> u64 {
        millis(self.started.elapsed())
    }

    /// For no duty that time counts. What it did not do before, it still has not done.
    fn forgive(&self, frozen: Duration) {
        if frozen.is_zero() {
            return;
        }
        let (now, frozen) = (self.now_ms(), millis(frozen));
        for duty in self.duties.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade) {
            // One that has beaten since must not have a beat that is still to come: it may hang from now on.
            let beat = duty.beat_ms.load(Ordering::Relaxed).saturating_add(frozen).min(now);
            duty.beat_ms.fetch_max(beat, Ordering::Relaxed);
        }
    }

    fn stalled(&self) -> Vec<&'static str> {
        let (now, limit) = (self.now_ms(), millis(self.limit));
        let mut duties = self.duties.lock().unwrap_or_else(PoisonError::into_inner);
        duties.retain(|duty| duty.strong_count() > 0);
        let alive = duties.iter().filter_map(Weak::upgrade);
        alive
            .filter(|duty| now.saturating_sub(duty.beat_ms.load(Ordering::Relaxed)) > limit)
            .map(|duty| duty.name)
            .collect()
    }
}

impl fmt::Debug for Watchdog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watchdog").field("limit", &self.0.limit).finish_non_exhaustive()
    }
}

/// The pulse of one duty. Dropping it ends the watch.
pub struct Beat {
    duty: Arc<Duty>,
    watchdog: Arc<Inner>,
}

impl Beat {
    /// A pulse that nobody feels, for a loop that is not, or no longer, watched.
    #[must_use]
    pub fn unwatched() -> Self {
        Watchdog(Arc::new(Inner::new(LIMIT))).duty("unwatched")
    }

    /// The duty is alive. Cheap: one atomic store.
    pub fn beat(&self) {
        self.duty.beat_ms.store(self.watchdog.now_ms(), Ordering::Relaxed);
    }

    /// Waits for what may be long in coming for good reasons, such as the next work, and beats meanwhile. As cancel-safe as that.
    pub async fn waiting<T>(&self, next: impl Future<Output = T>) -> T {
        let mut next = pin!(next);
        let mut pulse = tokio::time::interval(PULSE);
        loop {
            tokio::select! {
                biased;
                come = &mut next => return come,
                _ = pulse.tick() => self.beat(),
            }
        }
    }

    /// Does work of many steps, and beats at each: it may take long in all, as long as something comes back to it. As cancel-safe as
    /// the work.
    pub async fn working<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|context| {
            self.beat();
            work.as_mut().poll(context)
        })
        .await
    }
}

impl fmt::Debug for Beat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Beat").field(&self.duty.name).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const LOOK: Duration = Duration::from_millis(2);

    #[test]
    fn a_silent_duty_is_named() {
        let (tell, told) = mpsc::sync_channel(1);
        let watchdog = Watchdog::start_with(Duration::from_millis(20), LOOK, move |name| {
            let _ = tell.try_send(name);
        })
        .unwrap();
        let _beat = watchdog.duty("dispatcher");
        assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok("dispatcher"));
    }

    #[test]
    fn a_look_that_comes_much_later_than_it_should_tells_of_a_frozen_process() {
        let frozen = |seconds| frozen(Duration::from_secs(seconds), LOOK_INTERVAL + LIMIT / LATE_PART).as_secs();
        // As long as its looks are late for want of a processor, all time counts.
        assert_eq!([0, 1, 2, 3].map(frozen), [0; 4]);
        assert_eq!([4, 25, 36_000].map(frozen), [1, 22, 35_997]);
        // Frozen right before it would have beaten, a duty is not near its limit when it wakes.
        let counts = |seconds| seconds - frozen(seconds);
        assert!(PULSE.as_secs() + counts(25) < LIMIT.as_secs() / 2);
        // Where each look is late, fewer of them end what hangs.
        assert!((2..60).all(|seconds| 30 * counts(seconds) > LIMIT.as_secs()));
    }

    #[test]
    fn time_in_which_the_process_was_frozen_counts_for_no_duty() {
        let inner = Inner::new(Duration::from_secs(30));
        let watchdog = Watchdog(Arc::new(Inner { started: inner.started - Duration::from_secs(120), ..inner }));
        let (waits, hangs, alive) = (watchdog.duty("waits"), watchdog.duty("hangs"), watchdog.duty("alive"));
        let now = watchdog.0.now_ms();
        waits.duty.beat_ms.store(now - 40_000, Ordering::Relaxed);
        hangs.duty.beat_ms.store(now - 60_000, Ordering::Relaxed);
        assert_eq!(watchdog.0.stalled(), ["waits", "hangs"]);
        watchdog.0.forgive(Duration::from_secs(25));
        assert_eq!(watchdog.0.stalled(), ["hangs"], "it has hung for longer than that");
        assert!(alive.duty.beat_ms.load(Ordering::Relaxed) <= watchdog.0.now_ms(), "it may hang from now on");
    }

    /// A beat that is not of any time that a clock of this process shows.
    const NEVER: u64 = u64::MAX;

    #[tokio::test(start_paused = true)]
    async fn who_waits_long_for_the_next_work_beats_meanwhile() {
        let beat = Watchdog(Arc::new(Inner::new(LIMIT))).duty("waits");
        let begun = tokio::time::Instant::now();
        let watching = async {
            tokio::time::sleep(PULSE / 2).await;
            for _ in 0..6 {
                beat.duty.beat_ms.store(NEVER, Ordering::Relaxed);
                tokio::time::sleep(PULSE).await;
                assert_ne!(beat.duty.beat_ms.load(Ordering::Relaxed), NEVER, "after {:?}", begun.elapsed());
            }
        };
        tokio::join!(watching, beat.waiting(tokio::time::sleep(7 * PULSE)));
    }

    #[tokio::test(start_paused = true)]
    async fn work_beats_at_each_step_and_not_in_between() {
        let beat = Watchdog(Arc::new(Inner::new(LIMIT))).duty("works");
        let seen = || beat.duty.beat_ms.swap(NEVER, Ordering::Relaxed) != NEVER;
        let work = async {
            tokio::time::sleep(LIMIT).await;
            assert!(seen(), "something came back to it");
            std::future::pending::<()>().await;
        };
        let mut work = pin!(beat.working(work));
        assert!(tokio::time::timeout(LIMIT / 2, &mut work).await.is_err());
        assert!(seen(), "it began");
        assert!(tokio::time::timeout(LIMIT, &mut work).await.is_err());
        seen();
        tokio::time::sleep(LIMIT).await;
        assert!(!seen(), "it hangs");
    }

    #[test]
    fn beating_and_dropped_duties_are_left_alone() {
        let watchdog = Watchdog(Arc::new(Inner::new(Duration::ZERO)));
        let (alive, silent, gone) = (watchdog.duty("alive"), watchdog.duty("silent"), watchdog.duty("gone"));
        alive.duty.beat_ms.store(u64::MAX, Ordering::Relaxed);
        drop(gone);
        while watchdog.0.now_ms() == silent.duty.beat_ms.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
        assert_eq!(watchdog.0.stalled(), ["silent"]);
        assert_eq!(watchdog.0.duties.lock().unwrap().len(), 2);
        alive.beat();
        assert!(alive.duty.beat_ms.load(Ordering::Relaxed) <= watchdog.0.now_ms());
    }
}
