//! People: who they are and how they sign in. Refuses to hash or compare anything.

use crate::{Error, Transaction, query};
use deadpool_postgres::GenericClient;
use domain::{id::UserId, role::Role};
use jiff::Timestamp;
use tokio_postgres::Row;

/// A person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Stable.
    pub id: UserId,
    /// In lower case.
    pub email: String,
    /// As shown; may be empty.
    pub name: String,
    /// Over the whole cluster.
    pub role: Option<Role>,
    /// When the account was made.
    pub created_at: Timestamp,
    /// Nobody signs in as this person.
    pub disabled: bool,
    /// What kind of password there is.
    pub password: PasswordState,
}

/// What kind of password a person has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PasswordState {
    /// None: signs in elsewhere.
    None,
    /// One that must be changed at the first use.
    OneTime,
    /// One of their own.
    Set,
}

impl PasswordState {
    fn of_word(word: &str) -> Self {
        match word {
            "set" => Self::Set,
            "one-time" => Self::OneTime,
            _ => Self::None,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::OneTime => "one-time",
            Self::Set => "set",
        }
    }
}

/// What a sign-in is compared with; `Debug` is left out on purpose.
pub struct Password {
    /// Whose.
    pub user: UserId,
    /// PHC string.
    pub hash: String,
    /// Of its own, or to be changed.
    pub state: PasswordState,
}

/// A person to be.
pub struct NewUser<'a> {
    /// The id.
    pub id: UserId,
    /// In lower case.
    pub email: &'a str,
    /// As shown.
    pub name: &'a str,
    /// The hash of a one-time password; `None` for who signs in elsewhere.
    pub one_time_password_hash: Option<&'a str>,
    /// Over the whole cluster.
    pub role: Option<Role>,
}

/// The columns that every statement about people begins with.
pub(crate) fn decode(row: &Row) -> User {
    User {
        id: UserId(row.get(0)),
        email: row.get(1),
        name: row.get(2),
        role: row.get::<_, Option<&str>>(3).and_then(Role::of_word),
        created_at: row.get(4),
        disabled: row.get(5),
        password: PasswordState::of_word(row.get(6)),
    }
}

/// Adds a person; `None` when the address is taken.
///
/// # Errors
/// When the statement fails.
pub async fn insert(db: &impl GenericClient, new: &NewUser<'_>) -> Result<Option<User>, Error> {
    let state = if new.one_time_password_hash.is_some() { PasswordState::OneTime } else { PasswordState::None };
    let role = new.role.map(Role::word);
    let sql = include_str!("../sql/user_account/insert.sql");
    let parameters: query::Parameters<'_> =
        &[&new.id.0, &new.email, &new.name, &new.one_time_password_hash, &state.word(), &role];
    Ok(query::row(db, sql, parameters).await?.as_ref().map(decode))
}

/// Whether anybody is there.
///
/// # Errors
/// When the statement fails.
pub async fn any(db: &impl GenericClient) -> Result<bool, Error> {
    Ok(query::one(db, include_str!("../sql/user_account/any.sql"), &[]).await?.get(0))
}

/// Adds the first person, as owner by a one-time password; `None` when anybody is there already.
///
/// # Errors
/// When the statement fails.
pub async fn insert_first(
    db: &impl GenericClient,
    id: UserId,
    email: &str,
    password_hash: &str,
) -> Result<Option<User>, Error> {
    let sql = include_str!("../sql/user_account/insert_first.sql");
    Ok(query::row(db, sql, &[&id.0, &email, &password_hash]).await?.as_ref().map(decode))
}

/// The owner who was there first.
///
/// # Errors
/// When the statement fails.
pub async fn first_owner(db: &impl GenericClient) -> Result<Option<User>, Error> {
    Ok(query::row(db, include_str!("../sql/user_account/first_owner.sql"), &[]).await?.as_ref().map(decode))
}

/// The person with this address.
///
/// # Errors
/// When the statement fails.
pub async fn get(db: &impl GenericClient, email: &str) -> Result<Option<User>, Error> {
    Ok(query::row(db, include_str!("../sql/user_account/get.sql"), &[&email]).await?.as_ref().map(decode))
}

/// The person with this id.
///
/// # Errors
/// When the statement fails.
pub async fn get_by_id(db: &impl GenericClient, id: UserId) -> Result<Option<User>, Error> {
    Ok(query::row(db, include_str!("../sql/user_account/get_by_id.sql"), &[&id.0]).await?.as_ref().map(decode))
}

