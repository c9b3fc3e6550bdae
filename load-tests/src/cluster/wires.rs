//! The wires of a cluster: one from each process to each peer that it knows, so that any of them may be harmed alone.

use crate::wire::{Harm, Weather, Wire};
use anyhow::Result;
use std::{collections::BTreeMap, net::SocketAddr, sync::atomic::Ordering};

/// Whoever is at either end is named as services are, beside `postgres`, `redis`, `peers` (any scheduler, on its way to
/// another one) and `clients`.
#[derive(Debug)]
pub struct Wires {
    seed: u64,
    laid: BTreeMap<(String, String), Wire>,
}

impl Wires {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, laid: BTreeMap::new() }
    }

    /// The near end of the wire between two, which is laid when it is not there yet.
    pub(super) fn lay(&mut self, from: &str, to: &str, target: SocketAddr) -> Result<SocketAddr> {
        let place = (from.to_owned(), to.to_owned());
        if let Some(wire) = self.laid.get(&place) {
            wire.lead_to(target);
            return Ok(wire.address());
        }
        // Each wire has dice of its own; the constant only spreads neighbours.
        let seed = self.seed.wrapping_add((self.laid.len() as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let wire = Wire::to(target, seed)?;
        let address = wire.address();
        self.laid.insert(place, wire);
        Ok(address)
    }

    /// Every wire to `to` leads to `target` from now on.
    pub(super) fn lead(&self, to: &str, target: SocketAddr) {
        self.laid.iter().filter(|((_, end), _)| end == to).for_each(|(_, wire)| wire.lead_to(target));
    }

    /// The wires from `from` to `to`; an end that is empty is any.
    pub fn between<'a>(&'a self, from: &'a str, to: &'a str) -> impl Iterator<Item = &'a Wire> + 'a {
        let is = |wanted: &str, end: &str| wanted.is_empty() || wanted == end;
        self.laid.iter().filter(move |((near, far), _)| is(from, near) && is(to, far)).map(|(_, wire)| wire)
    }

    /// Changes the weather between two ends.
    pub fn set(&self, from: &str, to: &str, weather: Weather) {
        self.between(from, to).for_each(|wire| wire.set(weather));
    }

    /// Fair weather everywhere.
    pub fn heal(&self) {
        self.set("", "", Weather::fair());
    }

    /// Everything that was done to what travels from `from` to `to`.
    #[must_use]
    pub fn harm(&self, from: &str, to: &str) -> u64 {
        self.between(from, to).map(|wire| wire.harm().total()).sum()
    }

    /// What one count says, over all wires.
    #[must_use]
    pub fn count(&self, of: fn(&Harm) -> &std::sync::atomic::AtomicU64) -> u64 {
        self.laid.values().map(|wire| of(wire.harm()).load(Ordering::Relaxed)).sum()
    }
}
