//! Completions as a shell uses them: it reads the script, and offers what fits.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::process::Command;

/// Completes the last word of `orrery <words>` in a real bash.
const COMPLETE: &str = r#"
source <("$ORRERY" completions bash)
COMP_WORDS=(orrery "$@") COMP_CWORD=$#
_orrery orrery "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\n' "${COMPREPLY[@]}"
"#;

fn offered(words: &[&str]) -> Vec<String> {
    let mut bash = Command::new("bash");
    bash.args(["-c", COMPLETE, "bash"]).args(words).env("ORRERY", env!("CARGO_BIN_EXE_orrery"));
    let output = bash.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn bash_offers_commands_and_options() {
    assert_eq!(offered(&["dep"]), ["deploy"]);
    let all = offered(&[""]);
    for command in ["up", "deploy", "run", "runs", "logs", "blocks", "cancel", "retry", "pipelines", "executors"] {
        assert!(all.iter().any(|offered| offered == command), "{command} is not in {all:?}");
    }
    assert!(offered(&["run", "--wa"]).contains(&"--wait".to_owned()));
}

#[test]
fn every_shell_has_a_script_and_a_strange_one_a_reason() {
    let completions = |shell: &str| {
        let mut orrery = Command::new(env!("CARGO_BIN_EXE_orrery"));
        orrery.args(["completions", shell]).output().unwrap()
    };
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let output = completions(shell);
        assert!(output.status.success() && String::from_utf8(output.stdout).unwrap().contains("deploy"), "{shell}");
    }
    let refused = completions("tcsh");
    assert_eq!(refused.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("possible values: bash"));
}
