//! The text of one log line: short enough, and nothing in it that a terminal or a page would obey.

/// Bytes of one line's text, as schedulers store it; the rest of a longer one is cut, and a mark stands for it.
pub const LINE_BYTES_MAX: usize = 64 * 1024;

/// Ends a line that was cut.
const CUT: &str = " … (cut)";

/// Whether there is more of a line than may be kept.
#[must_use]
pub fn is_too_long(text: &str) -> bool {
    text.trim_end_matches(['\r', '\n']).len() > LINE_BYTES_MAX
}

/// Cuts what is too long, removes colours and cursor movements, shows other control characters as escapes. Of a
/// progress bar that returns to the start of its line, the last state stays. One that was `cut` before gets the mark, too.
#[must_use]
pub fn clean(text: &str, cut: bool) -> String {
    let text = text.trim_end_matches(['\r', '\n']);
    let text = text.rsplit('\r').find(|part| !part.is_empty()).unwrap_or(text);
    let end = text.floor_char_boundary(LINE_BYTES_MAX);
    let mut clean = String::with_capacity(end);
    let mut rest = text[..end].chars();
    while let Some(c) = rest.next() {
        match c {
            '\t' | '\n' => clean.push(c),
            '\u{1b}' => match rest.as_str().strip_prefix('[') {
                Some(sequence) => {
                    // `ESC [`, parameters, and one final character between `@` and `~`.
                    let after = sequence.find(|c: char| ('@'..='~').contains(&c)).map_or("", |at| &sequence[at + 1..]);
                    rest = after.chars();
                }
                None => clean.extend(c.escape_default()),
            },
            c if c.is_control() => clean.extend(c.escape_default()),
            c => clean.push(c),
        }
    }
    // Escapes are longer than what they stand for. The mark has to fit, or schedulers cut it off.
    if cut || end < text.len() || clean.len() > LINE_BYTES_MAX {
        let room = clean.floor_char_boundary(LINE_BYTES_MAX - CUT.len());
        clean.truncate(room);
        clean.push_str(CUT);
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        for (written, kept) in [
            ("a\u{1b}[1;31mred\u{1b}[0m\tb", "ared\tb"),
            ("bell\u{7}, nul\0", "bell\\u{7}, nul\\u{0}"),
            ("\u{1b}]0;title", "\\u{1b}]0;title"),
            ("cut off \u{1b}[12", "cut off "),
            (" 10%\r 50%\r100%\r\n", "100%"),
            ("two\nlines", "two\nlines"),
        ] {
            assert_eq!(clean(written, false), kept);
        }
    }

    #[test]
    fn long_lines_are_cut_between_characters_and_their_mark_fits() {
        for (long, begins) in [("€".repeat(40_000), "€€"), ("\u{7}".repeat(40_000), "\\u{7}\\u{7}")] {
            let clean = clean(&long, false);
            assert!(clean.starts_with(begins) && clean.ends_with(CUT), "{}", clean.len());
            assert!(clean.len() <= LINE_BYTES_MAX && clean.len() > LINE_BYTES_MAX - 16, "{}", clean.len());
        }
        let fits = "x".repeat(LINE_BYTES_MAX);
        assert_eq!(clean(&fits, false), fits);
        assert!(!is_too_long(&format!("{fits}\r\n")) && is_too_long(&format!("{fits}x")));
        assert_eq!(clean("what is left of it", true), format!("what is left of it{CUT}"));
    }
}
