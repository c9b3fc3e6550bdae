//! Groups of people. Refuses to know what they may do.

use crate::{
    Error, query,
    users::{self, User},
};
use deadpool_postgres::GenericClient;
use domain::{
    id::{GroupId, UserId},
    role::Role,
};
use jiff::Timestamp;
use tokio_postgres::Row;

/// A group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Stable.
    pub id: GroupId,
    /// A DNS label.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// How many people.
    pub members: i32,
}

fn decode(row: &Row) -> Group {
    Group { id: GroupId(row.get(0)), name: row.get(1), created_at: row.get(2), members: row.get(3) }
}

/// Adds a group; `None` when the name is taken.
///
/// # Errors
/// When the statement fails.
pub async fn insert(db: &impl GenericClient, id: GroupId, name: &str) -> Result<Option<Group>, Error> {
    Ok(query::row(db, include_str!("../sql/user_group/insert.sql"), &[&id.0, &name]).await?.as_ref().map(decode))
}

/// The group of this name.
///
/// # Errors
/// When the statement fails.
pub async fn get(db: &impl GenericClient, name: &str) -> Result<Option<Group>, Error> {
    Ok(query::row(db, include_str!("../sql/user_group/get.sql"), &[&name]).await?.as_ref().map(decode))
}

/// A page of groups by name, after the name `after`.
///
/// # Errors
/// When the statement fails.
pub async fn list(db: &impl GenericClient, after: &str, limit: i64) -> Result<Vec<Group>, Error> {
    let rows = query::rows(db, include_str!("../sql/user_group/list.sql"), &[&after, &limit]).await?;
    Ok(rows.iter().map(decode).collect())
}

/// Whether a group gives those who are in it more in some project than a person has there, whose role over the cluster is `role`.
///
/// # Errors
/// When the statement fails.
pub async fn gives_more(
    db: &impl GenericClient,
    group: GroupId,
    user: UserId,
    role: Option<Role>,
) -> Result<bool, Error> {
    let sql = include_str!("../sql/user_group/gives_more.sql");
    Ok(query::one(db, sql, &[&group.0, &user.0, &role.map_or(0, Role::rank)]).await?.get(0))
}

/// Deletes a group; false while it owns a project, or is the last owner of one.
///
/// # Errors
/// When the statement fails.
pub async fn delete(db: &impl GenericClient, id: GroupId) -> Result<bool, Error> {
    Ok(query::execute(db, include_str!("../sql/user_group/delete.sql"), &[&id.0]).await? > 0)
}

/// Adds a person; twice is no error.
///
/// # Errors
/// When the statement fails.
pub async fn add(db: &impl GenericClient, group: GroupId, user: UserId) -> Result<(), Error> {
    query::execute(db, include_str!("../sql/user_group_member/insert.sql"), &[&group.0, &user.0]).await?;
    Ok(())
}

/// Removes a person; false for who is no member.
///
/// # Errors
/// When the statement fails.
pub async fn remove(db: &impl GenericClient, group: GroupId, user: UserId) -> Result<bool, Error> {
    let sql = include_str!("../sql/user_group_member/delete.sql");
    Ok(query::execute(db, sql, &[&group.0, &user.0]).await? > 0)
}

/// Whether a person is a member.
///
/// # Errors
/// When the statement fails.
pub async fn has(db: &impl GenericClient, group: GroupId, user: UserId) -> Result<bool, Error> {
    let sql = include_str!("../sql/user_group_member/exists.sql");
    Ok(query::one(db, sql, &[&group.0, &user.0]).await?.get(0))
}

/// A page of members by address, after the address `after`.
///
/// # Errors
/// When the statement fails.
pub async fn members(db: &impl GenericClient, group: GroupId, after: &str, limit: i64) -> Result<Vec<User>, Error> {
    let sql = include_str!("../sql/user_group_member/list.sql");
    Ok(query::rows(db, sql, &[&group.0, &after, &limit]).await?.iter().map(users::decode).collect())
}
