//! The text of one log line: short enough, and nothing in it that a terminal or a page would obey.

/// Bytes of one line's text; the rest of a longer one is cut, with a mark.
pub const LINE_BYTES_MAX: usize = 64 * 1024;

/// Ends a line that was cut.
const CUT: &str = " … (cut)";

/// Cuts what is too long, removes colours and cursor movements, shows other control characters as escapes. Of a
/// progress bar that returns to the start of its line, the last state stays.
#[must_use]
pub fn clean(text: &str) -> String {
    let text = text.trim_end_matches(['\r', '\n']);
    let text = text.rsplit('\r').find(|part| !part.is_empty()).unwrap_or(text);
    let mut end = text.len().min(LINE_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
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
    if end < text.len() {
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
            assert_eq!(clean(written), kept);
        }
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        let clean = clean(&"€".repeat(40_000));
        assert!(clean.ends_with(CUT));
        assert!(clean.len() <= LINE_BYTES_MAX + CUT.len());
    }
}
