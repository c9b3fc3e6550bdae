//! The notifier: sends what was noted. Each message is sent by a task of its own, few at a time to one receiver: one that
//! is slow delays what is for itself and nothing else. Claims have a lease, so that what a dead scheduler had claimed is
//! sent by another; a receiver can tell by the message's id.

use crate::{clock::DbClock, engine::Chain, metrics::Metrics, notes, values};
use ::secrets::Keyring;
use domain::references;
use jiff::{SignedDuration, Timestamp};
use notify::{Channel, Config, Event, Facts, Policy, SendError};
use runtime::{backoff, watchdog::Beat};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use store::{
    Store,
    outbox::{self, Claimed, Fate, Lane, Waiting},
    secrets,
};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

/// Between two looks when nothing is due.
const INTERVAL: Duration = Duration::from_secs(1);
/// Claimed at once.
const CLAIMS_MAX: i64 = 128;
/// Lanes that one round looks at; the next one goes on behind them.
const LANES_MAX: usize = 256;
/// Claimed at once of one lane, and of one whose receiver failed last: to find out whether it lives, one is enough.
const LANE_CLAIMS_MAX: i64 = 4;
const PROBES_MAX: i64 = 1;
/// Secrets of one configuration.
const SECRETS_MAX: usize = 32;
/// Under way at once, and of these to one receiver.
const SENDING_MAX: usize = 64;
const RECEIVER_MAX: usize = 4;
/// Nobody else sends a message that was claimed so lately; well above the time that one may take.
const LEASE: Duration = Duration::from_secs(90);
/// What is more than a receiver takes at once waits so long.
const TURN: Duration = Duration::from_secs(1);
/// Pauses between attempts of one message, and of all that wait for one receiver: doubled each time, up to the second.
const PAUSE: Duration = Duration::from_secs(5);
const PAUSE_MAX: Duration = Duration::from_secs(900);
/// A message that could not be sent for so long is given up; the housekeeper sees to those that are not even tried.
pub(crate) const GIVEN_UP_AFTER: SignedDuration = SignedDuration::from_hours(24);

/// Sends notifications.
#[derive(Clone)]
pub struct Notifier {
    store: Store,
    /// A machine whose own clock jumps puts nothing off for a year.
    clock: DbClock,
    policy: Arc<Policy>,
    metrics: Arc<Metrics>,
    keyring: Option<Arc<Keyring>>,
    unnamed_secrets: bool,
    places: Arc<Semaphore>,
    receivers: Arc<Mutex<HashMap<String, usize>>>,
    /// How many of each lane are under way.
    lanes: Arc<Mutex<HashMap<Lane, usize>>>,
    rounds: Arc<AtomicUsize>,
    /// The last message of a lane that was under way is settled.
    free: Arc<Notify>,
}

/// What one round found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Round {
    /// There are lanes that it did not look at.
    Further,
    /// Some lane gave as many as it may: more may wait there.
    More,
    /// Nothing is left for now.
    Done,
}

impl Notifier {
    /// Sends to where `policy` allows; `keyring` opens what says where that is, with `unnamed_secrets` also secrets that
    /// pipelines which name none do not name.
    #[must_use]
    pub fn new(
        store: Store,
        clock: DbClock,
        policy: Policy,
        metrics: Arc<Metrics>,
        (keyring, unnamed_secrets): (Option<Arc<Keyring>>, bool),
    ) -> Self {
        Self {
            store,
            clock,
            policy: Arc::new(policy),
            metrics,
            keyring,
            unnamed_secrets,
            places: Arc::new(Semaphore::new(SENDING_MAX)),
            receivers: Arc::default(),
            lanes: Arc::default(),
            rounds: Arc::default(),
            free: Arc::default(),
        }
    }