/// The person who is this subject at an issuer.
///
/// # Errors
/// When the statement fails.
pub async fn get_by_oidc(db: &impl GenericClient, issuer: &str, subject: &str) -> Result<Option<User>, Error> {
    let sql = include_str!("../sql/user_account/get_by_oidc.sql");
    Ok(query::row(db, sql, &[&issuer, &subject]).await?.as_ref().map(decode))
}

/// What a sign-in is compared with; `None` for who is disabled, has no password, or is not there.
///
/// # Errors
/// When the statement fails.
pub async fn password(db: &impl GenericClient, email: &str) -> Result<Option<Password>, Error> {
    let row = query::row(db, include_str!("../sql/user_account/get_password.sql"), &[&email]).await?;
    Ok(row.map(|row| Password {
        user: UserId(row.get(0)),
        hash: row.get(1),
        state: PasswordState::of_word(row.get(2)),
    }))
}

/// A page of people by address, after the address `after`.
///
/// # Errors
/// When the statement fails.
pub async fn list(db: &impl GenericClient, after: &str, limit: i64) -> Result<Vec<User>, Error> {
    let rows = query::rows(db, include_str!("../sql/user_account/list.sql"), &[&after, &limit]).await?;
    Ok(rows.iter().map(decode).collect())
}

/// Everybody who is an owner, locked until the transaction ends.
///
/// # Errors
/// When the statement fails.
pub async fn lock_owners(db: &impl GenericClient) -> Result<Vec<UserId>, Error> {
    let rows = query::rows(db, include_str!("../sql/user_account/lock_owners.sql"), &[]).await?;
    Ok(rows.iter().map(|row| UserId(row.get(0))).collect())
}

/// Changes the role over the whole cluster.
///
/// # Errors
/// When the statement fails.
pub async fn set_role(db: &impl GenericClient, id: UserId, role: Option<Role>) -> Result<Option<User>, Error> {
    let sql = include_str!("../sql/user_account/set_role.sql");
    Ok(query::row(db, sql, &[&id.0, &role.map(Role::word)]).await?.as_ref().map(decode))
}

/// Lets nobody sign in as this person, or lets them again.
///
/// # Errors
/// When the statement fails.
pub async fn set_disabled(db: &impl GenericClient, id: UserId, disabled: bool) -> Result<(), Error> {
    query::execute(db, include_str!("../sql/user_account/set_disabled.sql"), &[&id.0, &disabled]).await?;
    Ok(())
}

/// Sets a password; over `compared` only when that is still the one, over any when it is `None`. Answers whether it did.
///
/// # Errors
/// When the statement fails.
pub async fn set_password(
    db: &impl GenericClient,
    id: UserId,
    hash: &str,
    state: PasswordState,
    compared: Option<&str>,
) -> Result<bool, Error> {
    let sql = include_str!("../sql/user_account/set_password.sql");
    Ok(query::execute(db, sql, &[&id.0, &hash, &state.word(), &compared]).await? > 0)
}

/// Whether a person is not disabled and, where a hash was `compared`, still has that password. Then both stay so until the
/// transaction ends: for whoever adds a credential in it.
///
/// # Errors
/// When the statement fails.
pub async fn hold(db: &Transaction<'_>, id: UserId, compared: Option<&str>) -> Result<bool, Error> {
    let sql = include_str!("../sql/user_account/hold.sql");
    Ok(query::row(db, sql, &[&id.0, &compared]).await?.is_some())
}

/// Ties a person to an identity elsewhere; false when tied to another already.
///
/// # Errors
/// When the statement fails.
pub async fn link_oidc(db: &impl GenericClient, id: UserId, issuer: &str, subject: &str) -> Result<bool, Error> {
    let sql = include_str!("../sql/user_account/link_oidc.sql");
    Ok(query::execute(db, sql, &[&id.0, &issuer, &subject]).await? > 0)
}

/// Unties a person from who they are elsewhere.
///
/// # Errors
/// When the statement fails.
pub async fn unlink_oidc(db: &impl GenericClient, id: UserId) -> Result<(), Error> {
    query::execute(db, include_str!("../sql/user_account/unlink_oidc.sql"), &[&id.0]).await?;
    Ok(())
}
