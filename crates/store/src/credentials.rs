//! What people present: browser sessions, personal tokens, and sign-ins elsewhere that have begun. Only hashes are kept.
//! Refuses to make or compare any.

use crate::{
    Error, query,
    users::{self, User},
};
use deadpool_postgres::GenericClient;
use domain::id::{TokenId, UserId};
use jiff::Timestamp;
use std::time::Duration;
use tokio_postgres::Row;
use uuid::Uuid;

/// What a sign-in or a token came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Somebody who was signed in asked for a token of that name.
    Person,
    /// A sign-in by password: a change of the password ends it.
    Password,
    /// A sign-in at the provider.
    Elsewhere,
    /// The operator's token.
    Operator,
}

impl Origin {
    /// As the columns say.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Password => "password",
            Self::Elsewhere => "elsewhere",
            Self::Operator => "operator",
        }
    }

    /// Of a column; `None` for what is older than it.
    fn read(row: &Row, column: usize) -> Option<Self> {
        let all = [Self::Person, Self::Password, Self::Elsewhere, Self::Operator];
        let word: Option<&str> = row.get(column);
        all.into_iter().find(|origin| Some(origin.word()) == word)
    }
}

/// A browser that is signed in.
pub struct Session {
    /// Whose.
    pub user: User,
    /// Of the token that shows that a request was not forged.
    pub csrf_hash: Vec<u8>,
    /// What it came from, unless it is older than that is noted.
    pub origin: Option<Origin>,
}

/// A session as its owner sees it.
#[derive(Debug, Clone)]
pub struct OwnSession {
    /// Sixteen hexadecimal digits, which open nothing.
    pub id: String,
    /// What it came from, unless it is older than that is noted.
    pub origin: Option<Origin>,
    /// When somebody signed in.
    pub created_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Timestamp,
    /// By which a caller tells the own one; not to be shown.
    pub secret_hash: Vec<u8>,
}

/// A token as its owner sees it.
#[derive(Debug, Clone)]
pub struct AccessToken {
    /// Time-ordered.
    pub id: TokenId,
    /// What the owner calls it.
    pub name: String,
    /// How it begins.
    pub prefix: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// True to some minutes.
    pub last_used_at: Option<Timestamp>,
    /// When it was ended.
    pub revoked_at: Option<Timestamp>,
    /// What it came from, unless it is older than that is noted.
    pub origin: Option<Origin>,
}

/// A token in force that begins as the one that was presented.
pub struct Candidate {
    /// Whose.
    pub user: User,
    /// Which.
    pub token: TokenId,
    /// Of its secret part; compare in constant time.
    pub secret_hash: Vec<u8>,
    /// Its last use was noted some time ago.
    pub touch: bool,
    /// What it came from, unless it is older than that is noted.
    pub origin: Option<Origin>,
}

/// A token to be.
pub struct NewToken<'a> {
    /// The id.
    pub id: TokenId,
    /// Whose.
    pub user: UserId,
    /// What it is called.
    pub name: &'a str,
    /// How it begins.
    pub prefix: &'a str,
    /// Of its secret part.
    pub secret_hash: &'a [u8],
    /// `None` for ever.
    pub lifetime: Option<Duration>,
    /// What it comes from.
    pub origin: Origin,
}

/// What became of a token to be.
pub enum Added {
    /// It is in force.
    Token(AccessToken),
    /// The person has [`TOKENS_MAX`] in force.
    TooMany,
    /// There is one that begins so, of whomever.
    Taken,
}

/// The most tokens of one person that are in force at once.
pub const TOKENS_MAX: i64 = 100;
/// Sessions that one call forgets at most.
const FORGET_MAX: i64 = 100;

fn decode_token(row: &Row) -> AccessToken {
    AccessToken {
        id: TokenId(row.get(0)),
        name: row.get(1),
        prefix: row.get(2),
        created_at: row.get(3),
        expires_at: row.get(4),
        last_used_at: row.get(5),
        revoked_at: row.get(6),
        origin: Origin::read(row, 7),
    }
}