    /// Runs until it is stopped. What is under way then is sent again by another scheduler if it was not settled.
    pub async fn run(self, stop: CancellationToken, beat: Beat) {
        let mut interval = tokio::time::interval(INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut after, mut last) = (Lane::default(), Round::Done);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = interval.tick() => {}
                () = self.free.notified(), if last == Round::More => {}
            }
            // In a while, and not at once as further lanes are, where it failed.
            last = match beat.working(self.store.patiently(self.run_once(&mut after))).await {
                Some(Ok(round)) => round,
                Some(Err(error)) => {
                    tracing::warn!(error = %Chain(&error), "failed to claim notifications");
                    Round::Done
                }
                None => {
                    tracing::warn!("notifications waited for a database that does not answer; claiming anew");
                    Round::Done
                }
            };
            if last == Round::Further {
                interval.reset_immediately();
            }
        }
    }

    /// Takes a few messages of each of the next lanes: however many wait in one, the others have their turn.
    async fn run_once(&self, after: &mut Lane) -> Result<Round, store::Error> {
        let free = i64::try_from(self.places.available_permits()).unwrap_or(CLAIMS_MAX);
        if free == 0 {
            return Ok(Round::More);
        }
        let walked = outbox::waiting(&self.store, after, i64::try_from(LANES_MAX).unwrap_or(i64::MAX)).await?;
        let is_last = walked.len() < LANES_MAX;
        *after = walked.last().filter(|_| !is_last).map(|waiting| waiting.lane.clone()).unwrap_or_default();
        let lanes = self.turns(&walked);
        if lanes.is_empty() {
            return Ok(if is_last { Round::Done } else { Round::Further });
        }
        let claimed = outbox::claim(&self.store, &lanes, CLAIMS_MAX.min(2 * free), LEASE).await?;
        let of_lane = |lane: &Lane| claimed.iter().filter(|claimed| claimed.lane == *lane).count();
        let is_full = lanes.iter().any(|(lane, most)| i64::try_from(of_lane(lane)).is_ok_and(|count| count >= *most));
        for claimed in claimed {
            self.start(claimed).await?;
        }
        Ok(if !is_last {
            Round::Further
        } else if is_full {
            Round::More
        } else {
            Round::Done
        })
    }

    /// The lanes that have a turn, and how many of each: none whose former turn is not over.
    fn turns<'a>(&self, walked: &'a [Waiting]) -> Vec<(&'a Lane, i64)> {
        let under_way = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let open = walked.iter().filter(|waiting| waiting.is_open && !under_way.contains_key(&waiting.lane));
        let mut lanes: Vec<_> = open
            .map(|waiting| (&waiting.lane, if waiting.failures > 0 { PROBES_MAX } else { LANE_CLAIMS_MAX }))
            .collect();
        // Where there are more lanes than places, none is always the last.
        let round = self.rounds.fetch_add(1, Ordering::Relaxed);
        let first = round.checked_rem(lanes.len()).unwrap_or(0);
        lanes.rotate_left(first);
        lanes
    }

    /// Sends in a task of its own, or puts back what is too much.
    async fn start(&self, claimed: Claimed) -> Result<(), store::Error> {
        let secrets = match self.secrets(&claimed).await? {
            Ok(secrets) => secrets,
            Err(why) => return outbox::settle(&self.store, &claimed, &self.fate(&claimed, Err(why))).await,
        };
        let (config, channel) = match channel(self.keyring.as_deref(), &claimed, &secrets) {
            Ok(found) => found,
            Err(why) => return outbox::settle(&self.store, &claimed, &self.fate(&claimed, Err(why))).await,
        };
        let place = Arc::clone(&self.places).try_acquire_owned().ok();
        let (Some(place), Some(turn)) = (place, self.turn(channel.receiver())) else {
            return outbox::settle(&self.store, &claimed, &Fate::Back(TURN)).await;
        };
        let (this, lane) = (self.clone(), self.in_lane(&claimed.lane));
        tokio::spawn(async move {
            let fate = this.send(&claimed, &config, &channel).await;
            drop((place, turn));
            if let Err(error) = this.settle(&claimed, &fate).await {
                tracing::warn!(error = %Chain(&error), "failed to settle a notification; it may be sent again");
            }
            drop(lane);
        });
        Ok(())
    }

    /// Notes what became of a message, and then whether its receiver is there: a message that was sent and is not noted goes
    /// out again.
    async fn settle(&self, claimed: &Claimed, fate: &Fate) -> Result<(), store::Error> {
        outbox::settle(&self.store, claimed, fate).await?;
        match fate {
            Fate::Again(..) => outbox::put_off(&self.store, &claimed.lane, PAUSE, PAUSE_MAX).await,
            // Whoever refuses a message for good is there.
            Fate::Sent | Fate::Failed(_) if claimed.failures > 0 => outbox::reopen(&self.store, &claimed.lane).await,
            Fate::Sent | Fate::Failed(_) | Fate::Back(_) => Ok(()),
        }
    }

    /// A place in a lane, until it is dropped.
    fn in_lane(&self, lane: &Lane) -> InLane {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        *lanes.entry(lane.clone()).or_default() += 1;
        InLane { lane: lane.clone(), lanes: Arc::clone(&self.lanes), free: Arc::clone(&self.free) }
    }

    /// The secrets that a project's own configuration names for this channel, by name; or why one is not to be had.
    /// What this scheduler cannot open another one may, while keys are being exchanged.
    async fn secrets(&self, claimed: &Claimed) -> Result<Result<BTreeMap<String, String>, SendError>, store::Error> {
        let mut found = BTreeMap::new();
        let (Some((pipeline, version)), Some(config)) = (claimed.of_version, &claimed.config) else {
            return Ok(Ok(found));
        };
        // What another channel lacks is its own affair.
        let mut names = references::names(&config[claimed.channel.as_str()]);
        names.extend(references::names(&config["message_templates"]));
        if names.len() > SECRETS_MAX {
            let why = format!("its notification_config names more than {SECRETS_MAX} secrets");
            return Ok(Err(SendError::Lasting(why)));
        }
        for name in names {
            let db = self.store.client().await?;
            let secret = secrets::get_for_version(&db, pipeline, version, &name, self.unnamed_secrets).await?;
            let Some(secret) = secret else {
                let why = format!("there is no secret `{name}` that its pipeline sees; `orrery secrets set` makes one");
                return Ok(Err(SendError::Lasting(why)));
            };
            match values::open(self.keyring.as_deref(), secret) {
                Ok(value) => found.insert(name, value),
                Err(why) => return Ok(Err(SendError::Passing(why))),
            };
        }
        Ok(Ok(found))
    }

    async fn send(&self, claimed: &Claimed, config: &Config, channel: &Channel) -> Fate {
        let facts: Facts = serde_json::from_value(claimed.facts.clone()).unwrap_or_default();
        let event = Event::parse(&claimed.event).unwrap_or(Event::Test);
        let message = notify::message::message(config, event, &facts);
        let outcome = notify::send(channel, &claimed.key, &message, &facts, &self.policy).await;
        let fate = self.fate(claimed, outcome);
        let word = match &fate {
            Fate::Sent => "sent",
            Fate::Again(..) | Fate::Back(_) => "again",
            Fate::Failed(why) => {
                tracing::warn!(notification = claimed.id, channel = claimed.channel, why, "gave up a notification");
                "failed"
            }
        };
        self.metrics.notifications.with_label_values(&[word]).inc();
        fate
    }

    fn fate(&self, claimed: &Claimed, outcome: Result<(), SendError>) -> Fate {
        fate(claimed, outcome, self.clock.now(), backoff::random())
    }

    /// A place with one receiver, until it is dropped.
    fn turn(&self, receiver: String) -> Option<Turn> {
        let mut receivers = self.receivers.lock().unwrap_or_else(PoisonError::into_inner);
        let under_way = receivers.entry(receiver.clone()).or_default();
        if *under_way >= RECEIVER_MAX {
            return None;
        }
        *under_way += 1;
        Some(Turn { receiver, receivers: Arc::clone(&self.receivers) })
    }
}

