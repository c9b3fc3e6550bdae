//! Projects and who belongs to them. Refuses to know what a role allows.

use crate::{Error, query};
use deadpool_postgres::GenericClient;
use domain::{
    id::{GroupId, ProjectId, UserId},
    role::Role,
};
use jiff::Timestamp;
use tokio_postgres::Row;
use uuid::Uuid;

/// A project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// Stable.
    pub id: ProjectId,
    /// A DNS label, unique in the cluster.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Whose personal project it is; empty for the others.
    pub owner_email: String,
    /// The group that owns it; empty for the others.
    pub owner_group: String,
    /// Nothing new comes into it.
    pub archived: bool,
}

/// A person or a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// A person.
    User(UserId),
    /// A group.
    Group(GroupId),
}

impl Who {
    fn columns(self) -> (Option<Uuid>, Option<Uuid>) {
        match self {
            Self::User(id) => (Some(id.0), None),
            Self::Group(id) => (None, Some(id.0)),
        }
    }
}

/// A member of a project.
#[derive(Debug, Clone)]
pub struct Member {
    /// Orders the list.
    pub key: String,
    /// A person's address; empty for a group.
    pub email: String,
    /// A group's name; empty for a person.
    pub group: String,
    /// What they may do.
    pub role: Option<Role>,
}

fn decode(row: &Row) -> Project {
    Project {
        id: ProjectId(row.get(0)),
        name: row.get(1),
        created_at: row.get(2),
        owner_email: row.get(3),
        owner_group: row.get(4),
        archived: row.get(5),
    }
}

/// Adds a project; false when the name is taken, or the person has a personal one already.
///
/// # Errors
/// When the statement fails.
pub async fn insert(db: &impl GenericClient, id: ProjectId, name: &str, owner: Option<Who>) -> Result<bool, Error> {
    let (user, group) = owner.map_or((None, None), Who::columns);
    let sql = include_str!("../sql/project/insert.sql");
    Ok(query::row(db, sql, &[&id.0, &name, &user, &group]).await?.is_some())
}

/// The project of this name.
///
/// # Errors
/// When the statement fails.
pub async fn get(db: &impl GenericClient, name: &str) -> Result<Option<Project>, Error> {
    Ok(query::row(db, include_str!("../sql/project/get.sql"), &[&name]).await?.as_ref().map(decode))
}

/// The personal project of a person.
///
/// # Errors
/// When the statement fails.
pub async fn personal(db: &impl GenericClient, user: UserId) -> Result<Option<Project>, Error> {
    Ok(query::row(db, include_str!("../sql/project/get_personal.sql"), &[&user.0]).await?.as_ref().map(decode))
}

/// A page by name, after the name `after`, of what `user` may see; `None` sees all.
///
/// # Errors
/// When the statement fails.
pub async fn list(
    db: &impl GenericClient,
    user: Option<UserId>,
    after: &str,
    limit: i64,
) -> Result<Vec<Project>, Error> {
    let sql = include_str!("../sql/project/list.sql");
    Ok(query::rows(db, sql, &[&user.map(|id| id.0), &after, &limit]).await?.iter().map(decode).collect())
}

/// Archives a project; false for a personal one, and while it has workspaces in use.
///
/// # Errors
/// When the statement fails.
pub async fn archive(db: &impl GenericClient, id: ProjectId) -> Result<bool, Error> {
    Ok(query::row(db, include_str!("../sql/project/archive.sql"), &[&id.0]).await?.is_some())
}

/// Locks a project until the transaction ends; false when it is archived or not there.
///
/// # Errors
/// When the statement fails.
pub async fn lock(db: &impl GenericClient, id: ProjectId) -> Result<bool, Error> {
    Ok(query::row(db, include_str!("../sql/project/lock.sql"), &[&id.0]).await?.is_some())
}

/// Adds a member or changes the role. Hold the project's lock.
///
/// # Errors
/// When the statement fails.
pub async fn set_member(db: &impl GenericClient, project: ProjectId, who: Who, role: Role) -> Result<(), Error> {
    let (user, group) = who.columns();
    let sql = include_str!("../sql/project_member/upsert.sql");
    query::execute(db, sql, &[&Uuid::now_v7(), &project.0, &user, &group, &role.word()]).await?;
    Ok(())
}

/// Removes a member; false for who is none.
///
/// # Errors
/// When the statement fails.
pub async fn remove_member(db: &impl GenericClient, project: ProjectId, who: Who) -> Result<bool, Error> {
    let (user, group) = who.columns();
    let sql = include_str!("../sql/project_member/delete.sql");
    Ok(query::execute(db, sql, &[&project.0, &user, &group]).await? > 0)
}

/// A page of members after the key `after`.
///
/// # Errors
/// When the statement fails.
pub async fn members(
    db: &impl GenericClient,
    project: ProjectId,
    after: &str,
    limit: i64,
) -> Result<Vec<Member>, Error> {
    let rows = query::rows(db, include_str!("../sql/project_member/list.sql"), &[&project.0, &after, &limit]).await?;
    let decode =
        |row: &Row| Member { key: row.get(0), email: row.get(1), group: row.get(2), role: Role::of_word(row.get(3)) };
    Ok(rows.iter().map(decode).collect())
}

/// How many own a project, in whatever way.
///
/// # Errors
/// When the statement fails.
pub async fn count_owners(db: &impl GenericClient, project: ProjectId) -> Result<i64, Error> {
    Ok(query::one(db, include_str!("../sql/project_member/owners.sql"), &[&project.0]).await?.get(0))
}

/// The role that a person or a group was given; `None` for who is no member.
///
/// # Errors
/// When the statement fails.
pub async fn role(db: &impl GenericClient, project: ProjectId, who: Who) -> Result<Option<Role>, Error> {
    let (user, group) = who.columns();
    let row = query::row(db, include_str!("../sql/project_member/get.sql"), &[&project.0, &user, &group]).await?;
    Ok(row.and_then(|row| Role::of_word(row.get(0))))
}
