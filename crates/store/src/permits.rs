//! Permits of limits that hold across pipelines, as schedulers settle them. Refuses to decide who gets one: see
//! `domain::permits`, whose rules the statement applies.

use crate::{Error, Store, query, shards::Shard};
use deadpool_postgres::GenericClient;
use domain::{
    id::WorkspaceId,
    limits,
    permits::{Answer, Claim, Pool, Want, fair_share},
};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};
use tokio_postgres::Row;
use uuid::Uuid;

/// What one statement answered about one claim.
struct Granted {
    granted: u32,
    max: u32,
    excess: u32,
    others: Vec<Want>,
}

/// Settles claims: each with its shard in the epoch that its owner believes in. A claim whose shard has another owner has
/// no answer.
///
/// # Errors
/// When the database does not answer; then nobody knows what counts, and the claims are to be made again.
pub async fn settle(store: &Store, claims: &[(Shard, Claim)]) -> Result<Vec<Answer>, Error> {
    let mut answers = ask(store, claims).await?;
    if answers.len() < claims.len() {
        // A pool that is used for the first time; or a shard that was lost, which the second try leaves out again.
        ensure(store, claims).await?;
        answers = ask(store, claims).await?;
    }
    let mut wants: HashMap<&Pool, Vec<Want>> = HashMap::new();
    for (_, claim) in claims {
        if let Some(found) = answers.get(&key(claim)) {
            let all = wants.entry(&claim.pool).or_insert_with(|| found.others.clone());
            all.push(Want { held: found.granted, wanted: claim.wanted });
        }
    }
    let answer = |(_, claim): &(Shard, Claim)| {
        let found = answers.get(&key(claim))?;
        let all = wants.get(&claim.pool)?;
        let sum = |of: fn(&Want) -> u32| all.iter().map(of).fold(0_u32, u32::saturating_add);
        let in_all = Want { held: sum(|want| want.held), wanted: sum(|want| want.wanted) };
        Some(Answer {
            pool: claim.pool.clone(),
            shard: claim.shard,
            granted: found.granted,
            target: claim.target,
            wanted: claim.wanted,
            contended: in_all.wanted > found.max,
            share: fair_share(found.max, all, found.granted),
            excess: found.excess,
            free: found.max.saturating_sub(in_all.held),
            in_all,
        })
    };
    Ok(claims.iter().filter_map(answer).collect())
}

type Key = (Uuid, String, u8);

fn key(claim: &Claim) -> Key {
    (claim.pool.workspace.0, claim.pool.key.to_string(), claim.shard)
}

async fn ask(store: &Store, claims: &[(Shard, Claim)]) -> Result<HashMap<Key, Granted>, Error> {
    let shards: BTreeSet<(i16, i64)> = claims.iter().map(|(shard, _)| (shard.id, shard.epoch)).collect();
    let (ids, epochs): (Vec<i16>, Vec<i64>) = shards.into_iter().unzip();
    let workspaces: Vec<Uuid> = claims.iter().map(|(_, claim)| claim.pool.workspace.0).collect();
    let keys: Vec<&str> = claims.iter().map(|(_, claim)| claim.pool.key.as_ref()).collect();
    let names: Vec<&str> = claims.iter().map(|(_, claim)| claim.pool.limit.as_ref()).collect();
    let defaults: Vec<i32> = claims.iter().map(|(_, claim)| default(&claim.pool)).collect();
    let of: Vec<i16> = claims.iter().map(|(shard, _)| shard.id).collect();
    let number = |of: fn(&Claim) -> u32| -> Vec<i32> {
        claims.iter().map(|(_, claim)| i32::try_from(of(claim)).unwrap_or(i32::MAX)).collect()
    };
    let client = store.client().await?;
    let statement = client.prepare_cached(include_str!("../sql/limit_hold/settle.sql")).await?;
    let rows = client
        .query(
            &statement,
            &[
                &ids,
                &epochs,
                &workspaces,
                &keys,
                &names,
                &defaults,
                &of,
                &number(|claim| claim.in_use),
                &number(|claim| claim.target),
                &number(|claim| claim.wanted),
            ],
        )
        .await?;
    Ok(rows.iter().map(granted).collect())
}

fn granted(row: &Row) -> (Key, Granted) {
    let count = |number: i32| u32::try_from(number).unwrap_or(0);
    let (held, wanted): (Vec<i32>, Vec<i32>) = (row.get("others_held"), row.get("others_wanted"));
    let others = held.into_iter().zip(wanted).map(|(held, wanted)| Want { held: count(held), wanted: count(wanted) });
    let shard = u8::try_from(row.get::<_, i16>("shard")).unwrap_or(0);
    let key = (row.get("workspace_id"), row.get("key"), shard);
    let (granted, max, excess) = (row.get("granted"), row.get("max"), row.get("excess"));
    let (granted, max, excess) = (count(granted), count(max), count(excess));
    (key, Granted { granted, max, excess, others: others.collect() })
}

/// The limit where none is defined: a key that lost its definition limits no more.
fn default(pool: &Pool) -> i32 {
    let default = if pool.limit.as_ref() == limits::WORKSPACE { limits::WORKSPACE_DEFAULT } else { limits::LIMIT_MAX };
    i32::try_from(default).unwrap_or(i32::MAX)
}

async fn ensure(store: &Store, claims: &[(Shard, Claim)]) -> Result<(), Error> {
    let workspaces: Vec<Uuid> = claims.iter().map(|(_, claim)| claim.pool.workspace.0).collect();
    let keys: Vec<&str> = claims.iter().map(|(_, claim)| claim.pool.key.as_ref()).collect();
    let client = store.client().await?;
    let statement = client.prepare_cached(include_str!("../sql/limit_pool/ensure.sql")).await?;
    client.execute(&statement, &[&workspaces, &keys]).await?;
    Ok(())
}

/// What shards hold or want, as a new owner finds it: workspace, key, shard.
///
/// # Errors
/// When the database does not answer.
pub async fn of_shards(db: &impl GenericClient, shards: &[i16]) -> Result<Vec<(WorkspaceId, Arc<str>, u8)>, Error> {
    let rows = query::rows(db, include_str!("../sql/limit_hold/of_shards.sql"), &[&shards]).await?;
    let found = |row: &Row| {
        let key: &str = row.get("key");
        (WorkspaceId(row.get("workspace_id")), Arc::from(key), u8::try_from(row.get::<_, i16>("shard")).unwrap_or(0))
    };
    Ok(rows.iter().map(found).collect())
}

/// Forgets up to `limit` pools of which nothing is held or wanted. Answers how many. Whoever wants one of them afterwards
/// finds it as if it had never been.
///
/// # Errors
/// When the database does not answer; then none is forgotten.
pub async fn forget_idle(store: &Store, limit: u32) -> Result<u64, Error> {
    let mut client = store.client().await?;
    // What others settled before the locks were had is seen by the statements that follow them.
    let transaction = client.transaction().await?;
    let limit = i64::from(limit);
    let locked = query::rows(&transaction, include_str!("../sql/limit_pool/lock_idle.sql"), &[&limit]).await?;
    let workspaces: Vec<Uuid> = locked.iter().map(|row| row.get("workspace_id")).collect();
    let keys: Vec<&str> = locked.iter().map(|row| row.get("key")).collect();
    query::execute(&transaction, include_str!("../sql/limit_hold/delete_idle.sql"), &[&workspaces, &keys]).await?;
    let pools = include_str!("../sql/limit_pool/delete_idle.sql");
    let forgotten = query::execute(&transaction, pools, &[&workspaces, &keys]).await?;
    transaction.commit().await?;
    Ok(forgotten)
}
