//! A person shows a password. Refuses to know what is given in return: a token, or a cookie.

use crate::core::Core;
use crate::fault::Fault;
use crate::identity::passwords;
use crate::people;
use domain::ErrorKind;
use domain::id::UserId;
use std::time::Instant;
use store::Transaction;
use store::credentials::{self, Shown};
use store::users::{self, PasswordState, User};

/// What was typed; `Debug` is left out on purpose.
pub(crate) struct Attempt {
    pub(crate) email: String,
    pub(crate) password: String,
    /// In place of a one-time password.
    pub(crate) new_password: String,
}

/// The person whose password this is, and the hash of it, which whatever it opens has to [`hold`]. A one-time password is
/// changed in the same act.
///
/// # Errors
/// In one and the same words for a wrong password, a wrong address and somebody who may not sign in.
pub(crate) async fn by_password(core: &Core, attempt: Attempt) -> Result<(User, String), Fault> {
    let mut known = compare(core, &attempt).await?;
    match (known.state, attempt.new_password.is_empty()) {
        (PasswordState::OneTime, true) => {
            let message = "the one-time password is right; give a password of your own with it, in `new_password`";
            return Err(Fault::new(ErrorKind::FailedPrecondition, "NEW_PASSWORD_NEEDED", message));
        }
        (PasswordState::OneTime, false) => known.hash = replace(core, &known, &attempt, &Shown::default()).await?,
        (_, false) => return Err(Fault::field("new_password", "must be empty; change a password when signed in")),
        (_, true) => {}
    }
    let db = core.store.client().await?;
    let user = users::get_by_id(&db, known.user).await?.filter(|user| !user.disabled).ok_or_else(wrong)?;
    Ok((user, known.hash))
}

/// Refuses to open anything to a person who was disabled, or whose password was changed, since it was compared. To be called
/// in the transaction that adds the credential: a change waits for it, and ends what it added.
///
/// # Errors
/// As for a wrong password.
pub(crate) async fn hold(db: &Transaction<'_>, user: UserId, compared: Option<&str>) -> Result<(), Fault> {
    if users::hold(db, user, compared).await? { Ok(()) } else { Err(wrong()) }
}

/// Changes one's own password, and ends what the former one opened, but `kept`.
///
/// # Errors
/// When the old password is wrong, or the new one is none.
pub(crate) async fn change_password(core: &Core, attempt: Attempt, kept: &Shown<'_>) -> Result<(), Fault> {
    let known = compare(core, &attempt).await?;
    replace(core, &known, &attempt, kept).await.map(drop)
}

async fn compare(core: &Core, attempt: &Attempt) -> Result<users::Password, Fault> {
    let email = people::email(&attempt.email, "email")?;
    core.guesses.take(&email, Instant::now())?;
    let compared = async {
        let known = users::password(&core.store.client().await?, &email).await?;
        let hash = known.as_ref().map(|known| known.hash.clone());
        Ok::<_, Fault>((known, passwords::verify(attempt.password.clone(), hash).await?))
    };
    match compared.await {
        Ok((known, true)) => {
            core.guesses.forgive(&email);
            known.ok_or_else(wrong)
        }
        Ok((_, false)) => Err(wrong()),
        Err(fault) => {
            core.guesses.give_back(&email);
            Err(fault)
        }
    }
}

/// Answers the hash of the new password.
async fn replace(core: &Core, known: &users::Password, attempt: &Attempt, kept: &Shown<'_>) -> Result<String, Fault> {
    passwords::check(&attempt.new_password, "new_password")?;
    if attempt.new_password == attempt.password {
        return Err(Fault::field("new_password", "must be another one"));
    }
    let hash = passwords::hash(attempt.new_password.clone()).await?;
    let mut db = core.store.client().await?;
    let transaction = db.transaction().await.map_err(store::Error::from)?;
    if !users::set_password(&transaction, known.user, &hash, PasswordState::Set, Some(&known.hash)).await? {
        let message = "the password was changed meanwhile; sign in with the new one";
        return Err(Fault::new(ErrorKind::Conflict, "CHANGED_MEANWHILE", message));
    }
    credentials::end_of_password(&transaction, known.user, kept).await?;
    transaction.commit().await.map_err(store::Error::from)?;
    Ok(hash)
}

fn wrong() -> Fault {
    Fault::unauthenticated("the address or the password is wrong")
}
