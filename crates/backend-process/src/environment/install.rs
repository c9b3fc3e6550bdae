//! Runs the installer: `uv` where it is on the PATH, else the interpreter's own `venv` and `pip`.

use std::{
    fmt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::Command,
    sync::mpsc,
};

/// Lines of an installer's output that are quoted when it fails.
const QUOTED_LINES: usize = 8;
/// What `uv` draws before its lines.
const DECORATION: [char; 7] = [' ', '×', '╰', '├', '─', '▶', '│'];
/// How the lines begin in which installers give the reason.
const TELLING: [&str; 4] = ["ERROR: ", "Because ", "error: ", "Failed to "];
/// The longest installation.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// Why packages were not installed.
#[derive(Debug)]
pub(super) struct Failure {
    program: String,
    /// The last lines of the installer, or why it did not run.
    pub(super) said: String,
}

impl Failure {
    /// The line that says what went wrong, for whoever reads only one: installers surround it with much else.
    pub(super) fn gist(&self) -> &str {
        let lines =
            || self.said.lines().map(|line| line.trim_start_matches(DECORATION).trim()).filter(|l| !l.is_empty());
        let telling = lines().rfind(|line| TELLING.iter().any(|start| line.starts_with(start)));
        telling.or_else(|| lines().next_back()).unwrap_or("it said nothing")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.program, self.said)
    }
}

/// Makes an environment at `place` with `python`, holding what the file `list` names.
pub(super) async fn install(
    python: &Path,
    place: &Path,
    list: &Path,
    progress: &mpsc::Sender<String>,
) -> Result<(), Failure> {
    let inside = place.join("bin/python");
    let (mut create, mut install);
    if let Some(uv) = on_path("uv") {
        create = Command::new(&uv);
        create.args(["venv", "--python"]).arg(python).arg(place);
        install = Command::new(&uv);
        install.args(["pip", "install", "--python"]).arg(&inside).arg("-r").arg(list);
    } else {
        create = Command::new(python);
        create.args(["-I", "-m", "venv"]).arg(place);
        install = Command::new(&inside);
        install.args(["-I", "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "-r"]).arg(list);
    }
    let both = async {
        run(&mut create, progress).await?;
        run(&mut install, progress).await
    };
    match tokio::time::timeout(INSTALL_TIMEOUT, both).await {
        Ok(done) => done,
        Err(_) => Err(Failure {
            program: "the installer".to_owned(),
            said: format!("it took longer than {} minutes", INSTALL_TIMEOUT.as_secs() / 60),
        }),
    }
}

fn on_path(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(name)).find(|path| path.is_file())
}

async fn run(command: &mut Command, progress: &mpsc::Sender<String>) -> Result<(), Failure> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let failed = |said: String| Failure { program: program.clone(), said };
    let mut process = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| failed(e.to_string()))?;
    let (out, err) = (process.stdout.take(), process.stderr.take());
    let (said, complained) = tokio::join!(relay(out, progress), relay(err, progress));
    let status = process.wait().await.map_err(|e| failed(e.to_string()))?;
    if status.success() {
        return Ok(());
    }
    Err(failed(if complained.is_empty() { said } else { complained }.join("\n")))
}

/// Passes lines on; answers the last few.
async fn relay(stream: Option<impl AsyncRead + Unpin>, progress: &mpsc::Sender<String>) -> Vec<String> {
    let mut last = Vec::new();
    let Some(stream) = stream else { return last };
    let mut lines = BufReader::new(stream).lines();
    loop {
        let line = match lines.next_line().await {
            Ok(Some(line)) => line,
            // Not UTF-8: that line is lost, not the rest.
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => continue,
            Ok(None) | Err(_) => return last,
        };
        if last.len() == QUOTED_LINES {
            last.remove(0);
        }
        last.push(line.clone());
        // Nobody listening is no reason to stop installing.
        let _ = progress.send(line).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_much_that_is_said_the_reason_is_told() {
        for (said, gist) in [
            (
                "Looking in links: /wheels\nERROR: Could not find a version that satisfies the requirement nope==9\n\
                 ERROR: No matching distribution found for nope==9\nWARNING: a new pip is there",
                "No matching distribution found for nope==9",
            ),
            (
                "  × No solution found when resolving dependencies:\n  ╰─▶ Because nope was not found, you lose.\n      hint: x",
                "Because nope was not found, you lose.",
            ),
            ("Permission denied", "Permission denied"),
            ("", "it said nothing"),
        ] {
            let failure = Failure { program: "pip".to_owned(), said: said.to_owned() };
            assert!(failure.gist().ends_with(gist), "{}", failure.gist());
        }
    }
}
