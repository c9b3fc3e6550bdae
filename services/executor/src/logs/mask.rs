//! Secrets that user code was given, so that they leave this executor in no log line, error or preview. Refuses to know whose
//! they are: what is secret in one attempt is masked in all, since a block may hand a value to the next.

use aho_corasick::{AhoCorasick, MatchKind};
use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// What stands in place of a secret.
const MASK: &str = "[secret]";
/// Where the runner cut a text that it shows.
const CUT: char = '…';
/// A shorter text is part of too many words to be masked.
const CHARS_MIN: usize = 4;
/// Different texts of one process's life.
const TEXTS_MAX: usize = 10_000;
/// Bytes of all of them: the finder is built anew for each, and is many times larger.
const BYTES_MAX: usize = 1 << 20;

/// The known secrets.
#[derive(Debug, Default)]
pub struct Masks {
    /// Lines of executors that know no secret, which are most, pay nothing.
    any: AtomicBool,
    /// Replaced and never changed: nobody who looks through a long text keeps others from adding a secret.
    known: RwLock<Arc<Known>>,
}

#[derive(Default)]
struct Known {
    /// Sorted.
    texts: Vec<String>,
    bytes: usize,
    /// Of the longest text, bytes.
    longest: usize,
    finder: Option<AhoCorasick>,
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} secrets", self.texts.len())
    }
}

impl Masks {
    /// Masks a value from here on: as it is, line by line, and as programs write it between quotes. False when there is
    /// no room for it: then nobody must get it.
    #[must_use]
    pub fn add(&self, value: &str) -> bool {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let new: Vec<String> = forms(value).into_iter().filter(|text| !known.texts.contains(text)).collect();
        let bytes = new.iter().map(String::len).sum::<usize>();
        if known.texts.len() + new.len() > TEXTS_MAX || known.bytes + bytes > BYTES_MAX {
            return false;
        }
        if new.is_empty() {
            return true;
        }
        let mut texts: Vec<String> = known.texts.iter().cloned().chain(new).collect();
        texts.sort_unstable();
        // Of two secrets of which one begins as the other, all of the longer one is masked.
        let Ok(finder) = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&texts) else {
            return false;
        };
        let longest = texts.iter().map(String::len).max().unwrap_or(0);
        *known = Arc::new(Known { bytes: known.bytes + bytes, longest, texts, finder: Some(finder) });
        self.any.store(true, Ordering::Release);
        true
    }

    /// Nothing is known that would have to be masked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.any.load(Ordering::Acquire)
    }

    /// As [`Self::apply`], for a text that the runner may have cut, where only the beginning of a secret may be left.
    /// `None` where nothing had to be masked.
    #[must_use]
    pub fn apply_to_cut(&self, text: &str) -> Option<String> {
        if self.is_empty() {
            return None;
        }
        let masked = self.apply(text);
        let known = self.known();
        let pieces = masked.split_inclusive(CUT);
        let cleared: String = pieces
            .map(|piece| match piece.strip_suffix(CUT).and_then(|text| without_beginning(text, &known)) {
                Some(cleared) => Cow::Owned(format!("{cleared}{CUT}")),
                None => Cow::Borrowed(piece),
            })
            .collect();
        (cleared != text).then_some(cleared)
    }

    /// A text without any known secret.
    #[must_use]
    pub fn apply<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.is_empty() {
            return Cow::Borrowed(text);
        }
        match &self.known().finder {
            Some(finder) if finder.is_match(text) => {
                let mut masked = String::with_capacity(text.len());
                finder.replace_all_with(text, &mut masked, |_, _, masked| {
                    masked.push_str(MASK);
                    true
                });
                Cow::Owned(masked)
            }
            _ => Cow::Borrowed(text),
        }
    }

    fn known(&self) -> Arc<Known> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The text, with what begins a secret at its end masked: a secret was cut there. Looks at no less than [`CHARS_MIN`]
/// characters, and at no more than the longest secret has.
fn without_beginning(text: &str, known: &Known) -> Option<String> {
    let begins = |end: &str| {
        let next = known.texts.partition_point(|known| known.as_str() < end);
        end.chars().nth(CHARS_MIN - 1).is_some() && known.texts.get(next).is_some_and(|known| known.starts_with(end))
    };
    let from = text.floor_char_boundary(text.len().saturating_sub(known.longest));
    let at = text[from..].char_indices().map(|(at, _)| from + at).find(|at| begins(&text[*at..]))?;
    Some(format!("{}{MASK}", &text[..at]))
}

/// The ways in which a value appears in a text.
fn forms(value: &str) -> Vec<String> {
    let quoted = serde_json::to_string(value).unwrap_or_default();
    let quoted = quoted.trim_matches('"').to_owned();
    let whole = [value.to_owned(), value.trim().to_owned(), quoted];
    let lines = value.lines().map(|line| line.trim().to_owned());
    let mut forms: Vec<String> =
        whole.into_iter().chain(lines).filter(|text| text.chars().count() >= CHARS_MIN).collect();
    forms.sort_unstable();
    forms.dedup();
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_secret_is_masked() {
        let masks = Masks::default();
        assert!(matches!(masks.apply("hunter2"), Cow::Borrowed("hunter2")));
        assert!(masks.add("hunter2") && masks.add("hunter2-and-more") && masks.add("first line\nsecond \"line\"\n"));
        for (text, expect) in [
            ("a hunter2 b", "a [secret] b"),
            ("hunter2hunter2", "[secret][secret]"),
            ("x=hunter2-and-more", "x=[secret]"),
            ("  second \"line\"", "  [secret]"),
            (r#"{"k": "first line\nsecond \"line\"\n"}"#, r#"{"k": "[secret]"}"#),
            ("hunter", "hunter"),
        ] {
            assert_eq!(masks.apply(text), expect);
        }
        assert!(!format!("{masks:?}").contains("hunter"));
    }

    #[test]
    fn a_long_text_is_looked_through_in_no_time_and_nobody_waits_for_it() {
        let masks = Masks::default();
        assert!(masks.add("hunter2"));
        let begun = std::time::Instant::now();
        let text = format!("{}hunt{CUT}", "äb".repeat(350_000));
        let cleared = masks.apply_to_cut(&text).unwrap();
        assert!(cleared.ends_with(&format!("äb{MASK}{CUT}")));
        assert!(masks.apply_to_cut(&format!("{}{CUT}", "ab".repeat(500_000))).is_none());
        // The square of its length would take tens of seconds.
        assert!(begun.elapsed() < std::time::Duration::from_secs(5), "it took {:?}", begun.elapsed());
    }

    #[test]
    fn short_values_are_let_through_and_too_many_are_refused() {
        let masks = Masks::default();
        assert!(masks.add("abc"));
        assert_eq!(masks.apply("abc"), "abc");
        assert!(!masks.add(&"x".repeat(BYTES_MAX + 1)));
    }
}
