//! Secrets that user code was given, so that they leave this executor in no log line, error or preview. What is secret in one
//! attempt is masked in all of its workspace, since a block may hand a value to the next; lines of another workspace tell nothing
//! about it. Refuses to know which run was given what.

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use domain::references::MASKED_CHARS_MIN;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockWriteGuard};

/// What stands in place of a secret.
const MASK: &str = "[secret]";
/// Where the runner cut a text that it shows.
const CUT: char = '…';
/// Different texts that are known at once.
const TEXTS_MAX: usize = 10_000;
/// Bytes of all of them, and of those of workspaces that nobody has: the finder is built anew for each text, and is many times larger.
const BYTES_MAX: usize = 1 << 20;
/// Workspaces whose secrets are known at once, unless attempts of more of them run.
const WORKSPACES_MAX: usize = 256;

/// The secrets of each workspace.
#[derive(Debug, Default)]
pub struct AllMasks(Mutex<HashMap<Box<str>, Arc<Masks>>>);

impl AllMasks {
    /// Those of a workspace. They are forgotten when nobody has them any more and others need the room: before its code begins,
    /// an attempt is told everything that its run may have been given.
    #[must_use]
    pub fn of(&self, workspace: &str) -> Arc<Masks> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(workspace) {
            return Arc::clone(known);
        }
        let bytes: usize = all.values().map(|masks| masks.known().bytes).sum();
        if all.len() >= WORKSPACES_MAX || bytes > BYTES_MAX {
            all.retain(|_, masks| Arc::strong_count(masks) > 1);
        }
        Arc::clone(all.entry(workspace.into()).or_default())
    }
}

/// The known secrets of one workspace.
#[derive(Debug, Default)]
pub struct Masks {
    /// Lines where no secret is known, which are most, pay nothing.
    any: AtomicBool,
    /// Copied where somebody looks through a long text meanwhile: that keeps nobody from adding a secret.
    known: RwLock<Arc<Known>>,
}

#[derive(Clone, Default)]
struct Known {
    /// How many hold each one. What nobody holds stays as long as there is room: others may print it.
    texts: BTreeMap<String, usize>,
    bytes: usize,
    /// Of the longest text, bytes.
    longest: usize,
    finder: Option<AhoCorasick>,
}

/// Of a text that user code here was given.
const FOR_EVER: usize = usize::MAX;

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} secrets", self.texts.len())
    }
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} secrets", self.texts.len())
    }
}

/// Values that are masked at least as long as this lives.
pub struct Held {
    masks: Arc<Masks>,
    texts: Vec<String>,
}

impl Held {
    /// Whether a text has one of these values in it, in any of its forms.
    #[must_use]
    pub fn is_in(&self, text: &str) -> bool {
        self.texts.iter().any(|known| text.contains(known.as_str()))
    }

    /// What they are masked with.
    #[must_use]
    pub fn masks(&self) -> &Masks {
        &self.masks
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut known = self.masks.write();
        let known = Arc::make_mut(&mut known);
        for text in &self.texts {
            if let Some(holders) = known.texts.get_mut(text).filter(|holders| **holders != FOR_EVER) {
                *holders = holders.saturating_sub(1);
            }
        }
    }
}

impl Known {
    /// Makes sure that all of the texts are known; false when there is no room.
    fn learn(&mut self, texts: &[String]) -> bool {
        if texts.iter().all(|text| self.texts.contains_key(text)) {
            return true;
        }
        if !self.has_room(texts) {
            self.texts.retain(|text, holders| *holders > 0 || texts.contains(text));
            self.bytes = self.texts.keys().map(String::len).sum();
            if !self.has_room(texts) {
                return false;
            }
        }
        let mut all: Vec<&String> = self.texts.keys().chain(texts).collect();
        all.sort_unstable();
        all.dedup();
        // Of two secrets of which one begins as the other, all of the longer one is masked.
        // By itself it would take a table of megabytes for a single key, for each workspace.
        let kind = Some(AhoCorasickKind::ContiguousNFA);
        let Ok(finder) = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).kind(kind).build(&all) else {
            return false;
        };
        self.bytes = all.iter().map(|text| text.len()).sum();
        self.longest = all.iter().map(|text| text.len()).max().unwrap_or(0);
        self.finder = Some(finder);
        for text in texts {
            self.texts.entry(text.clone()).or_default();
        }
        true
    }

    fn has_room(&self, texts: &[String]) -> bool {
        let new = texts.iter().filter(|text| !self.texts.contains_key(*text));
        let (count, bytes) = new.fold((0, 0), |(count, bytes), text| (count + 1, bytes + text.len()));
        self.texts.len() + count <= TEXTS_MAX && self.bytes + bytes <= BYTES_MAX
    }
}

impl Masks {
    /// Masks a value from here on: as it is, line by line, and as programs write it between quotes. False when there is
    /// no room for it: then nobody must get it.
    #[must_use]
    pub fn add(&self, value: &str) -> bool {
        let (forms, mut known) = (forms(value), self.write());
        let known = Arc::make_mut(&mut known);
        let learned = known.learn(&forms);
        if learned {
            known.texts.extend(forms.into_iter().map(|text| (text, FOR_EVER)));
            self.any.store(!known.texts.is_empty(), Ordering::Release);
        }
        learned
    }

