//! Asking a person for what must not be seen. Without a terminal, standard input gives it.

use crate::failure::{Code, Failure, Result};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io::{self, BufRead, IsTerminal, Read, Write, stdin};

/// The most that is read where no person types.
const BYTES_MAX: u64 = 1 << 20;

/// One line that was typed, without its end.
pub(crate) fn ask(question: &str) -> Result<String> {
    say(question);
    let mut line = String::new();
    stdin().lock().read_line(&mut line).map_err(|e| unreadable(&e))?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// As [`ask`], and the terminal does not show it. Without a terminal, all of standard input but its last line end.
pub(crate) fn ask_secret(question: &str) -> Result<String> {
    if !stdin().is_terminal() {
        let mut text = String::new();
        stdin().lock().take(BYTES_MAX).read_to_string(&mut text).map_err(|e| unreadable(&e))?;
        return Ok(text.strip_suffix('\n').map_or(text.as_str(), |t| t.trim_end_matches('\r')).to_owned());
    }
    let _hidden = Hidden::new()?;
    let answer = ask(question);
    say("\n");
    answer
}

fn say(text: &str) {
    // The question is a courtesy; a closed stderr is no reason to stop.
    let _ = io::stderr().write_all(text.as_bytes());
}

fn unreadable(error: &io::Error) -> Failure {
    Failure::new(Code::Data, format!("cannot read standard input: {error}"), "")
}

/// A terminal that does not show what is typed, until this value goes.
struct Hidden(Termios);

impl Hidden {
    fn new() -> Result<Self> {
        let failed = |e: rustix::io::Errno| Failure::new(Code::Internal, format!("cannot hide what is typed: {e}"), "");
        let shown = tcgetattr(stdin()).map_err(failed)?;
        let mut hidden = shown.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(stdin(), OptionalActions::Flush, &hidden).map_err(failed)?;
        Ok(Self(shown))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = tcsetattr(stdin(), OptionalActions::Flush, &self.0);
    }
}
