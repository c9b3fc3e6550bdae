//! What a team does in a day, command by command, as people read the answers: who may come, what starts pipelines, how
//! much at once, models, who is told, and what is cleaned away.

use crate::{
    answer::Answer,
    cluster::{Cluster, shared},
    project::step,
    wait,
    workspace::{SOON, Workspace},
};
use std::{fs, path::PathBuf, process::Command, time::Duration};

const QUICK: &str = "@data_loader\ndef f(*args, **kwargs):\n    return [1, 2, 3]\n";
const PASSWORD: &str = "a long password of Ada";

/// Somebody at another terminal, with a state of their own and no operator's token.
struct Person {
    server: String,
    home: tempfile::TempDir,
}

impl Person {
    fn new(cluster: &Cluster) -> Self {
        Self { server: cluster.server().0.to_owned(), home: tempfile::tempdir().unwrap() }
    }

    /// Runs `orrery`, with the token of this file if one is named.
    #[track_caller]
    fn with_token(&self, token_file: Option<&PathBuf>, arguments: &[&str]) -> Answer {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orrery"));
        command.env("ORRERY_SERVER", &self.server).args(arguments);
        command.env("XDG_STATE_HOME", self.home.path()).env("XDG_CONFIG_HOME", self.home.path());
        match token_file {
            Some(file) => command.env("ORRERY_TOKEN_FILE", file),
            None => command.env_remove("ORRERY_TOKEN_FILE"),
        };
        wait::output(&mut command).into()
    }

    #[track_caller]
    fn orrery(&self, arguments: &[&str]) -> Answer {
        self.with_token(None, arguments)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.home.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    #[track_caller]
    fn login(&self, email: &str, passwords: &str) -> Answer {
        let file = self.write("password", passwords);
        self.orrery(&["login", "--email", email, "--password-file", file.to_str().unwrap()])
    }
}

/// What is said between two words of an answer.
#[track_caller]
fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let rest = text.split_once(before).unwrap_or_else(|| panic!("no `{before}` in {text}")).1;
    rest.split_once(after).unwrap_or_else(|| panic!("no `{after}` in {text}")).0
}

#[track_caller]
fn says(answer: &Answer, words: &[&str]) {
    assert_eq!(answer.code, 0, "{answer:?}");
    for word in words {
        assert!(answer.out.contains(word), "`{word}` is not in\n{}", answer.out);
    }
}

