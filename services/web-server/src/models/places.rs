//! Who moves files at the moment: so many in all, and a part of them for each person, so that nobody's slow connections keep
//! everybody else out. And how long one of them may stand still. Refuses to know what is moved.

use super::CHUNK_BYTES_MAX;
use crate::fault::Fault;
use domain::ErrorKind;
use domain::id::UserId;
use futures_util::{Stream, StreamExt, stream};
use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

/// Uploads and downloads at once; each holds a part in memory.
const TRANSFERS_MAX: usize = 32;
/// Of these, those of one person.
const OF_ONE_MAX: usize = TRANSFERS_MAX / 4;

type Persons = Arc<Mutex<HashMap<UserId, usize>>>;

/// The places of one server.
pub(crate) struct Transfers {
    all: Arc<Semaphore>,
    persons: Persons,
}

impl Default for Transfers {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(TRANSFERS_MAX)), persons: Persons::default() }
    }
}

/// One of the places, as long as it is kept.
pub(crate) struct Place {
    persons: Persons,
    person: UserId,
    _of_all: OwnedSemaphorePermit,
}

fn lock(persons: &Persons) -> MutexGuard<'_, HashMap<UserId, usize>> {
    persons.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Transfers {
    /// A place for a person, or a refusal: whoever waits would hold a connection for nothing.
    pub(crate) fn place(&self, person: UserId) -> Result<Place, Fault> {
        let full = |message| Fault::busy("TOO_MANY_TRANSFERS", message, Fault::SOON);
        let mut persons = lock(&self.persons);
        if persons.get(&person).is_some_and(|own| *own >= OF_ONE_MAX) {
            return Err(full(format!(
                "you move {OF_ONE_MAX} files at once here already; try again when one has ended"
            )));
        }
        let of_all = self.all.clone().try_acquire_owned();
        let of_all = of_all
            .map_err(|_| full(format!("this server moves {TRANSFERS_MAX} files at once already; try again soon")))?;
        *persons.entry(person).or_default() += 1;
        Ok(Place { persons: self.persons.clone(), person, _of_all: of_all })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut persons = lock(&self.persons);
        if let Some(own) = persons.get_mut(&self.person) {
            *own -= 1;
            if *own == 0 {
                persons.remove(&self.person);
            }
        }
    }
}

fn stalled(within: Duration) -> Fault {
    let message =
        format!("less than 1 MiB moved in {} s, so the transfer was broken off; go on from there", within.as_secs());
    Fault::new(ErrorKind::Unavailable, "TRANSFER_STALLED", message)
}

/// How fast something comes in: a MiB in each of these times, or its end.
pub(crate) struct Pace {
    within: Duration,
    until: Instant,
    moved: usize,
}

impl Pace {
    pub(crate) fn new(within: Duration) -> Self {
        Self { within, until: Instant::now() + within, moved: 0 }
    }

    /// What comes next, unless it is too late for it.
    pub(crate) async fn next<T: Stream + Unpin>(&mut self, chunks: &mut T) -> Result<Option<T::Item>, Fault> {
        timeout_at(self.until, chunks.next()).await.map_err(|_| stalled(self.within))
    }

    /// So many bytes have come.
    pub(crate) fn moved(&mut self, bytes: usize) {
        self.moved += bytes;
        if self.moved >= CHUNK_BYTES_MAX {
            self.rest();
        }
    }

    /// What is done meanwhile is none of the sender's fault.
    pub(crate) fn rest(&mut self) {
        (self.moved, self.until) = (0, Instant::now() + self.within);
    }
}

/// Hands `chunks` out, and gives the place back with the last one, or when nobody has taken one, of at most a MiB, for so
/// long. Whoever takes one later learns of that.
pub(crate) fn handed_out<T: Send + 'static>(
    chunks: impl Stream<Item = Result<T, Fault>> + Send + 'static,
    place: Place,
    within: Duration,
) -> impl Stream<Item = Result<T, Fault>> + Send + 'static {
    let (sender, receiver) = mpsc::channel(1);
    let (breaks, broken) = oneshot::channel();
    tokio::spawn(async move {
        let _place = place;
        let mut chunks = pin!(chunks);
        while let Some(chunk) = chunks.next().await {
            match timeout(within, sender.send(chunk)).await {
                Ok(Ok(())) => {}
                // Nobody wants it any more.
                Ok(Err(_)) => return,
                Err(_) => {
                    let _ = breaks.send(stalled(within));
                    return;
                }
            }
        }
    });
    stream::unfold((receiver, Some(broken)), |(mut receiver, broken)| async {
        if let Some(chunk) = receiver.recv().await {
            return Some((chunk, (receiver, broken)));
        }
        let fault = broken?.await.ok()?;
        Some((Err(fault), (receiver, None)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    /// Far more than anything takes.
    const WAIT: Duration = Duration::from_secs(60);

    fn person(number: u128) -> UserId {
        UserId(Uuid::from_u128(number))
    }

    #[test]
    fn nobody_has_more_than_a_quarter_and_all_have_as_many_as_there_are() {
        let transfers = Transfers::default();
        let reason = |result: Result<Place, Fault>| result.err().map(|fault| fault.0.reason);
        let mut held: Vec<Place> = (0..OF_ONE_MAX).map(|_| transfers.place(person(1)).unwrap()).collect();
        assert_eq!(reason(transfers.place(person(1))).as_deref(), Some("TOO_MANY_TRANSFERS"));
        for other in 2..=4 {
            held.extend((0..OF_ONE_MAX).map(|_| transfers.place(person(other)).unwrap()));
        }
        assert_eq!(reason(transfers.place(person(5))).as_deref(), Some("TOO_MANY_TRANSFERS"));
        drop(held.pop());
        assert_eq!(reason(transfers.place(person(5))), None);
        held.clear();
        assert_eq!((transfers.all.available_permits(), lock(&transfers.persons).len()), (TRANSFERS_MAX, 0));
    }

    #[tokio::test]
    async fn what_nobody_takes_gives_its_place_back() {
        let (transfers, within) = (Transfers::default(), Duration::from_millis(30));
        let place = || transfers.place(person(1)).unwrap();
        let chunks = || stream::iter((0..4).map(Ok::<u32, Fault>));
        let all: Vec<_> = handed_out(chunks(), place(), WAIT).collect().await;
        assert_eq!(all.into_iter().collect::<Result<Vec<_>, _>>().unwrap(), [0, 1, 2, 3]);

        let mut slow = pin!(handed_out(chunks(), place(), within));
        testkit::wait_for("the place", WAIT, || async {
            (transfers.all.available_permits() == TRANSFERS_MAX).then_some(())
        })
        .await;
        // What had been handed out is there; and then that nothing follows.
        assert_eq!(slow.next().await.unwrap().unwrap(), 0);
        assert_eq!(slow.next().await.unwrap().unwrap_err().0.reason, "TRANSFER_STALLED");
        assert!(slow.next().await.is_none());
    }

    #[tokio::test]
    async fn a_byte_now_and_then_is_no_headway() {
        let within = Duration::from_millis(100);
        let drops = stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Some((1, ()))
        });
        let (mut drops, mut pace, begun) = (pin!(drops), Pace::new(within), Instant::now());
        let why = loop {
            match pace.next(&mut drops).await {
                Ok(bytes) => pace.moved(bytes.unwrap()),
                Err(fault) => break fault,
            }
        };
        assert!(why.0.reason == "TRANSFER_STALLED" && begun.elapsed() >= within, "{why:?}");
    }
}