    /// Masks values that code elsewhere was given, for as long as somebody here holds them; `None` when there is no room.
    #[must_use]
    pub fn hold<'a>(self: &Arc<Self>, values: impl Iterator<Item = &'a str>) -> Option<Held> {
        let mut texts: Vec<String> = values.flat_map(forms).collect();
        texts.sort_unstable();
        texts.dedup();
        if !texts.is_empty() {
            let mut known = self.write();
            let known = Arc::make_mut(&mut known);
            if !known.learn(&texts) {
                return None;
            }
            for text in &texts {
                if let Some(holders) = known.texts.get_mut(text) {
                    *holders = holders.saturating_add(1);
                }
            }
            self.any.store(true, Ordering::Release);
        }
        Some(Held { masks: Arc::clone(self), texts })
    }

    fn write(&self) -> RwLockWriteGuard<'_, Arc<Known>> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
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

    /// As [`Self::apply`], for a line whose end was cut off, perhaps within a secret and within a character.
    #[must_use]
    pub fn apply_to_beginning<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.is_empty() {
            return Cow::Borrowed(text);
        }
        let masked = self.apply(text.trim_end_matches(char::REPLACEMENT_CHARACTER));
        without_beginning(&masked, &self.known()).map_or(masked, Cow::Owned)
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

/// The text, with what begins a secret at its end masked: a secret was cut there. Looks at no less than [`MASKED_CHARS_MIN`]
/// characters, and at no more than the longest secret has.
fn without_beginning(text: &str, known: &Known) -> Option<String> {
    let begins = |end: &str| {
        let next = known.texts.range::<str, _>((Bound::Included(end), Bound::Unbounded)).next();
        end.chars().nth(MASKED_CHARS_MIN - 1).is_some() && next.is_some_and(|(known, _)| known.starts_with(end))
    };
    let from = text.floor_char_boundary(text.len().saturating_sub(known.longest));
    let at = text[from..].char_indices().map(|(at, _)| from + at).find(|at| begins(&text[*at..]))?;
    Some(format!("{}{MASK}", &text[..at]))
}

/// The ways in which a value appears in a text: as it is, line by line, as Python and JSON write it, also the one within the
/// other, and as a part of an address.
fn forms(value: &str) -> Vec<String> {
    let mut forms = vec![value.to_owned(), value.trim().to_owned()];
    forms.extend(value.lines().map(|line| line.trim().to_owned()));
    let json = serde_json::to_string(value).unwrap_or_default();
    // Without the quotes around it; one that the value itself ends with is another one.
    let json = json.get(1..json.len().saturating_sub(1)).unwrap_or_default().to_owned();
    let mut written = vec![ascii(&json, json_escape), json];
    for quote in [false, true] {
        let repr = repr(value, quote);
        written.extend([bytes(value, quote), ascii(&repr, python_escape), unprintable(&repr), repr]);
    }
    let within = |text: &String| {
        let doubled = text.replace('\\', "\\\\");
        [doubled.replace('"', "\\\""), doubled.replace('\'', "\\'"), doubled]
    };
    forms.extend(written.iter().flat_map(within));
    forms.extend(written);
    forms.extend([percent(value, "/"), percent(value, ""), percent(value, "").replace("%20", "+")]);
    forms.retain(|text| text.chars().count() >= MASKED_CHARS_MIN);
    forms.sort_unstable();
    forms.dedup();
    forms
}

/// As `repr` writes it, characters beyond ASCII as they are; which quote it escapes depends on the text around it.
fn repr(value: &str, quote: bool) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\'' if quote => out.push_str("\\'"),
            c if c.is_ascii_control() => python_escape(c, &mut out),
            c => out.push(c),
        }
    }
    out
}

/// As `repr` writes the bytes of it.
fn bytes(value: &str, quote: bool) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            128.. => out.push_str(&format!("\\x{byte:02x}")),
            byte => out.push_str(&repr(char::from(byte).encode_utf8(&mut [0; 4]), quote)),
        }
    }
    out
}

/// With every character beyond ASCII escaped.
fn ascii(text: &str, escape: fn(char, &mut String)) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if c.is_ascii() && c != '\x7f' {
            out.push(c)
        } else {
            escape(c, &mut out)
        }
        out
    })
}

/// With those escaped that nobody sees, as `repr` does.
fn unprintable(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if c.is_ascii() || c.escape_debug().len() == 1 {
            out.push(c)
        } else {
            python_escape(c, &mut out)
        }
        out
    })
}

fn python_escape(c: char, out: &mut String) {
    let code = u32::from(c);
    out.push_str(&match code {
        ..=0xff => format!("\\x{code:02x}"),
        0x100..=0xffff => format!("\\u{code:04x}"),
        _ => format!("\\U{code:08x}"),
    });
}

fn json_escape(c: char, out: &mut String) {
    for unit in c.encode_utf16(&mut [0; 2]) {
        out.push_str(&format!("\\u{unit:04x}"));
    }
}