/// Begins a session, and forgets some that are over.
///
/// # Errors
/// When a statement fails.
pub async fn insert_session(
    db: &impl GenericClient,
    secret_hash: &[u8],
    csrf_hash: &[u8],
    user: UserId,
    (lifetime, origin): (Duration, Origin),
) -> Result<(), Error> {
    query::execute(db, include_str!("../sql/browser_session/delete_expired.sql"), &[&FORGET_MAX]).await?;
    let sql = include_str!("../sql/browser_session/insert.sql");
    query::execute(db, sql, &[&secret_hash, &csrf_hash, &user.0, &lifetime.as_secs_f64(), &origin.word()]).await?;
    Ok(())
}

/// The session in force whose secret has this hash.
///
/// # Errors
/// When the statement fails.
pub async fn session(db: &impl GenericClient, secret_hash: &[u8]) -> Result<Option<Session>, Error> {
    let row = query::row(db, include_str!("../sql/browser_session/get.sql"), &[&secret_hash]).await?;
    Ok(row.map(|row| Session { user: users::decode(&row), csrf_hash: row.get(7), origin: Origin::read(&row, 8) }))
}

/// Ends a session.
///
/// # Errors
/// When the statement fails.
pub async fn delete_session(db: &impl GenericClient, secret_hash: &[u8]) -> Result<(), Error> {
    query::execute(db, include_str!("../sql/browser_session/delete.sql"), &[&secret_hash]).await?;
    Ok(())
}

/// Ends every session of a person but `kept`.
///
/// # Errors
/// When the statement fails.
pub async fn delete_sessions(db: &impl GenericClient, user: UserId, kept: Option<&[u8]>) -> Result<(), Error> {
    query::execute(db, include_str!("../sql/browser_session/delete_of_user.sql"), &[&user.0, &kept]).await?;
    Ok(())
}

/// Up to `limit` sessions of a person that are in force, newest first.
///
/// # Errors
/// When the statement fails.
pub async fn sessions(db: &impl GenericClient, user: UserId, limit: i64) -> Result<Vec<OwnSession>, Error> {
    let rows = query::rows(db, include_str!("../sql/browser_session/list.sql"), &[&user.0, &limit]).await?;
    let session = |row: &Row| OwnSession {
        id: row.get(0),
        origin: Origin::read(row, 1),
        created_at: row.get(2),
        expires_at: row.get(3),
        secret_hash: row.get(4),
    };
    Ok(rows.iter().map(session).collect())
}

/// Ends the session of a person that has this id; false when there is none.
///
/// # Errors
/// When the statement fails.
pub async fn delete_session_of(db: &impl GenericClient, user: UserId, id: &str) -> Result<bool, Error> {
    Ok(query::execute(db, include_str!("../sql/browser_session/delete_by_id.sql"), &[&user.0, &id]).await? > 0)
}

/// Ends what a person's password opened: every session, and every token that a sign-in by password made. `kept` stays.
/// To be called in the transaction that changes the password.
///
/// # Errors
/// When a statement fails.
pub async fn end_of_password(db: &impl GenericClient, user: UserId, kept: &Shown<'_>) -> Result<(), Error> {
    delete_sessions(db, user, kept.session).await?;
    let token = kept.token.map(|id| id.0);
    query::execute(db, include_str!("../sql/access_token/revoke_of_password.sql"), &[&user.0, &token]).await?;
    Ok(())
}

/// Ends what a person's identity elsewhere opened: every session, and every token that a sign-in by it made. To be called in
/// the transaction that unties them.
///
/// # Errors
/// When a statement fails.
pub async fn end_of_elsewhere(db: &impl GenericClient, user: UserId) -> Result<(), Error> {
    delete_sessions(db, user, None).await?;
    query::execute(db, include_str!("../sql/access_token/revoke_of_elsewhere.sql"), &[&user.0]).await?;
    Ok(())
}

/// The credential that a call showed; neither for the operator's.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shown<'a> {
    /// A session, by the hash of its secret.
    pub session: Option<&'a [u8]>,
    /// A token.
    pub token: Option<TokenId>,
}

