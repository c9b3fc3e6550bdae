//! Strangers: others who use the same machines and ask no scheduler. They take parts of devices that have room, stay for a
//! moment and go. Refuses to take what somebody holds: who allocates for them sees to that.

use super::{Shape, fleet::Journal};
use crate::history::{AttemptName, DeviceShare, JournalEvent};
use anyhow::Result;
use proto::internal::v1 as pb;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use uuid::Uuid;

/// What one takes.
const MILLI: u32 = 500;
/// The longest pause between two that come, and the longest stay.
const PAUSE_MAX: Duration = Duration::from_millis(400);
const STAY_MAX: Duration = Duration::from_millis(800);

/// Node and device.
pub(super) type Place = (String, String);

pub(super) struct Strangers {
    dice: StdRng,
    next_at: Instant,
    /// On each device at most one.
    there: BTreeMap<Place, Stranger>,
    taken: u64,
}

struct Stranger {
    name: AttemptName,
    until: Instant,
}

impl Strangers {
    pub(super) fn new(seed: u64) -> Self {
        Self { dice: StdRng::seed_from_u64(seed), next_at: Instant::now(), there: BTreeMap::new(), taken: 0 }
    }

    /// How often one took something.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// What they hold of a device.
    pub(super) fn milli(&self, node: &str, gpu: &str) -> u32 {
        if self.there.contains_key(&(node.to_owned(), gpu.to_owned())) { MILLI } else { 0 }
    }

    /// Those on a node, as it tells of them.
    pub(super) fn on(&self, node: &str) -> Vec<pb::Foreign> {
        let there = self.there.iter().filter(|((of, _), _)| of == node);
        there
            .map(|((_, gpu), stranger)| pb::Foreign {
                holder: format!("stranger/{}", stranger.name.run),
                grants: vec![pb::DeviceGrant {
                    device: gpu.clone(),
                    milli: MILLI.cast_signed(),
                    ..pb::DeviceGrant::default()
                }],
                ..pb::Foreign::default()
            })
            .collect()
    }

    /// Where the next one would like to go, when it is time for it.
    pub(super) fn next(&mut self, shape: &Shape) -> Option<Place> {
        if Instant::now() < self.next_at {
            return None;
        }
        self.next_at = Instant::now() + PAUSE_MAX.mul_f64(self.dice.random());
        let (node, gpu) = (self.dice.random_range(0..shape.nodes), self.dice.random_range(0..shape.gpus));
        Some((format!("node-{node}"), format!("gpu-{gpu}"))).filter(|place| !self.there.contains_key(place))
    }

    /// Those whose time is over go; one comes to `place`, if what runtimes leave of it is enough. Answers whether anything
    /// has changed.
    pub(super) fn pass(&mut self, place: Option<Place>, left: u32, pool: &str, journal: &mut Journal) -> Result<bool> {
        let now = Instant::now();
        let gone: Vec<Place> =
            self.there.iter().filter(|(_, stranger)| stranger.until <= now).map(|(place, _)| place.clone()).collect();
        for place in &gone {
            if let Some(stranger) = self.there.remove(place) {
                stranger.leave(journal)?;
            }
        }
        let Some(place) = place.filter(|_| left >= MILLI) else { return Ok(!gone.is_empty()) };
        let name = AttemptName { run: Uuid::now_v7(), block: "stranger".to_owned(), child: 0, lease: 0 };
        let share = DeviceShare { device: format!("{pool}/{}/{}", place.0, place.1), milli: MILLI };
        journal.note(JournalEvent::Start { attempt: name.clone(), pid: 0, devices: vec![share], gang: None })?;
        self.taken += 1;
        self.there.insert(place, Stranger { name, until: now + STAY_MAX.mul_f64(self.dice.random()) });
        Ok(true)
    }

    /// All go.
    pub(super) fn leave(self, journal: &mut Journal) -> Result<()> {
        self.there.into_values().try_for_each(|stranger| stranger.leave(journal))
    }
}

impl Stranger {
    fn leave(self, journal: &mut Journal) -> Result<()> {
        journal.note(JournalEvent::End { attempt: self.name, outcome: "left".to_owned() })
    }
}
