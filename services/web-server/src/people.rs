//! What belongs to every new person, and the rules of addresses and names. Refuses to know who asks.

use crate::fault::Fault;
use domain::id::ProjectId;
use rand::random;
use store::users::User;
use store::{Transaction, members, projects};
use uuid::Uuid;

/// The longest e-mail address.
const EMAIL_BYTES_MAX: usize = 254;
/// The longest name of a person.
pub(crate) const NAME_CHARS_MAX: usize = 100;
/// The longest DNS label.
const LABEL_CHARS_MAX: usize = 63;
/// Tries to find a free name for a personal project.
const NAME_TRIES_MAX: usize = 20;

/// An e-mail address as it is stored.
pub(crate) fn email(given: &str, field: &'static str) -> Result<String, Fault> {
    let email = given.trim().to_lowercase();
    let well_formed = email.len() <= EMAIL_BYTES_MAX
        && email
            .split_once('@')
            .is_some_and(|(local, host)| !local.is_empty() && !host.is_empty() && !host.contains('@'))
        && !email.chars().any(|c| c.is_whitespace() || c.is_control() || matches!(c, '<' | '>' | ',' | ';' | '"'));
    if well_formed {
        Ok(email)
    } else {
        Err(Fault::field(field, "must be an e-mail address, such as `ada@example.org`"))
    }
}

/// Refuses a name of a workspace, project, group or model that is no DNS label.
pub(crate) fn check_label(name: &str, field: &'static str) -> Result<(), Fault> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let well_formed = !name.is_empty()
        && name.len() <= LABEL_CHARS_MAX
        && name.chars().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-');
    if well_formed {
        return Ok(());
    }
    let rule = "must be a DNS label: 1 to 63 lower-case letters, digits and inner hyphens, such as `sales-eu`";
    Err(Fault::field(field, rule))
}

/// Gives a new person a personal project, and what the address was invited to.
pub(crate) async fn settle(db: &Transaction<'_>, user: &User) -> Result<(), Fault> {
    members::accept(db, &user.email, user.id).await?;
    let wish = label(&user.email);
    for attempt in 0..NAME_TRIES_MAX {
        let name = if attempt == 0 { wish.clone() } else { format!("{wish}-{:04x}", random::<u16>()) };
        let id = ProjectId(Uuid::now_v7());
        if projects::insert(db, id, &name, Some(projects::Who::User(user.id))).await? {
            return Ok(());
        }
    }
    Err(Fault::new(domain::ErrorKind::Conflict, "NO_FREE_NAME", "no name for a personal project is free; try again"))
}

/// A DNS label from the part of an address before the `@`.
fn label(email: &str) -> String {
    let local = email.split('@').next().unwrap_or_default();
    let text: String =
        local.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    // Room for a suffix.
    let short: String = text.chars().take(LABEL_CHARS_MAX - 10).collect();
    match short.trim_matches('-') {
        "" => "personal".to_owned(),
        label => label.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_lower_case_and_have_two_parts() {
        assert_eq!(email(" Ada@Example.org ", "email").unwrap(), "ada@example.org");
        for bad in ["", "ada", "@x", "a@", "a@b@c", "a b@c", "a@b,c@d", &format!("{}@x", "a".repeat(300))] {
            assert!(email(bad, "email").is_err(), "{bad}");
        }
    }

    #[test]
    fn personal_projects_are_dns_labels() {
        for (email, expect) in [("ada.l@x", "ada-l"), ("__@x", "personal"), ("Ä@x", "personal")] {
            assert_eq!(label(email), expect);
        }
        assert!(check_label(&label(&"x".repeat(200)), "name").is_ok());
    }

    #[test]
    fn names_are_dns_labels() {
        for good in ["a", "sales-eu", "0", &"x".repeat(63)] {
            assert!(check_label(good, "name").is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a/b", "../a", "ä", &"x".repeat(64)] {
            assert!(check_label(bad, "name").is_err(), "{bad}");
        }
    }
}