/// See [`Notifier::in_lane`].
struct InLane {
    lane: Lane,
    lanes: Arc<Mutex<HashMap<Lane, usize>>>,
    free: Arc<Notify>,
}

impl Drop for InLane {
    fn drop(&mut self) {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(under_way) = lanes.get_mut(&self.lane) {
            *under_way -= 1;
            if *under_way == 0 {
                lanes.remove(&self.lane);
                self.free.notify_one();
            }
        }
    }
}

/// See [`Notifier::turn`].
struct Turn {
    receiver: String,
    receivers: Arc<Mutex<HashMap<String, usize>>>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut receivers = self.receivers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(under_way) = receivers.get_mut(&self.receiver) {
            *under_way -= 1;
            if *under_way == 0 {
                receivers.remove(&self.receiver);
            }
        }
    }
}

/// Where a notification goes by its configuration as it is now, with the secrets that it names.
fn channel(
    keyring: Option<&Keyring>,
    claimed: &Claimed,
    secrets: &BTreeMap<String, String>,
) -> Result<(Config, Channel), SendError> {
    let lasting = |why: &str| SendError::Lasting(why.to_owned());
    let config = notes::open(keyring, claimed.sealed.as_ref(), claimed.config.clone()).map_err(SendError::Passing)?;
    let config = config.map(|config| if secrets.is_empty() { config } else { references::fill(&config, secrets) });
    let config = config.as_ref().and_then(serde_json::Value::as_object);
    let config = config.ok_or_else(|| lasting("its notification_config was removed"))?;
    let config = Config::parse(config).map_err(|error| SendError::Lasting(error.to_string()))?;
    let channel = config.channels.get(&claimed.channel).cloned();
    let removed = || lasting(&format!("`{}` was removed from its notification_config", claimed.channel));
    let channel = channel.ok_or_else(removed)?;
    Ok((config, channel))
}

