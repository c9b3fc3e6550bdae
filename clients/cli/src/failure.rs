//! What went wrong, what to do about it, and the exit code that tells a script.

use crate::render::Output;
use domain::ErrorKind;
use rpc::status::Problem;
use std::{error::Error as _, fmt::Display, process::ExitCode};
use tonic::Status;

/// Exit codes; `docs/cli.md` has the table. From 64 on they are those of `sysexits.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// Done; with `--wait`: the run completed.
    Ok = 0,
    /// The run failed.
    RunFailed = 1,
    /// The run was cancelled.
    RunCancelled = 2,
    /// Wrong arguments.
    Usage = 64,
    /// The request does not fit what is there: a project with errors, a run that has ended.
    Data = 65,
    /// The named thing does not exist.
    NotFound = 66,
    /// No server, or a service that does not start.
    Unavailable = 69,
    /// A fault of the server or of this program.
    Internal = 70,
    /// Passing: a limit, a time-out, a folder in use.
    Temporary = 75,
    /// No token, or one that does not allow this.
    Permission = 77,
    /// Interrupted by Ctrl-C.
    Interrupted = 130,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

/// The crate's result.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// One line of what, one line of remedy.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) what: String,
    pub(crate) remedy: String,
    /// The server's word for it in UPPER_SNAKE, as the documentation lists it; empty for what was found here.
    pub(crate) reason: String,
}

/// What is said when the transport failed; its own words tell nobody what is wrong.
const NO_ANSWER: &str = "the server does not answer";

/// What is said of a request that was wrong; the command's own words take the place of the last one.
const HELP: &str = "`orrery help COMMAND` tells what it takes";

/// A start of what has not ended.
const ALIVE: &str = "RUNTIME_ALIVE";

impl Failure {
    /// Names the server where it is what does not answer.
    pub(crate) fn of_server(self, server: &str) -> Self {
        if self.what == NO_ANSWER { Self { what: format!("{server} does not answer"), ..self } } else { self }
    }

    /// Names the command whose help tells more.
    pub(crate) fn of_command(self, words: &str) -> Self {
        if self.remedy != HELP {
            return self;
        }
        let remedy = HELP.replace("COMMAND", words);
        Self { remedy, ..self }
    }

    pub(crate) fn new(code: Code, what: impl Display, remedy: impl Display) -> Self {
        Self { code, what: what.to_string(), remedy: remedy.to_string(), reason: String::new() }
    }

    /// To stderr, so that stdout stays what a script asked for.
    pub(crate) fn print(&self, output: &Output) {
        let reason = if self.reason.is_empty() { String::new() } else { format!(" [{}]", self.reason) };
        eprintln!("{} {}{}", output.style.bad("error:"), self.what, output.style.dim(&reason));
        if !self.remedy.is_empty() {
            eprintln!("{} {}", output.style.dim("remedy:"), self.remedy);
        }
    }
}

/// What TLS says of a certificate that it does not accept.
fn of_certificate(status: &Status) -> Option<Failure> {
    let causes = std::iter::successors(status.source(), |&cause| cause.source());
    let why = causes.map(ToString::to_string).find(|text| text.starts_with("invalid peer certificate"))?;
    let remedy = "name the file with the certificates of who signed it by SSL_CERT_FILE";
    Some(Failure::new(Code::Unavailable, format!("the server is not who it should be: {why}"), remedy))
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        if let Some(failure) = of_certificate(&status) {
            return failure;
        }
        let problem = Problem::from_status(&status);
        let (code, usual) = verdict(problem.kind);
        // A message that tells a violation itself does not need it a second time.
        let untold = problem.violations.iter().filter(|violation| !problem.message.contains(&violation.description));
        let details: String = untold.map(|v| format!("; {}: {}", v.field, v.description)).collect();
        let what = match problem.kind {
            ErrorKind::Unavailable if status.details().is_empty() => NO_ANSWER.to_owned(),
            _ => format!("{}{details}", problem.message),
        };
        // Its name is not what is wrong with what runs already.
        let usual = match problem.retry_after_s() {
            Some(seconds) => format!("try again in {seconds} s"),
            None if problem.reason == ALIVE => "stop it first, or use `orrery workspaces restart`".to_owned(),
            None => usual.to_owned(),
        };
        let remedy = problem.remedy.as_deref().unwrap_or(&usual);
        Self { reason: problem.reason.clone(), ..Self::new(code, what, remedy) }
    }
}

fn verdict(kind: ErrorKind) -> (Code, &'static str) {
    match kind {
        ErrorKind::InvalidArgument => (Code::Usage, HELP),
        ErrorKind::NotFound => (Code::NotFound, "check the name, and the workspace (`--workspace`)"),
        ErrorKind::AlreadyExists => (Code::Data, "choose another name"),
        ErrorKind::FailedPrecondition => (Code::Data, ""),
        ErrorKind::Conflict => (Code::Temporary, "somebody else changed it meanwhile; try again"),
        ErrorKind::Unauthenticated => (
            Code::Permission,
            "sign in by `orrery login`, or name a file with a token by --token-file or ORRERY_TOKEN_FILE",
        ),
        ErrorKind::PermissionDenied => (Code::Permission, "ask an owner for the right to do this"),
        ErrorKind::ResourceExhausted => (Code::Temporary, ""),
        ErrorKind::Unavailable => (Code::Unavailable, "start one with `orrery up`, or name one by --server"),
        ErrorKind::DeadlineExceeded => (Code::Temporary, "the server is slow; try again"),
        ErrorKind::Internal => (Code::Internal, "this is a fault of the server; its log says more"),
    }
}

impl From<provision::Error> for Failure {
    fn from(error: provision::Error) -> Self {
        Self::new(Code::Unavailable, error, "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn every_status_has_a_code_and_the_servers_remedy_wins() {
        let check = |status: Status, code| assert_eq!(Failure::from(status).code, code);
        check(Status::not_found("no run"), Code::NotFound);
        check(Status::unauthenticated("no token"), Code::Permission);
        check(Status::unavailable("tcp connect error"), Code::Unavailable);
        check(Status::invalid_argument("no"), Code::Usage);
        let told: Status =
            Problem::new(ErrorKind::NotFound, "RUN", "no such run").remedy("look at `orrery runs`").into();
        let told = Failure::from(told);
        assert_eq!((told.remedy.as_str(), told.reason.as_str()), ("look at `orrery runs`", "RUN"));
        let alive: Status = Problem::new(ErrorKind::AlreadyExists, "RUNTIME_ALIVE", "it runs").into();
        assert!(Failure::from(alive).remedy.contains("stop it first"));
        let away = Failure::from(Status::unavailable("tcp connect error")).of_server("http://there:7070");
        assert_eq!(away.what, "http://there:7070 does not answer");
        let busy: Status =
            Problem::new(ErrorKind::ResourceExhausted, "BUSY", "full").after(Duration::from_secs(3)).into();
        assert_eq!(Failure::from(busy).remedy, "try again in 3 s");
        let wrong = Failure::from(Status::invalid_argument("no")).of_command("triggers edit");
        assert_eq!(wrong.remedy, "`orrery help triggers edit` tells what it takes");
    }

    #[test]
    fn a_violation_is_told_once() {
        let told = |message: &str| {
            let problem = Problem::new(ErrorKind::InvalidArgument, "FIELD", message).field("name", "is too long");
            Failure::from(Status::from(problem)).what
        };
        assert_eq!(told("the request is wrong"), "the request is wrong; name: is too long");
        assert_eq!(told("name: is too long"), "name: is too long");
    }
}