#[test]
fn a_person_comes_works_and_goes() {
    let workspace = Workspace::with_pipeline(shared(), "walk-people", "", &[step("data_loader", "load", QUICK)]);
    let plain = |arguments: &[&str]| workspace.plain(arguments);
    let (ada, email) = (Person::new(shared()), "ada-of-walk@example.org");
    let added = plain(&["users", "add", email, "--name", "Ada"]);
    let once = between(&added.out, "with the password ", " and ").to_owned();
    says(&plain(&["users"]), &[email, "Ada", "has not signed in"]);
    assert_eq!(ada.orrery(&["whoami"]).code, 77);
    assert_eq!(ada.login(email, "not the password").code, 77);
    says(&ada.login(email, &format!("{once}\n{PASSWORD}\n")), &["signed in to", email]);
    assert_eq!(ada.login(email, &once).code, 77, "it was for one use");
    says(&ada.orrery(&["whoami"]), &[email, "ada-of-walk"]);

    let hers = |arguments: &[&str]| ada.orrery(&[&["--workspace", "walk-people"], arguments].concat());
    assert_eq!(hers(&["runs"]).code, 66, "what is not hers is not there");
    says(&plain(&["members", "invite", email]), &["is a member"]);
    says(&plain(&["members"]), &[email, "collaborator"]);
    says(&hers(&["run", "p", "--wait"]), &["completed"]);
    says(&hers(&["executors"]), &["shown to who has a role over the whole cluster"]);
    assert_eq!(hers(&["members", "set", email, "owner"]).code, 77);
    says(&plain(&["members", "set", email, "owner"]), &["has a new role"]);
    says(&hers(&["members"]), &["owner"]);
    says(&plain(&["members", "invite", "nobody-yet@example.org"]), &["when there is such a user"]);
    says(&plain(&["members"]), &["nobody-yet@example.org", "invited"]);
    says(&plain(&["members", "remove", "nobody-yet@example.org"]), &["no member any more"]);

    says(&plain(&["groups", "create", "walkers"]), &["walkers"]);
    says(&plain(&["groups", "add", "walkers", email]), &["is in walkers"]);
    says(&plain(&["groups", "members", "walkers"]), &[email]);
    says(&plain(&["groups"]), &["walkers"]);
    says(&plain(&["groups", "remove", "walkers", email]), &["is out of walkers"]);
    says(&plain(&["groups", "delete", "walkers"]), &["is gone"]);

    let made = ada.orrery(&["tokens", "create", "ci", "--lifetime", "24h"]).with_code(0);
    let file = ada.write("token", made.out.trim());
    says(&ada.with_token(Some(&file), &["whoami"]), &[email]);
    let tokens = ada.orrery(&["tokens"]).with_code(0).out;
    let prefix = tokens.lines().find(|line| line.contains(" ci ")).unwrap().split_whitespace().next().unwrap();
    says(&ada.orrery(&["tokens", "revoke", prefix]), &["opens nothing"]);
    assert_eq!(ada.with_token(Some(&file), &["whoami"]).code, 77);

    let made = ada.orrery(&["tokens", "create", "cd", "--lifetime", "24h"]).with_code(0);
    let other = ada.write("other", made.out.trim());
    says(&ada.with_token(Some(&other), &["logout"]), &["signed out"]);
    assert_eq!(ada.orrery(&["whoami"]).code, 77);
    says(&ada.with_token(Some(&other), &["whoami"]), &[email]);
    says(&plain(&["users", "disable", email]), &["disabled"]);
    assert_eq!(ada.login(email, PASSWORD).code, 77);
    says(&plain(&["users", "enable", email]), &["may sign in again"]);
    let reset = plain(&["users", "reset-password", email]).with_code(0);
    let again = between(&reset.out, "with the password ", " and ");
    says(&ada.login(email, &format!("{again}\n{PASSWORD}!\n")), &["signed in"]);
    says(&plain(&["users", "role", email, "viewer"]), &["has a new role"]);
    // She looks at everything now, and changes nothing that is not hers.
    says(&ada.orrery(&["--workspace", "default", "pipelines"]), &[]);
    assert_eq!(ada.orrery(&["--workspace", "default", "limits", "set", "x", "1"]).code, 77);
    let trail = plain(&["audit", "--all", "--limit", "500"]);
    says(&trail, &["InviteMember", "RevokeToken", "ResetPassword", email]);
    for secret in [once.as_str(), again, PASSWORD, made.out.trim()] {
        assert!(!trail.out.contains(secret));
    }
}