fn fate(claimed: &Claimed, outcome: Result<(), SendError>, now: Timestamp, random: f64) -> Fate {
    match outcome {
        Ok(()) => Fate::Sent,
        Err(SendError::Lasting(why)) => Fate::Failed(why),
        Err(SendError::Passing(why)) if now.duration_since(claimed.created_at) > GIVEN_UP_AFTER => Fate::Failed(why),
        Err(SendError::Passing(why)) => {
            let doublings = u32::try_from(claimed.attempt - 1).unwrap_or(0).min(16);
            let pause = PAUSE.saturating_mul(1 << doublings).min(PAUSE_MAX);
            Fate::Again(pause.mul_f64(0.75 + random / 2.0), why)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_tried_later_and_not_for_ever() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let claimed = |attempt, hours: i64| Claimed {
            id: 1,
            lane: Lane::default(),
            failures: 0,
            key: String::new(),
            attempt,
            event: "failure".into(),
            channel: "slack_config".into(),
            facts: serde_json::Value::Null,
            created_at: now - SignedDuration::from_hours(hours),
            config: None,
            sealed: None,
            of_version: None,
        };
        let passing = || Err(SendError::Passing("503".into()));
        let again = |secs| Fate::Again(Duration::from_secs(secs), "503".into());
        assert_eq!(fate(&claimed(1, 0), passing(), now, 0.5), again(5));
        assert_eq!(fate(&claimed(3, 0), passing(), now, 0.5), again(20));
        assert_eq!(fate(&claimed(300, 1), passing(), now, 0.5), again(900));
        assert_eq!(fate(&claimed(99, 25), passing(), now, 0.5), Fate::Failed("503".into()));
        assert_eq!(fate(&claimed(1, 0), Err(SendError::Lasting("404".into())), now, 0.5), Fate::Failed("404".into()));
        assert_eq!(fate(&claimed(1, 0), Ok(()), now, 0.5), Fate::Sent);
    }
}
