//! What comes through one pipe of a process, line by line, and where its lines go.

use crate::logs::{AttemptLog, LINE_BYTES_MAX};
use std::sync::{Arc, Mutex, PoisonError};

/// Begins a mark, and ends its number.
const ESCAPE: u8 = 0x1b;
/// Digits of a mark's number.
const DIGITS_MAX: usize = 18;

/// Where the lines of a process go; changes from attempt to attempt in a process that is used again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Target(Arc<Mutex<Option<AttemptLog>>>);

impl Target {
    /// Whose lines they are from here on.
    pub(crate) fn set(&self, log: Option<AttemptLog>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = log;
    }

    /// Writes a line, if there is anybody whose line it could be.
    pub(super) fn line(&self, level: &str, stream: &str, text: &str) {
        if let Some(log) = self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            log.line(level, stream, text);
        }
    }

    /// Returns when there is room for more. Cancel-safe.
    pub(super) async fn room(&self) {
        let log = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(log) = log {
            log.room().await;
        }
    }
}

/// Bytes of a pipe on their way to become lines of bounded length: of a longer one the rest is passed over.
#[derive(Debug, Default)]
pub(super) struct Printed {
    /// Read, and behind a mark or part of one.
    pending: Vec<u8>,
    line: Vec<u8>,
    cutting: bool,
}

impl Printed {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// Emits the lines up to the next mark, whose number it answers. What follows is for the next call.
    pub(super) fn take(&mut self, mut emit: impl FnMut(&[u8])) -> Option<u64> {
        let pending = std::mem::take(&mut self.pending);
        let mut rest = &pending[..];
        let mark = loop {
            let Some(end) = rest.iter().position(|byte| matches!(*byte, b'\n' | ESCAPE)) else {
                self.push(rest);
                return None;
            };
            self.push(&rest[..end]);
            rest = &rest[end..];
            if rest[0] == b'\n' {
                emit(&self.line);
                self.line.clear();
                self.cutting = false;
                rest = &rest[1..];
                continue;
            }
            match Mark::at(rest) {
                Mark::Whole(number, length) => {
                    rest = &rest[length..];
                    break Some(number);
                }
                Mark::Part => break None,
                Mark::Text => {
                    self.push(&rest[..1]);
                    rest = &rest[1..];
                }
            }
        };
        self.pending = rest.to_vec();
        mark
    }

    /// Emits what is there of a line without end.
    pub(super) fn take_rest(&mut self, emit: impl FnOnce(&[u8])) {
        let pending = std::mem::take(&mut self.pending);
        self.push(&pending);
        if !self.line.is_empty() {
            emit(&self.line);
            self.line.clear();
        }
        self.cutting = false;
    }

    fn push(&mut self, text: &[u8]) {
        if !self.cutting {
            // One byte over the limit tells the text's cleaner that there was more.
            let room = (LINE_BYTES_MAX + 1).saturating_sub(self.line.len());
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            self.cutting = text.len() >= room;
        }
    }
}

/// What begins with [`ESCAPE`]: a mark is `ESC _ 12 ESC \`, a command to applications by the standard of terminals, of which
/// none that anybody prints is only a number.
enum Mark {
    /// Its number and its length.
    Whole(u64, usize),
    /// It may become one.
    Part,
    /// It is none.
    Text,
}

impl Mark {
    fn at(text: &[u8]) -> Self {
        let Some(number) = text.strip_prefix(b"\x1b_") else {
            return if text.len() == 1 { Self::Part } else { Self::Text };
        };
        let digits = number.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let parsed = std::str::from_utf8(&number[..digits]).ok().and_then(|digits| digits.parse().ok());
        match (&number[digits..], parsed) {
            _ if digits > DIGITS_MAX => Self::Text,
            ([ESCAPE, b'\\', ..], Some(number)) => Self::Whole(number, digits + 4),
            ([], _) | ([ESCAPE], Some(_)) => Self::Part,
            _ => Self::Text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_whole_and_never_without_bound() {
        let long = "x".repeat(3 * LINE_BYTES_MAX);
        let text = format!("first\n\n{long}\nlast\nrest");
        let (mut printed, mut got) = (Printed::default(), Vec::new());
        for bytes in text.as_bytes().chunks(1_000) {
            printed.add(bytes);
            assert_eq!(printed.take(|line| got.push(line.len())), None);
        }
        printed.take_rest(|line| got.push(line.len()));
        assert_eq!(got, [5, 0, LINE_BYTES_MAX + 1, 4, 4]);
    }

    #[test]
    fn a_mark_is_found_wherever_it_is_torn_and_nothing_else_is_one() {
        let text = b"a\nhalf\x1b_12\x1b\\ a line\n\x1b[1mred\x1b_x\x1b\\\n\x1b_7\x1b\\b\n\x1b";
        for torn in 1..text.len() {
            let (mut printed, mut got) = (Printed::default(), Vec::new());
            for bytes in text.chunks(torn) {
                printed.add(bytes);
                loop {
                    let mark = printed.take(|line| got.push(String::from_utf8_lossy(line).into_owned()));
                    let Some(mark) = mark else { break };
                    got.push(mark.to_string());
                }
            }
            printed.take_rest(|line| got.push(String::from_utf8_lossy(line).into_owned()));
            let expected = ["a", "12", "half a line", "\u{1b}[1mred\u{1b}_x\u{1b}\\", "7", "b", "\u{1b}"];
            assert_eq!(got, expected, "in pieces of {torn}");
        }
    }
}
