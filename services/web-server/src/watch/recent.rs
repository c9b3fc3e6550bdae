//! Which lines of a log were sent lately: lines get their ids before they are committed, so that one with a lower id may appear
//! after others with higher ones. It is still found, and none is sent twice. Refuses to read any.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;
use store::log_views::Line;
use tokio::time::Instant;

/// The most lines of one message.
pub(super) const LINES_MAX: usize = 500;
/// So long after its id was given a line has appeared, or never does.
const LATE: Duration = Duration::from_secs(2);
/// With so many lines sent before which others may still appear, nothing is sent that lies ahead of them: in a flood, a
/// reader is [`LATE`] behind. Others that do appear are sent in any case.
const AHEAD_MAX: usize = 5_000;
/// While many lines come, some of the looks look back, and note what was given.
const LOOK_BACK: Duration = Duration::from_millis(250);

/// What was sent.
#[derive(Default)]
pub(super) struct Recent {
    /// Every line up to here was sent, or never appears.
    floor: i64,
    /// Up to here no line appears any more.
    settled: i64,
    /// Which id was the last that had been given, at some moments of the last [`LATE`].
    given: VecDeque<(Instant, i64)>,
    /// The lines after the floor that were sent.
    sent: BTreeSet<i64>,
    looked_back_at: Option<Instant>,
    holds_back: bool,
}

/// A look at what there is.
pub(super) struct Look {
    /// For lines after this one.
    pub(super) after: i64,
    /// For so many.
    pub(super) limit: usize,
    /// Since when.
    at: Instant,
    is_back: bool,
}

impl Recent {
    /// Nothing was sent; whoever follows has the lines up to here.
    pub(super) fn after(floor: i64) -> Self {
        Self { floor, ..Self::default() }
    }

    /// No line appears any more up to here.
    pub(super) fn settle(&mut self, id: i64) {
        self.settled = self.settled.max(id);
    }

    /// Nothing is known of when ids were given.
    pub(super) fn is_new(&self) -> bool {
        self.given.is_empty()
    }

    /// Whether it is time to note what was given.
    pub(super) fn wants_given(&self, now: Instant) -> bool {
        self.given.back().is_none_or(|(at, _)| now.duration_since(*at) >= LOOK_BACK)
    }

    /// Now this is the last id that was given.
    pub(super) fn note_given(&mut self, id: i64, now: Instant) {
        self.given.push_back((now, id));
    }

    /// Lines are there that lie too far ahead to be sent.
    pub(super) fn holds_back(&self) -> bool {
        self.holds_back
    }

    /// The next look: at what is new, or at everything that may not have been sent.
    pub(super) fn look(&self, now: Instant) -> Look {
        let front = self.sent.last().copied().unwrap_or(self.floor);
        let is_time = self.looked_back_at.is_none_or(|at| now.duration_since(at) >= LOOK_BACK);
        let is_back = is_time || self.sent.len() <= LINES_MAX || front <= self.settled;
        if is_back {
            Look { after: self.floor, limit: LINES_MAX + self.sent.len(), at: now, is_back }
        } else {
            Look { after: front, limit: LINES_MAX, at: now, is_back }
        }
    }

