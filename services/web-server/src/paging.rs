//! Pages of rows: one row more than is shown is read, which tells whether there is a next page. Refuses to know what is
//! listed, and what a token looks like.

use crate::fault::Fault;
use serde::Serialize;

/// The size of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Page(usize);

impl Page {
    /// From the request's `page_size`.
    pub(crate) fn of(page_size: i32) -> Result<Self, Fault> {
        Ok(Self(rpc::paging::page_size(page_size)?))
    }

    /// How many to show.
    pub(crate) fn size(self) -> usize {
        self.0
    }

    /// One more than is shown.
    pub(crate) fn limit(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX).saturating_add(1)
    }

    /// Cuts what was read to the page, and makes the token from the last one shown when more was there.
    pub(crate) fn cut<T, K: Serialize>(
        self,
        scope: &str,
        rows: &mut Vec<T>,
        key: impl FnOnce(&T) -> K,
    ) -> Result<String, Fault> {
        let more = rows.len() > self.0;
        rows.truncate(self.0);
        match rows.last() {
            Some(last) if more => Ok(rpc::paging::encode(scope, &key(last))?),
            _ => Ok(String::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_full_page_has_a_next_one() {
        let page = Page::of(2).unwrap();
        let mut rows = vec!["a", "b", "c"];
        let token = page.cut("letters", &mut rows, |row| (*row).to_owned()).unwrap();
        assert_eq!(rpc::paging::decode("letters", &token).unwrap(), Some("b".to_owned()));
        assert_eq!(rows, ["a", "b"]);
        assert_eq!(page.cut("letters", &mut rows, |row| (*row).to_owned()).unwrap(), "");
    }
}
