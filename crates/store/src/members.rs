//! Who works in a workspace, and who was invited. Refuses to know what a role allows.

use crate::{Error, query};
use deadpool_postgres::GenericClient;
use domain::{
    id::{UserId, WorkspaceId},
    role::WorkspaceRole,
};
use jiff::Timestamp;

/// A member, or somebody who was invited.
#[derive(Debug, Clone)]
pub struct Member {
    /// In lower case.
    pub email: String,
    /// As shown; empty for who was invited.
    pub name: String,
    /// What they may do.
    pub role: Option<WorkspaceRole>,
    /// Nobody has signed in with this address yet.
    pub invited: bool,
    /// Since when.
    pub since: Timestamp,
}

/// Adds a member or changes the role.
///
/// # Errors
/// When the statement fails.
pub async fn set(
    db: &impl GenericClient,
    workspace: WorkspaceId,
    user: UserId,
    role: WorkspaceRole,
) -> Result<(), Error> {
    let sql = include_str!("../sql/workspace_member/upsert.sql");
    query::execute(db, sql, &[&workspace.0, &user.0, &role.word()]).await?;
    Ok(())
}

/// The role of a person; `None` for who is no member.
///
/// # Errors
/// When the statement fails.
pub async fn get(
    db: &impl GenericClient,
    workspace: WorkspaceId,
    user: UserId,
) -> Result<Option<WorkspaceRole>, Error> {
    let row = query::row(db, include_str!("../sql/workspace_member/get.sql"), &[&workspace.0, &user.0]).await?;
    Ok(row.and_then(|row| WorkspaceRole::of_word(row.get(0))))
}

/// Removes a member.
///
/// # Errors
/// When the statement fails.
pub async fn remove(db: &impl GenericClient, workspace: WorkspaceId, user: UserId) -> Result<(), Error> {
    query::execute(db, include_str!("../sql/workspace_member/delete.sql"), &[&workspace.0, &user.0]).await?;
    Ok(())
}

/// How many own it and can sign in. Hold the workspace's lock when acting on the answer.
///
/// # Errors
/// When the statement fails.
pub async fn count_owners(db: &impl GenericClient, workspace: WorkspaceId) -> Result<i64, Error> {
    Ok(query::one(db, include_str!("../sql/workspace_member/count_owners.sql"), &[&workspace.0]).await?.get(0))
}

/// Members and invitations together.
///
/// # Errors
/// When the statement fails.
pub async fn count(db: &impl GenericClient, workspace: WorkspaceId) -> Result<i64, Error> {
    Ok(query::one(db, include_str!("../sql/workspace_member/count.sql"), &[&workspace.0]).await?.get(0))
}

/// A page by address, after the address `after`.
///
/// # Errors
/// When the statement fails.
pub async fn list(
    db: &impl GenericClient,
    workspace: WorkspaceId,
    after: &str,
    limit: i64,
) -> Result<Vec<Member>, Error> {
    let sql = include_str!("../sql/workspace_member/list.sql");
    let decode = |row: &tokio_postgres::Row| Member {
        email: row.get(0),
        name: row.get(1),
        role: WorkspaceRole::of_word(row.get(2)),
        invited: row.get(3),
        since: row.get(4),
    };
    Ok(query::rows(db, sql, &[&workspace.0, &after, &limit]).await?.iter().map(decode).collect())
}

/// Invites an address that nobody has, or changes the role of an invitation.
///
/// # Errors
/// When the statement fails.
pub async fn invite(
    db: &impl GenericClient,
    workspace: WorkspaceId,
    email: &str,
    role: WorkspaceRole,
    by: UserId,
) -> Result<(), Error> {
    let sql = include_str!("../sql/workspace_invitation/upsert.sql");
    query::execute(db, sql, &[&workspace.0, &email, &role.word(), &by.0]).await?;
    Ok(())
}

/// Whether an address was invited to any workspace.
///
/// # Errors
/// When the statement fails.
pub async fn is_invited(db: &impl GenericClient, email: &str) -> Result<bool, Error> {
    Ok(query::one(db, include_str!("../sql/workspace_invitation/exists.sql"), &[&email]).await?.get(0))
}

/// Takes an invitation back; answers the role that it offered, or `None` when there is none.
///
/// # Errors
/// When the statement fails.
pub async fn uninvite(
    db: &impl GenericClient,
    workspace: WorkspaceId,
    email: &str,
) -> Result<Option<WorkspaceRole>, Error> {
    let sql = include_str!("../sql/workspace_invitation/delete.sql");
    let row = query::row(db, sql, &[&workspace.0, &email]).await?;
    Ok(row.and_then(|row| WorkspaceRole::of_word(row.get("role"))))
}

/// Makes a person a member of everything that this address was invited to.
///
/// # Errors
/// When the statement fails.
pub async fn accept(db: &impl GenericClient, email: &str, user: UserId) -> Result<(), Error> {
    query::execute(db, include_str!("../sql/workspace_invitation/accept.sql"), &[&email, &user.0]).await?;
    Ok(())
}
