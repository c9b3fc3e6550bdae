//! Which one of many somebody meant who typed a name or a part of an id. Refuses to guess between two.

use crate::failure::{Code, Failure, Result};

/// What people call by a name of its own, or by its pipeline's and its own: `pipeline/name`.
pub(crate) trait Named {
    /// What one of them is called in a sentence; an `s` makes many of it.
    const KIND: &'static str;
    /// The pipeline that it belongs to.
    fn pipeline(&self) -> &str;
    /// Its own name, which others of other pipelines may have as well.
    fn name(&self) -> &str;
}

/// What was found, when it is no more than one.
///
/// # Errors
/// What `several` says of all that were found.
pub(crate) fn at_most_one<T>(mut found: Vec<T>, several: impl FnOnce(&[T]) -> Failure) -> Result<Option<T>> {
    if found.len() > 1 {
        return Err(several(&found));
    }
    Ok(found.pop())
}

/// The only one of these that is named so.
///
/// # Errors
/// None is, or several are.
pub(crate) fn by_name<T: Named>(all: Vec<T>, named: &str, workspace: &str) -> Result<T> {
    let is_meant = |one: &T| one.name() == named || format!("{}/{}", one.pipeline(), one.name()) == named;
    let meant = all.into_iter().filter(is_meant).collect();
    let one = at_most_one(meant, |several: &[T]| {
        let example = several.first().map_or("", T::pipeline);
        Failure::new(
            Code::Usage,
            format!("{} {}s of workspace {workspace} are named `{named}`", several.len(), T::KIND),
            format!("say which one, such as {example}/{named}"),
        )
    })?;
    one.ok_or_else(|| {
        Failure::new(
            Code::NotFound,
            format!("workspace {workspace} has no {} `{named}`", T::KIND),
            format!("`orrery {}s` lists them", T::KIND),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Clock(&'static str, &'static str);

    impl Named for Clock {
        const KIND: &'static str = "clock";
        fn pipeline(&self) -> &str {
            self.0
        }
        fn name(&self) -> &str {
            self.1
        }
    }

    #[test]
    fn a_name_means_one_or_none() {
        let all = || vec![Clock("a", "nightly"), Clock("b", "nightly"), Clock("b", "hourly")];
        assert_eq!(by_name(all(), "hourly", "w").unwrap().pipeline(), "b");
        assert_eq!(by_name(all(), "a/nightly", "w").unwrap().pipeline(), "a");
        let two = by_name(all(), "nightly", "w").unwrap_err();
        assert_eq!((two.code, two.what.as_str()), (Code::Usage, "2 clocks of workspace w are named `nightly`"));
        assert_eq!(by_name(all(), "weekly", "w").unwrap_err().code, Code::NotFound);
    }
}