/// As in an address, all escaped but letters, digits, `_.-~` and what is safe.
fn percent(value: &str, safe: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        let c = char::from(byte);
        if c.is_ascii_alphanumeric() || "_.-~".contains(c) || safe.contains(c) {
            out.push(c);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
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
    fn a_secret_is_masked_however_python_writes_it() {
        let masks = Masks::default();
        assert!(
            masks.add("pässwörd-✓\"\\x") && masks.add("it's 😀 \u{a0}no\tplain\x7fword") && masks.add("pass word/+ü")
        );
        for text in [
            // json.dumps, with ensure_ascii and without; repr, ascii, of its bytes; repr of what json.dumps wrote
            r#"p\u00e4ssw\u00f6rd-\u2713\"\\x"#,
            r#"pässwörd-✓\"\\x"#,
            r#"pässwörd-✓"\\x"#,
            r#"p\xe4ssw\xf6rd-\u2713"\\x"#,
            r#"p\xc3\xa4ssw\xc3\xb6rd-\xe2\x9c\x93"\\x"#,
            r#"p\\u00e4ssw\\u00f6rd-\\u2713\\"\\\\x"#,
            r#"p\\u00e4ssw\\u00f6rd-\\u2713\\\"\\\\x"#,
            r"it's 😀 \xa0no\tplain\x7fword",
            r"it\'s 😀 \xa0no\tplain\x7fword",
            r"it's \U0001f600 \xa0no\tplain\x7fword",
            r"it's \ud83d\ude00 \u00a0no\tplain\u007fword",
            "pass%20word/%2B%C3%BC",
            "pass%20word%2F%2B%C3%BC",
            "pass+word%2F%2B%C3%BC",
        ] {
            assert_eq!(masks.apply(&format!("<{text}>")), "<[secret]>", "{text}");
        }
    }

    #[test]
    fn of_a_secret_that_was_cut_nothing_is_left() {
        let masks = Masks::default();
        assert_eq!(masks.apply_to_beginning("anything"), "anything");
        assert!(masks.add("pässwörd-✓") && masks.add("hunter2"));
        for (text, expect) in [
            ("all hunter2 and pässw", "all [secret] and [secret]"),
            ("pässwörd-\u{fffd}", "[secret]"),
            ("no secret", "no secret"),
            ("hunter2", "[secret]"),
        ] {
            assert_eq!(masks.apply_to_beginning(text), expect);
        }
    }

    #[test]
    fn short_values_are_let_through_and_too_many_are_refused() {
        let masks = Masks::default();
        assert!(masks.add("abc"));
        assert_eq!(masks.apply("abc"), "abc");
        assert!(!masks.add(&"x".repeat(BYTES_MAX + 1)));
    }

    #[test]
    fn a_secret_of_one_workspace_is_a_word_like_any_other_in_the_next() {
        let all = AllMasks::default();
        assert!(all.of("a").add("product"));
        assert_eq!((&*all.of("a").apply("product"), &*all.of("b").apply("product")), (MASK, "product"));
        // What an attempt still has stays, however many come.
        let running = all.of("a");
        for n in 0..=WORKSPACES_MAX {
            assert!(all.of(&n.to_string()).is_empty());
        }
        assert_eq!(all.of("a").apply("product"), MASK);
        drop(running);
        for n in 0..=WORKSPACES_MAX {
            assert!(all.of(&format!("later {n}")).is_empty());
        }
        assert!(all.of("a").is_empty() && all.0.lock().unwrap().len() <= WORKSPACES_MAX);
        let large = "x".repeat(BYTES_MAX / 30);
        for n in 0..100 {
            assert!(all.of(&format!("large {n}")).add(&format!("{n}{large}")));
        }
        assert!(all.0.lock().unwrap().len() < 50);
    }

    #[test]
    fn what_nobody_holds_makes_room() {
        let masks = Arc::new(Masks::default());
        // Two of these have room at once.
        let many = |letter: char| (0..TEXTS_MAX * 2 / 5).map(|n| format!("{letter}-{n:06}")).collect::<Vec<_>>();
        let (a, b, c) = (many('a'), many('b'), many('c'));
        let hold = |values: &[String]| masks.hold(values.iter().map(String::as_str));
        assert!(masks.add("handed out"));
        let (first, second) = (hold(&a).unwrap(), hold(&[a.as_slice(), &b].concat()).unwrap());
        assert!(hold(&c).is_none());
        drop(second);
        assert_eq!(masks.apply(&b[0]), "[secret]", "there is room for what nobody holds");
        let third = hold(&c).unwrap();
        assert_eq!((&*masks.apply(&a[7]), &*masks.apply(&c[7])), ("[secret]", "[secret]"));
        assert_eq!(masks.apply(&b[0]), b[0]);
        assert_eq!(masks.apply("it was handed out"), "it was [secret]");
        assert!(third.is_in(&format!("x{}", c[7])) && !third.is_in(&a[7]));
        drop(first);
        assert!(hold(&b).is_some());
    }
}