/// A person by the credential that was shown before, as long as it holds.
///
/// # Errors
/// When the statement fails.
pub async fn holder(db: &impl GenericClient, user: UserId, shown: &Shown<'_>) -> Result<Option<User>, Error> {
    let token = shown.token.map(|id| id.0);
    let sql = include_str!("../sql/user_account/get_by_credential.sql");
    let row = query::row(db, sql, &[&user.0, &shown.session, &token]).await?;
    Ok(row.map(|row| users::decode(&row)))
}

/// Remembers a sign-in elsewhere that begins.
///
/// # Errors
/// When the statement fails.
pub async fn begin_oidc(
    db: &impl GenericClient,
    key_hash: &[u8],
    nonce: &str,
    verifier: &str,
    lifetime: Duration,
) -> Result<(), Error> {
    let sql = include_str!("../sql/oidc_sign_in/insert.sql");
    query::execute(db, sql, &[&key_hash, &nonce, &verifier, &lifetime.as_secs_f64()]).await?;
    Ok(())
}

/// The nonce and the verifier of a sign-in that began, once.
///
/// # Errors
/// When the statement fails.
pub async fn take_oidc(db: &impl GenericClient, key_hash: &[u8]) -> Result<Option<(String, String)>, Error> {
    let row = query::row(db, include_str!("../sql/oidc_sign_in/take.sql"), &[&key_hash]).await?;
    Ok(row.map(|row| (row.get(0), row.get(1))))
}

/// Adds a token.
///
/// # Errors
/// When the statement fails.
pub async fn insert_token(db: &impl GenericClient, new: &NewToken<'_>) -> Result<Added, Error> {
    let seconds = new.lifetime.map(|lifetime| lifetime.as_secs_f64());
    let parameters: query::Parameters<'_> =
        &[&new.id.0, &new.user.0, &new.name, &new.prefix, &new.secret_hash, &seconds, &TOKENS_MAX, &new.origin.word()];
    let row = query::row(db, include_str!("../sql/access_token/insert.sql"), parameters).await?;
    Ok(match row {
        None => Added::TooMany,
        Some(row) if row.get::<_, Option<Uuid>>(0).is_none() => Added::Taken,
        Some(row) => Added::Token(decode_token(&row)),
    })
}

/// The token in force that begins so.
///
/// # Errors
/// When the statement fails.
pub async fn token(db: &impl GenericClient, prefix: &str) -> Result<Option<Candidate>, Error> {
    let row = query::row(db, include_str!("../sql/access_token/get.sql"), &[&prefix]).await?;
    Ok(row.map(|row| Candidate {
        user: users::decode(&row),
        token: TokenId(row.get(7)),
        secret_hash: row.get(8),
        touch: row.get(9),
        origin: Origin::read(&row, 10),
    }))
}

/// Notes the use of a token.
///
/// # Errors
/// When the statement fails.
pub async fn touch_token(db: &impl GenericClient, id: TokenId) -> Result<(), Error> {
    query::execute(db, include_str!("../sql/access_token/touch.sql"), &[&id.0]).await?;
    Ok(())
}

/// A page of a person's tokens, newest first, before the one `before`.
///
/// # Errors
/// When the statement fails.
pub async fn tokens(
    db: &impl GenericClient,
    user: UserId,
    before: Option<TokenId>,
    limit: i64,
) -> Result<Vec<AccessToken>, Error> {
    let before = before.map_or(Uuid::max(), |id| id.0);
    let rows = query::rows(db, include_str!("../sql/access_token/list.sql"), &[&user.0, &before, &limit]).await?;
    Ok(rows.iter().map(decode_token).collect())
}

/// Ends the token of a person that has this id or prefix; false when there is none.
///
/// # Errors
/// When the statement fails.
pub async fn revoke_token(db: &impl GenericClient, user: UserId, token: &str) -> Result<bool, Error> {
    Ok(query::row(db, include_str!("../sql/access_token/revoke.sql"), &[&user.0, &token]).await?.is_some())
}

/// Ends every token of a person.
///
/// # Errors
/// When the statement fails.
pub async fn revoke_tokens(db: &impl GenericClient, user: UserId) -> Result<(), Error> {
    query::execute(db, include_str!("../sql/access_token/revoke_of_user.sql"), &[&user.0]).await?;
    Ok(())
}
