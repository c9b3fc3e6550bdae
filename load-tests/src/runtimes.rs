//! What everything about runtimes shares: three pools in shards of their own, workspaces that ask for shares of GPUs,
//! callers of any scheduler, and questions about what is held.

use crate::cluster::{Cluster, Shape};
use anyhow::{Context, Result};
use proto::internal::v1::{self as pb, runtime_command_service_client::RuntimeCommandServiceClient};
use rpc::client::Channel;
use serde_json::{Value, json};
use std::time::Duration;
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

/// A call is given up after this; whoever asked asks again.
const CALL_MAX: Duration = Duration::from_secs(20);

/// Where runtimes run.
#[derive(Debug, Clone, Copy)]
pub struct World {
    /// Their names.
    pub pools: [&'static str; 3],
}

/// The three pools of every scenario.
pub const WORLD: World = World { pools: ["red", "green", "blue"] };

/// A cluster of schedulers whose keys can seal.
pub struct Setup {
    /// The cluster.
    pub cluster: Cluster,
    /// A session with its database.
    pub sql: Client,
    /// Lives as long as the cluster, which reads it.
    pub keys: tempfile::NamedTempFile,
}

/// A file of keys by which schedulers can seal what runtimes are opened with, and the setting that names it.
///
/// # Errors
/// When it cannot be written.
pub fn keys() -> Result<(tempfile::NamedTempFile, (String, String))> {
    let keys = tempfile::NamedTempFile::with_prefix("orrery-keys-")?;
    std::fs::write(keys.path(), format!("one:{}\n", "07".repeat(32)))?;
    let setting = ("ORRERY_SCHEDULER_SECRET_KEYS_FILE".to_owned(), keys.path().display().to_string());
    Ok((keys, setting))
}

impl Setup {
    /// So many schedulers, a web-server, and no executor.
    #[must_use]
    pub fn shape(schedulers: usize) -> Shape {
        Shape { schedulers, scheduler_places: schedulers, executors: 0, ..Shape::default() }
    }

    /// Starts it.
    ///
    /// # Errors
    /// When the cluster does not start.
    pub async fn new(schedulers: usize) -> Result<Self> {
        Self::with(Self::shape(schedulers)).await
    }

    /// The same, of another shape.
    ///
    /// # Errors
    /// When the cluster does not start.
    pub async fn with(mut shape: Shape) -> Result<Self> {
        let (keys, setting) = keys()?;
        shape.settings.push(setting);
        let cluster = Cluster::start_as(shape).await?;
        let (sql, connection) = tokio_postgres::connect(&cluster.database_url(), NoTls).await?;
        tokio::spawn(connection);
        Ok(Self { cluster, sql, keys })
    }
}

impl World {
    /// A project with this quota, a queue for each pool, and so many workspaces in each.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn fill(&self, sql: &Client, each: usize, quota: Option<i64>) -> Result<Vec<(&'static str, Uuid)>> {
        let (project, plan) = (Uuid::now_v7(), Uuid::now_v7());
        sql.execute("INSERT INTO project (id, name) VALUES ($1, 'gpus')", &[&project]).await?;
        let policy = "INSERT INTO project_policy (project_id, gpu_milli) VALUES ($1, $2)";
        sql.execute(policy, &[&project, &quota]).await?;
        sql.execute("INSERT INTO plan (id, name) VALUES ($1, 'all')", &[&plan]).await?;
        sql.execute("INSERT INTO project_plan (project_id, plan_id) VALUES ($1, $2)", &[&project, &plan]).await?;
        let mut workspaces = Vec::new();
        for pool in self.pools {
            let queue = Uuid::now_v7();
            sql.execute("INSERT INTO queue (id, name, pool) VALUES ($1, $2, $2)", &[&queue, &pool]).await?;
            sql.execute("INSERT INTO plan_queue (plan_id, queue_id) VALUES ($1, $2)", &[&plan, &queue]).await?;
            for at in 0..each {
                let (id, name) = (Uuid::now_v7(), format!("{pool}-{at}"));
                let workspace = "INSERT INTO workspace (id, name, project_id) VALUES ($1, $2, $3)";
                sql.execute(workspace, &[&id, &name, &project]).await?;
                let spec = "INSERT INTO runtime_spec (workspace_id, spec, queue_id) VALUES ($1, $2, $3)";
                sql.execute(spec, &[&id, &self::spec(at), &queue]).await?;
                workspaces.push((pool, id));
            }
        }
        Ok(workspaces)
    }
}

/// Which of a pool's workspaces asks for shares of several GPUs at once: a gang that leaves room for others.
pub const GANG: usize = 4;