#[test]
fn what_starts_a_pipeline_is_made_changed_and_looked_at() {
    let workspace = Workspace::with_pipeline(shared(), "walk-triggers", "", &[step("data_loader", "load", QUICK)]);
    let plain = |arguments: &[&str]| workspace.plain(arguments);
    let create = ["triggers", "create", "p", "nightly", "--every", "30 2 * * *", "--zone", "Europe/Berlin", "--paused"];
    says(&plain(&create), &["trigger nightly of p is created", "version 1"]);
    says(&plain(&["triggers"]), &["nightly", "30 2 * * * (Europe/Berlin)", "paused"]);
    says(&plain(&["triggers", "edit", "nightly", "--overlap", "skip", "--sla", "1h"]), &["is edited, version 2"]);
    says(&plain(&["triggers", "start", "nightly"]), &["is started", "it fires"]);
    says(&plain(&["triggers", "show", "p/nightly"]), &["skip", " 1 h\n", "active, version 3"]);
    let preview = plain(&["triggers", "preview", "nightly", "-n", "3", "--after", "2026-03-28T12:00:00Z"]);
    says(&preview, &["2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"]);
    assert_eq!(preview.out.lines().count(), 3, "{}", preview.out);
    plain(&["triggers", "edit", "nightly", "--window", "02:00-04:00", "--days", "mon"]).with_code(0);
    let preview = plain(&["triggers", "preview", "nightly", "-n", "1", "--after", "2026-03-28T12:00:00Z"]);
    says(&preview, &["2026-03-30T02:30:00+02:00", "outside of its window, 02:00-04:00 mon, are skipped"]);
    let wrong = plain(&["triggers", "edit", "nightly", "--every", "61 * * * *"]);
    assert!(wrong.code == 64 && wrong.err.contains("at column 1"), "{wrong:?}");
    assert!(wrong.err.contains("`orrery help triggers edit` tells"), "{wrong:?}");
    let back = ["triggers", "edit", "nightly", "--sla", "none", "--zone", "none", "--window", "none"];
    says(&plain(&back), &["is edited, version 5"]);
    let shown = plain(&["triggers", "show", "nightly"]);
    assert!(shown.out.contains("skip"), "{shown:?}");
    assert!(["sla", "Berlin", "window"].iter().all(|gone| !shown.out.contains(gone)), "{shown:?}");
    says(&plain(&["triggers", "pause", "nightly"]), &["is paused"]);
    says(&plain(&["triggers", "create", "p", "now", "--every", "@once"]), &["is created"]);
    wait::until("its run", SOON, || {
        let history = plain(&["triggers", "history", "now"]);
        history.out.contains("fired").then_some(())
    });
    says(&plain(&["runs", "--pipeline", "p", "--trigger", "now"]), &["now"]);
    says(&plain(&["triggers", "delete", "nightly"]), &["is archived"]);
    assert_eq!(plain(&["triggers", "show", "nightly"]).code, 66);
    // What became of its times stays, also where another trigger has its name by now.
    says(&plain(&["triggers", "delete", "now"]), &["is archived"]);
    says(&plain(&["triggers", "list", "--archived"]), &["now", "archived"]);
    for meant in ["now", "p/now"] {
        says(&plain(&["triggers", "history", meant]), &["fired"]);
        says(&plain(&["triggers", "history", meant, "--archived"]), &["fired"]);
    }
    assert_eq!(plain(&["triggers", "history", "nobody"]).code, 66);
    assert_eq!(plain(&["triggers", "history", "manual", "--archived"]).code, 66);

    let range = ["--start", "2024-01-30T00:00:00Z", "--end", "2024-03-31T00:00:00Z", "--interval", "month"];
    let preview = plain(&[&["backfills", "preview", "p"], &range[..]].concat());
    says(&preview, &["3 runs", "2024-01-30", "2024-02-29", "2024-03-30"]);
    let create = [&["backfills", "create", "p", "--name", "months", "--parallelism", "2"], &range[..]].concat();
    says(&plain(&create), &["months"]);
    wait::until("the backfill", SOON, || {
        let shown = plain(&["backfills", "show", "months"]);
        shown.out.contains("completed").then_some(())
    });
    let runs = plain(&["runs", "--backfill", "months"]);
    assert_eq!(runs.out.matches("backfill months").count(), 3, "{runs:?}");
    assert!(!runs.out.contains("now\n") && !runs.out.contains("manual"), "{runs:?}");
    let cancelled = plain(&["backfills", "cancel", "p/months"]);
    assert!(cancelled.code == 0 || cancelled.code == 65, "{cancelled:?}");
    let never = plain(&["backfills", "pause", "years"]);
    assert!(never.code == 66 && never.err.contains("`orrery backfills` lists them"), "{never:?}");
    let range = ["--start", "2020-01-01T00:00:00Z", "--end", "2023-12-31T00:00:00Z", "--interval", "day"];
    let days = [&["backfills", "create", "p", "--name", "days", "--parallelism", "1"], &range[..]].concat();
    plain(&days).with_code(0);
    says(&plain(&["backfills", "pause", "days"]), &["paused"]);
    says(&plain(&["backfills", "resume", "days"]), &["running"]);
    says(&plain(&["backfills", "cancel", "days"]), &["cancelled"]);
    says(&plain(&["backfills"]), &["months", "days"]);
}

