//! What services say of themselves, which of them live, and who owns what.

use super::{LOOK_AGAIN, SHARED_MAX, Stage};
use anyhow::{Result, ensure};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

/// How long a page of a service may take.
const PAGE_MAX: Duration = Duration::from_secs(2);

impl Stage {
    /// Services that have ended by themselves.
    pub(in crate::faults) fn ended(&mut self) -> Vec<String> {
        self.cluster.services().filter_map(|(name, service)| (!service.is_running()).then(|| name.clone())).collect()
    }

    /// Starts again what has ended by itself, as a supervisor does; answers which those were.
    ///
    /// # Errors
    /// When one cannot be started.
    pub(in crate::faults) async fn revive(&mut self) -> Result<Vec<String>> {
        let ended = self.ended();
        for name in &ended {
            self.cluster.service(name)?.restart()?;
        }
        Ok(ended)
    }

    /// The memory of the service that has most, in MiB.
    pub(in crate::faults) fn memory_mib(&mut self) -> f64 {
        let resident = |pid: u32| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
            line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or_default() / 1024.0
        };
        self.cluster.services().map(|(_, service)| resident(service.pid())).fold(0.0, f64::max)
    }

    /// A counter or gauge of a service, summed over its labels; 0 when it does not say, and when the service is away.
    pub(in crate::faults) async fn metric(&mut self, service: &str, name: &str) -> f64 {
        let Ok(address) = self.cluster.service(service).map(|service| service.admin()) else { return 0.0 };
        let Some(page) = page(&address, "/metrics").await else { return 0.0 };
        let of = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
        page.lines().filter(of).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// What a service says of its health; nothing when it is away.
    pub(in crate::faults) async fn health(&mut self, service: &str) -> String {
        let Ok(address) = self.cluster.service(service).map(|service| service.admin()) else { return String::new() };
        page(&address, "/readyz").await.unwrap_or_default()
    }

    /// As [`Stage::metric`], summed over all services of a kind, such as `scheduler`.
    pub(in crate::faults) async fn metric_of_all(&mut self, kind: &str, name: &str) -> f64 {
        let names: Vec<String> = self.cluster.services().map(|(name, _)| name.clone()).collect();
        let mut sum = 0.0;
        for service in names.iter().filter(|service| service.starts_with(kind)) {
            sum += self.metric(service, name).await;
        }
        sum
    }

    /// Changes of shards' owners since the load began.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(in crate::faults) async fn takings(&self) -> Result<u64> {
        let sql = self.sql().await?;
        let row = sql.query_one("SELECT coalesce(sum(greatest(epoch - 1, 0)), 0)::bigint FROM shard", &[]).await?;
        Ok(u64::try_from(row.get::<_, i64>(0))?.saturating_sub(self.taken_before))
    }

    /// Until so many schedulers have all shards, in even parts; answers how long that took.
    ///
    /// # Errors
    /// When it takes longer than a minute.
    pub(in crate::faults) async fn until_shared(&self, schedulers: usize) -> Result<Duration> {
        let begun = Instant::now();
        let sql = self.sql().await?;
        let even = 256 / i64::try_from(schedulers)?;
        loop {
            let rows = sql
                .query(
                    "SELECT count(s.id) FROM scheduler m LEFT JOIN shard s ON s.owner = m.id
                      WHERE m.lease_until > clock_timestamp() GROUP BY m.id ORDER BY 1",
                    &[],
                )
                .await?;
            let shares: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
            let is_even = shares.iter().all(|share| (share - even).abs() * 5 <= even);
            if shares.len() == schedulers && shares.iter().sum::<i64>() == 256 && is_even {
                return Ok(begun.elapsed());
            }
            ensure!(begun.elapsed() < SHARED_MAX, "the shares are {shares:?}");
            sleep(LOOK_AGAIN).await;
        }
    }
}

/// A page of a service; `None` when it does not answer in time.
async fn page(address: &str, path: &str) -> Option<String> {
    let asking = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut page = String::new();
        stream.read_to_string(&mut page).await?;
        Ok::<_, std::io::Error>(page)
    };
    timeout(PAGE_MAX, asking).await.ok()?.ok()
}
