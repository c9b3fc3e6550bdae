//! The notifier: sends what was noted. Each message is sent by a task of its own, few at a time to one receiver: one that
//! is slow delays what is for itself and nothing else. Claims have a lease, so that what a dead scheduler had claimed is
//! sent by another; a receiver can tell by the message's id.

use crate::{clock::DbClock, engine::Chain, metrics::Metrics, notes};
use jiff::{SignedDuration, Timestamp};
use notify::{Channel, Config, Event, Facts, Policy, SendError};
use runtime::backoff;
use secrets::Keyring;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use store::{
    Store,
    outbox::{self, Claimed, Fate},
};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Between two looks when nothing is due.
const INTERVAL: Duration = Duration::from_secs(1);
/// Claimed at once.
const CLAIMS_MAX: i64 = 128;
/// Under way at once, and of these to one receiver.
const SENDING_MAX: usize = 64;
const RECEIVER_MAX: usize = 4;
/// Nobody else sends a message that was claimed so lately; well above the time that one may take.
const LEASE: Duration = Duration::from_secs(90);
/// What is more than a receiver takes at once waits so long.
const TURN: Duration = Duration::from_secs(1);
/// Pauses between attempts: doubled each time, up to the second.
const PAUSE: Duration = Duration::from_secs(5);
const PAUSE_MAX: Duration = Duration::from_secs(900);
/// A message that could not be sent for so long is given up.
const GIVEN_UP_AFTER: SignedDuration = SignedDuration::from_hours(24);

/// Sends notifications.
#[derive(Clone)]
pub struct Notifier {
    store: Store,
    /// A machine whose own clock jumps puts nothing off for a year.
    clock: DbClock,
    policy: Arc<Policy>,
    metrics: Arc<Metrics>,
    keyring: Option<Arc<Keyring>>,
    places: Arc<Semaphore>,
    receivers: Arc<Mutex<HashMap<String, usize>>>,
}

impl Notifier {
    /// Sends to where `policy` allows; `keyring` opens what says where that is.
    #[must_use]
    pub fn new(
        store: Store,
        clock: DbClock,
        policy: Policy,
        metrics: Arc<Metrics>,
        keyring: Option<Arc<Keyring>>,
    ) -> Self {
        Self {
            store,
            clock,
            policy: Arc::new(policy),
            metrics,
            keyring,
            places: Arc::new(Semaphore::new(SENDING_MAX)),
            receivers: Arc::default(),
        }
    }

    /// Runs until it is stopped. What is under way then is sent again by another scheduler if it was not settled.
    pub async fn run(self, stop: CancellationToken) {
        let mut interval = tokio::time::interval(INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = interval.tick() => {}
            }
            match self.run_once().await {
                Ok(claimed) if claimed == CLAIMS_MAX => interval.reset_immediately(),
                Ok(_) => {}
                Err(error) => tracing::warn!(error = %Chain(&error), "failed to claim notifications"),
            }
        }
    }

    async fn run_once(&self) -> Result<i64, store::Error> {
        let free = i64::try_from(self.places.available_permits()).unwrap_or(CLAIMS_MAX);
        if free == 0 {
            return Ok(0);
        }
        let claimed = outbox::claim(&self.store, CLAIMS_MAX.min(2 * free), LEASE).await?;
        let count = i64::try_from(claimed.len()).unwrap_or(i64::MAX);
        for claimed in claimed {
            self.start(claimed).await?;
        }
        Ok(count)
    }

    /// Sends in a task of its own, or puts back what is too much.
    async fn start(&self, claimed: Claimed) -> Result<(), store::Error> {
        let (config, channel) = match channel(self.keyring.as_deref(), &claimed) {
            Ok(found) => found,
            Err(why) => return outbox::settle(&self.store, &claimed, &Fate::Failed(why)).await,
        };
        let place = Arc::clone(&self.places).try_acquire_owned().ok();
        let (Some(place), Some(turn)) = (place, self.turn(channel.receiver())) else {
            return outbox::settle(&self.store, &claimed, &Fate::Back(TURN)).await;
        };
        let this = self.clone();
        tokio::spawn(async move {
            let fate = this.send(&claimed, &config, &channel).await;
            drop((place, turn));
            if let Err(error) = outbox::settle(&this.store, &claimed, &fate).await {
                tracing::warn!(error = %Chain(&error), "failed to settle a notification; it may be sent again");
            }
        });
        Ok(())
    }

    async fn send(&self, claimed: &Claimed, config: &Config, channel: &Channel) -> Fate {
        let facts: Facts = serde_json::from_value(claimed.facts.clone()).unwrap_or_default();
        let event = Event::parse(&claimed.event).unwrap_or(Event::Test);
        let message = notify::message::message(config, event, &facts);
        let outcome = notify::send(channel, &claimed.key, &message, &facts, &self.policy).await;
        let fate = fate(claimed, outcome, self.clock.now(), backoff::random());
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

/// Where a notification goes by its configuration as it is now.
fn channel(keyring: Option<&Keyring>, claimed: &Claimed) -> Result<(Config, Channel), String> {
    let config = notes::open(keyring, claimed.sealed.as_ref(), claimed.config.clone())?;
    let config = config.as_ref().and_then(serde_json::Value::as_object);
    let config = config.ok_or("its notification_config was removed")?;
    let config = Config::parse(config).map_err(|error| error.to_string())?;
    let channel = config.channels.get(&claimed.channel).cloned();
    let channel = channel.ok_or_else(|| format!("`{}` was removed from its notification_config", claimed.channel))?;
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
            key: String::new(),
            attempt,
            event: "failure".into(),
            channel: "slack_config".into(),
            facts: serde_json::Value::Null,
            created_at: now - SignedDuration::from_hours(hours),
            config: None,
            sealed: None,
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