#[test]
fn models_limits_messages_and_what_is_cleaned() {
    let workspace = Workspace::with_pipeline(shared(), "walk-things", "", &[step("data_loader", "load", QUICK)]);
    let plain = |arguments: &[&str]| workspace.plain(arguments);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(file("Fraud Model.onnx"), vec![7; 300_000]).unwrap();
    says(&plain(&["models", "upload", &file("Fraud Model.onnx")]), &["fraud-model has version"]);
    fs::write(file("next.onnx"), b"next").unwrap();
    says(&plain(&["models", "upload", &file("next.onnx"), "--name", "fraud-model"]), &["fraud-model has version"]);
    says(&plain(&["models"]), &["fraud-model", "next.onnx", "2"]);
    let versions = plain(&["models", "show", "fraud-model"]);
    says(&versions, &["Fraud Model.onnx", "293", "next.onnx"]);
    says(&plain(&["models", "download", "fraud-model", "-o", &file("newest")]), &["SHA-256 as announced"]);
    assert_eq!(fs::read(file("newest")).unwrap(), b"next");
    let first = versions.out.lines().last().unwrap().split_whitespace().next().unwrap();
    says(&plain(&["models", "download", first, "-o", &file("first")]), &[]);
    assert_eq!(fs::read(file("first")).unwrap(), vec![7; 300_000]);
    says(&plain(&["models", "archive", "fraud-model"]), &["archived"]);
    says(&plain(&["models"]), &["no models"]);

    says(&plain(&["limits", "set", "warehouse", "2"]), &["2 blocks at once"]);
    says(&plain(&["limits"]), &["warehouse", "2"]);
    says(&plain(&["limits", "remove", "warehouse"]), &["limits no more"]);
    assert_eq!(plain(&["limits", "set", "warehouse", "0"]).code, 64);

    let secret = file("secret");
    fs::write(&secret, "hunter2-of-walk").unwrap();
    says(&plain(&["secrets", "set", "WALK", "--from-file", &secret]), &["WALK is set, version 1"]);
    let listed = plain(&["secrets"]);
    says(&listed, &["WALK", "owner@localhost"]);
    assert!(!listed.out.contains("hunter2"));
    says(&plain(&["secrets", "delete", "WALK"]), &["WALK is gone"]);
    says(&plain(&["secrets", "rotate"]), &["nothing was sealed anew with the key `local`", "no value needs another"]);

    // A receiver that messages may not go to: the list says so.
    fs::write(file("told.json"), r#"{"webhook_config": {"url": "https://127.0.0.1:9/hook"}}"#).unwrap();
    assert_eq!(plain(&["notifications", "test"]).code, 66, "nobody is told yet");
    says(
        &plain(&["notifications", "set", &file("told.json")]),
        &["set for the runs of workspace walk-things: webhook_config", "`orrery notifications test` tries it"],
    );
    says(&plain(&["notifications", "show"]), &["every pipeline", "webhook_config"]);
    says(&plain(&["notifications", "test"]), &["1 test message is on the way", "workspace walk-things"]);
    wait::until("the refusal", SOON, || plain(&["notifications"]).out.contains("failed").then_some(()));
    fs::write(file("told.json"), "{}").unwrap();
    says(
        &plain(&["notifications", "set", &file("told.json")]),
        &["nothing is configured here for the runs of workspace"],
    );

    // A pipeline's latest completed run keeps its own.
    let run = workspace.run("p").completed();
    workspace.run("p").completed();
    says(&plain(&["clean", "--before", "0h", "--dry-run"]), &["would remove the outputs of 1 run, "]);
    says(&plain(&["outputs", run.id(), "load"]), &["1"]);
    says(&plain(&["clean", "--before", "0h"]), &["the outputs of 1 run, "]);
    wait::until("their end", Duration::from_secs(10), || {
        let shown = plain(&["outputs", run.id(), "load"]);
        shown.out.contains("gone since").then_some(())
    });
    says(&plain(&["clean", "--before", "0h"]), &["nothing to remove"]);
    says(&plain(&["clean", "--logs", "--before", "2020-01-01", "--dry-run"]), &["no day of log lines"]);
    assert_eq!(plain(&["clean", "--logs", "--pipeline", "p"]).code, 64);
}
