//! Leases as keys with a time to live. Every change compares the owner's token, in a script, so that nobody prolongs or
//! frees what another holds.

use crate::{Error, Locks};
use redis::{AsyncConnectionConfig, Client, Script, aio::MultiplexedConnection};
use std::{future::Future, sync::LazyLock, time::Duration};
use tokio::sync::Mutex;
use uuid::Uuid;

/// Slower than this is as good as away.
pub(crate) const TIMEOUT: Duration = Duration::from_millis(500);
/// Before every key, so that a Redis may be shared.
const PREFIX: &str = "orrery:lease:";

static HOLD: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"local held = {}
for i, key in ipairs(KEYS) do
  local owner = redis.call('GET', key)
  if owner == ARGV[1] then
    redis.call('PEXPIRE', key, ARGV[2])
    held[i] = 1
  elseif not owner then
    redis.call('SET', key, ARGV[1], 'NX', 'PX', ARGV[2])
    held[i] = 1
  else
    held[i] = 0
  end
end
return held",
    )
});
static RELEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"for _, key in ipairs(KEYS) do
  if redis.call('GET', key) == ARGV[1] then redis.call('DEL', key) end
end",
    )
});

/// Keeps leases in one Redis, or whatever speaks like one.
pub struct Redis {
    client: Client,
    /// Made when first needed, and anew after a failure.
    connection: Mutex<Option<MultiplexedConnection>>,
}

impl Redis {
    /// At this address; nothing is connected yet.
    ///
    /// # Errors
    /// When it is no address of a Redis.
    pub fn new(url: &str) -> Result<Self, Error> {
        Ok(Self { client: Client::open(url).map_err(Error::Url)?, connection: Mutex::default() })
    }

    async fn connection(&self) -> Result<MultiplexedConnection, redis::RedisError> {
        let mut place = self.connection.lock().await;
        if let Some(connection) = place.as_ref() {
            return Ok(connection.clone());
        }
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(TIMEOUT)).set_response_timeout(Some(TIMEOUT));
        let connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        Ok(place.insert(connection).clone())
    }

    /// One question, within the time for it. After a failure the connection is made anew.
    async fn ask<T>(
        &self,
        question: impl AsyncFnOnce(MultiplexedConnection) -> redis::RedisResult<T>,
    ) -> Result<T, Error> {
        let whole = async { question(self.connection().await?).await };
        let answer = match tokio::time::timeout(TIMEOUT, whole).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => Error::Redis(Some(error)),
            Err(_) => Error::Redis(None),
        };
        *self.connection.lock().await = None;
        Err(answer)
    }
}

fn key(name: &String) -> String {
    format!("{PREFIX}{name}")
}

impl Locks for Redis {
    fn hold(
        &self,
        owner: Uuid,
        names: &[String],
        ttl: Duration,
    ) -> impl Future<Output = Result<Vec<bool>, Error>> + Send {
        let keys: Vec<String> = names.iter().map(key).collect();
        async move {
            if keys.is_empty() {
                return Ok(Vec::new());
            }
            let mut invocation = HOLD.prepare_invoke();
            for key in &keys {
                invocation.key(key);
            }
            invocation.arg(owner.to_string()).arg(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
            let held: Vec<i64> =
                self.ask(async |mut connection| invocation.invoke_async(&mut connection).await).await?;
            Ok(held.into_iter().map(|held| held == 1).collect())
        }
    }

    fn release(&self, owner: Uuid, names: &[String]) -> impl Future<Output = Result<(), Error>> + Send {
        let keys: Vec<String> = names.iter().map(key).collect();
        async move {
            if keys.is_empty() {
                return Ok(());
            }
            let mut invocation = RELEASE.prepare_invoke();
            for key in &keys {
                invocation.key(key);
            }
            invocation.arg(owner.to_string());
            self.ask(async |mut connection| invocation.invoke_async(&mut connection).await).await
        }
    }
}
