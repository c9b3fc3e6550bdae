//! What attempts of blocks want of the pool's devices, and what they were told. Kept here as levels, between attempts that
//! wait and the stream to the pool's owner. Refuses to know what a device is.

use super::{Board, Order, RuntimeBackend, Volume};
use domain::id::HolderId;
use futures_util::future::{BoxFuture, FutureExt as _};
use proto::internal::v1 as pb;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::{Notify, watch};

/// Wishes of one executor that its pool's owner hears of; more wait until some are over.
pub const WISHES_MAX: usize = 1_000;

/// The wishes of one executor. Copies share them.
#[derive(Clone, Default)]
pub struct Wishes(Arc<Shared>);

#[derive(Default)]
struct Shared {
    known: Mutex<BTreeMap<String, Known>>,
    made: AtomicU64,
    changed: Notify,
}

struct Known {
    wish: pb::Wish,
    /// Counts the wishes for new claims.
    number: u64,
    place: watch::Sender<pb::Place>,
}

/// One wish, as long as this value lives; what was given for it is given back with it.
pub struct Wished {
    wishes: Wishes,
    claim: String,
    place: watch::Receiver<pb::Place>,
}

impl Wishes {
    /// Wishes for devices. A second wish for the same claim takes the place of the first.
    #[must_use]
    pub fn wish(&self, wish: pb::Wish) -> Wished {
        let (sender, place) = watch::channel(pb::Place::default());
        let claim = wish.claim.clone();
        let mut all = self.lock();
        let number = all.get(&claim).map(|known| known.number);
        let number = number.unwrap_or_else(|| self.0.made.fetch_add(1, Ordering::Relaxed));
        all.insert(claim.clone(), Known { wish, number, place: sender });
        drop(all);
        self.0.changed.notify_one();
        Wished { wishes: self.clone(), claim, place }
    }

    /// All of them, as they are stated: those that were made first, so that no later one takes away what was given.
    #[must_use]
    pub fn all(&self) -> pb::Wishes {
        let known = self.lock();
        let mut oldest: Vec<&Known> = known.values().collect();
        oldest.sort_unstable_by_key(|known| known.number);
        pb::Wishes { wishes: oldest.into_iter().take(WISHES_MAX).map(|known| known.wish.clone()).collect() }
    }

    /// Waits until they may have changed. Cancel-safe.
    pub async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// They could not be stated: whoever waits for changes looks again.
    pub fn again(&self) {
        self.0.changed.notify_one();
    }

    /// Takes note of what the pool's owner says. What nobody wishes for any more is passed over.
    pub fn told(&self, places: pb::Places) {
        let known = self.lock();
        for place in places.places {
            if let Some(known) = known.get(&place.claim) {
                // A place that was given is never changed.
                known.place.send_if_modified(|now| {
                    let news = now.node.is_empty() && *now != place;
                    if news {
                        *now = place;
                    }
                    news
                });
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        // Nothing panics while it is held.
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wished {
    /// How it stands, whenever that has changed. Cancel-safe.
    pub async fn news(&mut self) -> pb::Place {
        if self.place.changed().await.is_err() {
            // Another wish for the same claim has taken its place: this one hears nothing any more.
            std::future::pending::<()>().await;
        }
        self.place.borrow_and_update().clone()
    }
}

impl Drop for Wished {
    fn drop(&mut self) {
        let mut all = self.wishes.lock();
        // Not that of another wish, which took its place.
        if all.get(&self.claim).is_some_and(|known| known.place.subscribe().same_channel(&self.place)) {
            all.remove(&self.claim);
            self.wishes.0.changed.notify_one();
        }
    }
}

/// Serves a pool with nothing: for an executor that runs no runtimes, and whose attempts want devices of those that do.
#[derive(Default)]
pub struct OnlyWishes(Arc<Board>);

impl RuntimeBackend for OnlyWishes {
    fn name(&self) -> &'static str {
        "none"
    }

    fn board(&self) -> &Arc<Board> {
        &self.0
    }

    fn recover(&self) -> BoxFuture<'_, anyhow::Result<Vec<Order>>> {
        std::future::ready(Ok(Vec::new())).boxed()
    }

    fn apply(&self, order: Order) {
        tracing::error!(holder = %order.holder, "an order for an executor without nodes");
    }

    /// Those with nodes make them.
    fn volumes(&self, _volumes: Vec<Volume>) {}

    fn probe(&self, _holders: Vec<HolderId>) {}

    fn close(&self) -> BoxFuture<'_, ()> {
        std::future::ready(()).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(claim: &str) -> pb::Wish {
        pb::Wish { claim: claim.to_owned(), count: 1, ..pb::Wish::default() }
    }

    #[tokio::test]
    async fn a_wish_is_stated_until_it_is_dropped_and_a_place_stays_what_it_was() {
        let wishes = Wishes::default();
        let (mut one, two) = (wishes.wish(wish("a")), wishes.wish(wish("b")));
        wishes.changed().await;
        assert_eq!(wishes.all().wishes, [wish("a"), wish("b")]);
        let waits = pb::Place { claim: "a".into(), code: "NO_CAPACITY".into(), ..pb::Place::default() };
        let place = pb::Place { claim: "a".into(), node: "n".into(), ..pb::Place::default() };
        wishes.told(pb::Places { places: vec![waits.clone()] });
        assert_eq!(one.news().await, waits);
        wishes.told(pb::Places { places: vec![place.clone()] });
        wishes.told(pb::Places { places: vec![waits] });
        assert_eq!(one.news().await, place);
        drop(two);
        wishes.changed().await;
        assert_eq!(wishes.all().wishes, [wish("a")]);
    }
    #[test]
    fn what_was_wished_for_first_is_stated_first_whatever_its_name() {
        let wishes = Wishes::default();
        let first = wishes.wish(wish("z"));
        let others: Vec<Wished> = (0..WISHES_MAX).map(|n| wishes.wish(wish(&format!("a{n}")))).collect();
        let stated = |claim: &str| wishes.all().wishes.iter().any(|wish| wish.claim == claim);
        assert_eq!(wishes.all().wishes.len(), WISHES_MAX);
        let last = format!("a{}", WISHES_MAX - 1);
        assert!(stated("z") && !stated(&last), "the last one waits, and takes nothing from the first");
        drop(others);
        // Another wish for the claim takes the place of the first, which takes nothing with it.
        let again = wishes.wish(wish("z"));
        drop(first);
        assert!(stated("z"));
        drop(again);
        assert!(wishes.all().wishes.is_empty());
    }
}
