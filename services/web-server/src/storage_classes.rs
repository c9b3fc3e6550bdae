//! Which storage classes volumes may be asked for with, by pool. Refuses to know what a class is, and whether a cluster has it.

use crate::fault::Fault;
use domain::ErrorKind;

/// The longest name of a class.
const CLASS_MAX: usize = 253;

/// What the operator lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct StorageClasses(Vec<Allowed>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Allowed {
    /// Where; everywhere without one.
    pool: Option<String>,
    class: String,
}

impl StorageClasses {
    /// Of entries such as `class` and `pool=class`.
    ///
    /// # Errors
    /// The first entry that is neither.
    pub(crate) fn new(entries: &[String]) -> Result<Self, String> {
        let read = |entry: &String| {
            let (pool, class) = entry.split_once('=').map_or((None, &**entry), |(pool, class)| (Some(pool), class));
            let valid = is_class(class) && pool.is_none_or(|pool| !pool.is_empty());
            let allowed = Allowed { pool: pool.map(str::to_owned), class: class.to_owned() };
            valid.then_some(allowed).ok_or_else(|| entry.clone())
        };
        entries.iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// Lets a volume of a pool be of a class; of none, always.
    ///
    /// # Errors
    /// When it may not, with those of which it may be.
    pub(crate) fn check(&self, pool: &str, class: &str) -> Result<(), Fault> {
        let there = self.0.iter().filter(|allowed| allowed.pool.as_deref().is_none_or(|named| named == pool));
        let mut there: Vec<&str> = there.map(|allowed| allowed.class.as_str()).collect();
        if class.is_empty() || there.contains(&class) {
            return Ok(());
        }
        there.sort_unstable();
        there.dedup();
        let message = if there.is_empty() {
            format!(
                "no storage class may be asked for in pool `{pool}`; leave it out, or ask an operator for one (web-servers' \
                 `storage_classes`)"
            )
        } else {
            let named = there.iter().map(|class| format!("`{class}`")).collect::<Vec<_>>().join(", ");
            format!(
                "`{class}` is no storage class that may be asked for in pool `{pool}`, where these may: {named}; left out, it \
                 is the cluster's default one"
            )
        };
        Err(Fault::new(ErrorKind::FailedPrecondition, "STORAGE_CLASS_NOT_ALLOWED", message))
    }
}

/// As Kubernetes lets classes be named.
fn is_class(name: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = [name.bytes().next(), name.bytes().next_back()];
    ends.into_iter().all(|end| end.is_some_and(known))
        && name.len() <= CLASS_MAX
        && name.bytes().all(|byte| known(byte) || matches!(byte, b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(classes: &StorageClasses, pool: &str, class: &str) -> String {
        classes.check(pool, class).map_or_else(|Fault(problem)| problem.to_string(), |()| String::new())
    }

    #[test]
    fn a_class_is_had_where_it_is_listed_and_a_refusal_lists_those() {
        let entries = ["slow", "gpu=fast.local", "gpu=slow"].map(str::to_owned);
        let classes = StorageClasses::new(&entries).unwrap();
        for (pool, class) in [("default", ""), ("default", "slow"), ("gpu", "slow"), ("gpu", "fast.local")] {
            assert_eq!(words(&classes, pool, class), "", "{pool} {class}");
        }
        let refused = words(&classes, "default", "fast.local");
        assert!(refused.contains("these may: `slow`;"), "{refused}");
        let refused = words(&classes, "gpu", "other");
        assert!(refused.contains("these may: `fast.local`, `slow`;"), "{refused}");
        let none = StorageClasses::default();
        assert_eq!(words(&none, "default", ""), "");
        assert!(words(&none, "default", "slow").contains("leave it out"));
    }

    #[test]
    fn what_is_no_class_is_told() {
        for wrong in ["", "Fast", "a b", "-a", "a.", "=a", "a=", "pool=a/b"] {
            assert_eq!(StorageClasses::new(&["ok".to_owned(), wrong.to_owned()]), Err(wrong.to_owned()));
        }
    }
}