/// Shares as people ask for them, and now and then several whole GPUs.
fn spec(at: usize) -> Value {
    let (gpus, gpu_milli) = [(1, 250), (1, 500), (1, 400), (1, 1000), (2, 300), (1, 700), (1, 100), (2, 1000)][at % 8];
    json!({
        "app": "jupyter",
        "ask": { "gpus": gpus, "gpu_milli": gpu_milli, "gpu_memory_bytes": null, "models": [], "models_ordered": false,
                 "link": "any", "cpu_milli": 500, "memory_bytes": 1_i64 << 30 },
    })
}

/// Asks schedulers; the next one, when one is away.
#[derive(Clone)]
pub struct Caller {
    schedulers: Vec<Channel>,
    pool: String,
    first: usize,
}

impl Caller {
    /// Of runtimes in this pool; asks this scheduler first.
    ///
    /// # Errors
    /// When the cluster has no token.
    pub fn new(cluster: &Cluster, pool: &str, first: usize) -> Result<Self> {
        Ok(Self { schedulers: cluster.schedulers()?, pool: pool.to_owned(), first })
    }

    /// Starts one; answers its number.
    ///
    /// # Errors
    /// The last refusal, when no scheduler takes it.
    pub async fn start(&self, workspace: Uuid) -> Result<i64> {
        let request = || pb::StartRuntimeRequest {
            workspace_id: workspace.as_bytes().to_vec(),
            pool: self.pool.clone(),
            spec_version: 1,
            ..pb::StartRuntimeRequest::default()
        };
        let mut last = None;
        for client in self.clients() {
            match { client }.start_runtime(rpc::client::within(CALL_MAX, request())).await {
                Ok(answer) => return Ok(answer.into_inner().number),
                Err(status) => last = Some(status),
            }
        }
        Err(last.context("a scheduler")?.into())
    }

    /// Stops one.
    ///
    /// # Errors
    /// As [`Caller::start`].
    pub async fn stop(&self, workspace: Uuid) -> Result<()> {
        self.end(workspace, "USER").await
    }

    /// Says that the node of one is off for good, whether that is true or not.
    ///
    /// # Errors
    /// As [`Caller::start`].
    pub async fn fence(&self, workspace: Uuid) -> Result<()> {
        self.end(workspace, "FENCED").await
    }

    async fn end(&self, workspace: Uuid, reason: &str) -> Result<()> {
        let request = || pb::StopRuntimeRequest {
            workspace_id: workspace.as_bytes().to_vec(),
            pool: self.pool.clone(),
            reason: reason.to_owned(),
            ..pb::StopRuntimeRequest::default()
        };
        let mut last = None;
        for client in self.clients() {
            match { client }.stop_runtime(rpc::client::within(CALL_MAX, request())).await {
                Ok(_) => return Ok(()),
                Err(status) => last = Some(status),
            }
        }
        Err(last.context("a scheduler")?.into())
    }

    fn clients(&self) -> impl Iterator<Item = RuntimeCommandServiceClient<Channel>> {
        let all = self.schedulers.len();
        (0..all).map(move |at| RuntimeCommandServiceClient::new(self.schedulers[(self.first + at) % all].clone()))
    }
}

/// Rows that are not what they should be at this instant: sums that are not those of their parts, devices and quotas beyond
/// their whole.
///
/// # Errors
/// When the database does not answer.
pub async fn audit(sql: &Client) -> Result<i64> {
    let wrong = "
        SELECT (SELECT count(*) FROM device d WHERE d.used_milli > 1000 OR d.used_milli <> coalesce((SELECT sum(milli)
                    FROM grant_of_device g WHERE g.device_id = d.id AND g.state = 'held'), 0))
             + (SELECT count(*) FROM node n WHERE n.cpu_used > n.cpu_milli OR n.cpu_used <> coalesce((SELECT sum(cpu_milli)
                    FROM placement p WHERE p.node_id = n.id AND p.state <> 'nominated'), 0))
             + (SELECT count(*) FROM project_usage u JOIN project_policy l USING (project_id)
                    WHERE u.gpu_milli > coalesce(l.gpu_milli, u.gpu_milli)
                       OR u.gpu_milli <> (SELECT coalesce(sum(effective_milli), 0) FROM placement p
                                          WHERE p.project_id = u.project_id))
             + (SELECT count(*) FROM placement p WHERE NOT EXISTS (SELECT FROM runtime r WHERE r.holder = p.holder))";
    Ok(sql.query_one(wrong, &[]).await?.get(0))
}

/// Placements, grants and lives that are left, and what projects are said to hold.
///
/// # Errors
/// When the database does not answer.
pub async fn is_empty(sql: &Client) -> Result<i64> {
    let left = "SELECT (SELECT count(*) FROM placement) + (SELECT count(*) FROM grant_of_device)
                     + (SELECT count(*) FROM runtime WHERE state NOT IN ('stopped', 'error'))
                     + (SELECT coalesce(sum(gpu_milli + runtimes), 0) FROM project_usage)::bigint";
    Ok(sql.query_one(left, &[]).await?.get(0))
}
