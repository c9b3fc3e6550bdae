//! The exit codes of a service, so that a script or a supervisor knows what to do next. Refuses to know any error type.

use std::{error::Error, fmt, process::ExitCode};

/// Why a process ended. The numbers are those of `sysexits.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// 0: everything was done, or drained in time.
    Ok,
    /// 1: a failure without a code of its own.
    Failure,
    /// 64: the configuration is wrong; starting again changes nothing.
    Usage,
    /// 69: something the process needs is not there (a port in use, a database that refuses).
    Unavailable,
    /// 70: a fault of ours, such as a duty that stopped beating.
    Software,
    /// 75: a passing failure, or a drain that ran out of time; start again.
    Temporary,
}

impl Code {
    /// Every code, for documentation and tests.
    pub const ALL: [Self; 6] =
        [Self::Ok, Self::Failure, Self::Usage, Self::Unavailable, Self::Software, Self::Temporary];

    /// The number that the supervisor sees.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failure => 1,
            Self::Usage => 64,
            Self::Unavailable => 69,
            Self::Software => 70,
            Self::Temporary => 75,
        }
    }
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code.number())
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number().fmt(f)
    }
}

/// Writes `service: error: cause: cause` to stderr and gives the code back: the last line of a failing `main`.
///
/// Goes to stderr and not to the log, because configuration fails before there is a log.
#[must_use]
pub fn fail(service: &str, code: Code, error: &dyn Error) -> ExitCode {
    eprintln!("{service}: {}", chain(error));
    code.into()
}

/// An error with its causes on one line; a cause that only repeats what was said is left out.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn numbers_differ_and_are_those_of_sysexits() {
        let numbers: HashSet<u8> = Code::ALL.into_iter().map(Code::number).collect();
        assert_eq!(numbers, HashSet::from([0, 1, 64, 69, 70, 75]));
    }

    #[test]
    fn chain_names_every_cause_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("failed to open {0}")]
        struct Outer(&'static str, #[source] std::io::Error);
        let error = Outer("x.toml", std::io::Error::other("no such file"));
        assert_eq!(chain(&error), "failed to open x.toml: no such file");
    }
}