    /// Of the lines that a look found, those that are to be sent.
    pub(super) fn choose(&mut self, lines: Vec<Line>, look: &Look) -> Vec<Line> {
        if look.is_back {
            self.looked_back_at = Some(look.at);
            while let Some((at, id)) = self.given.front().copied()
                && look.at.duration_since(at) >= LATE
            {
                self.settle(id);
                self.given.pop_front();
            }
        }
        let front = self.sent.last().copied().unwrap_or(self.floor).max(self.settled);
        // Up to where this look has seen everything that there is.
        let mut seen = if lines.len() < look.limit { i64::MAX } else { look.after };
        let (mut chosen, mut before) = (Vec::new(), look.after);
        self.holds_back = false;
        for line in lines {
            let id = line.id;
            if !self.sent.contains(&id) {
                self.holds_back = id > front && self.sent.len() >= AHEAD_MAX;
                if self.holds_back || chosen.len() == LINES_MAX {
                    seen = before;
                    // More that appeared late is sent at once.
                    self.looked_back_at = self.looked_back_at.filter(|_| id > front);
                    break;
                }
                self.sent.insert(id);
                chosen.push(line);
            }
            before = id;
            seen = seen.max(id);
        }
        if look.is_back {
            self.floor = self.floor.max(seen.min(self.settled));
            let floor = self.floor;
            self.sent.retain(|id| *id > floor);
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    /// Lines that are there, and what a reader has been sent.
    struct World {
        there: BTreeSet<i64>,
        sent: Vec<i64>,
        recent: Recent,
        now: Instant,
    }

    impl World {
        fn new() -> Self {
            Self { there: BTreeSet::new(), sent: Vec::new(), recent: Recent::after(0), now: Instant::now() }
        }

        /// Reads until there is nothing to be sent; answers how much was.
        fn read(&mut self) -> usize {
            let before = self.sent.len();
            loop {
                if self.recent.wants_given(self.now) {
                    self.recent.note_given(self.there.last().copied().unwrap_or(0), self.now);
                }
                let look = self.recent.look(self.now);
                let found =
                    self.there.iter().filter(|id| **id > look.after).take(look.limit).map(|id| line(*id)).collect();
                let chosen = self.recent.choose(found, &look);
                assert!(chosen.len() <= LINES_MAX);
                if chosen.is_empty() && look.is_back {
                    return self.sent.len() - before;
                }
                self.sent.extend(chosen.iter().map(|line| line.id));
                self.now += Duration::from_millis(10);
            }
        }

        /// Every line was sent once.
        fn is_complete(&self) -> bool {
            let mut sent = self.sent.clone();
            sent.sort_unstable();
            sent.into_iter().eq(self.there.iter().copied())
        }
    }

    fn line(id: i64) -> Line {
        Line {
            id,
            at: Timestamp::UNIX_EPOCH,
            block: String::new(),
            child: -1,
            lease: 0,
            level: 20,
            stream: String::new(),
            message: String::new(),
            block_type: String::new(),
        }
    }

    #[test]
    fn what_appears_late_is_sent_however_much_came_before() {
        let mut world = World::new();
        world.there.extend(2_001..4_500);
        assert_eq!(world.read(), 2_499);
        world.now += Duration::from_millis(1_500);
        world.there.extend(1..=2_000);
        assert_eq!(world.read(), 2_000);
        assert!(world.is_complete());
        // All of it is forgotten by and by.
        world.now += LATE;
        assert_eq!((world.read(), world.recent.sent.len(), world.recent.floor), (0, 0, 4_499));
    }

    #[test]
    fn a_flood_is_sent_whole_and_not_far_ahead_of_what_may_appear() {
        let mut world = World::new();
        world.there.extend(20_001..60_000);
        assert_eq!(world.read(), AHEAD_MAX);
        assert!(world.recent.holds_back());
        world.there.extend(10_001..=20_000);
        assert_eq!(world.read(), 10_000, "what lies before is sent in any case");
        world.now += LATE;
        world.read();
        assert!(!world.recent.holds_back() && world.is_complete());
        // What was there long ago is not waited for.
        let mut world = World::new();
        world.there.extend(1..60_000);
        world.recent.settle(50_000);
        assert_eq!(world.read(), 50_000 + AHEAD_MAX);
        world.recent.settle(i64::MAX);
        world.read();
        assert!(world.is_complete() && world.recent.sent.is_empty());
    }

    #[test]
    fn a_line_that_does_not_fit_the_filter_is_not_looked_at_for_ever() {
        let mut world = World::new();
        world.there.insert(3);
        world.read();
        world.recent.note_given(900, world.now);
        world.now += LATE;
        world.read();
        assert_eq!(world.recent.floor, 900);
    }
}
