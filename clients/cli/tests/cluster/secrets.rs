//! A secret on its way from the command line to a block: it arrives, and is nowhere else, in no line, error or file.

use crate::{
    cluster::{shared, to_be_hurt},
    processes,
    project::step,
    wait,
    workspace::{SOON, Workspace},
};
use rustix::process::Signal;
use std::{fs, path::Path};

const CANARY: &str = "canary-5e1d-tell-nobody";
/// One that is in outputs, where it has to be.
const RETURNED: &str = "canary-7f2e-returned";

/// The first file below a folder that holds a text in clear, links followed.
pub(crate) fn holder(folder: &Path, text: &str) -> Option<String> {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let found = match fs::metadata(&path) {
            Ok(meta) if meta.is_dir() => holder(&path, text),
            Ok(meta) if meta.is_file() => {
                let bytes = fs::read(&path).unwrap_or_default();
                let holds = bytes.windows(text.len()).any(|window| window == text.as_bytes());
                holds.then(|| path.display().to_string())
            }
            _ => None,
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

#[test]
fn a_secret_reaches_its_block_and_nothing_else() {
    let steps = [
        step(
            "data_loader",
            "use",
            "import logging\nfrom mage_ai.data_preparation.shared.secrets import get_secret_value\n\
             from mage_ai.io.config import ConfigFileLoader\nfrom mage_ai.settings.repo import get_repo_path\n\
             @data_loader\ndef f(*args, **kwargs):\n    value = get_secret_value('WAREHOUSE')\n\
             \x20   assert len(value) == 23, 'the secret did not come'\n\
             \x20   config = ConfigFileLoader(get_repo_path() + '/io_config.yaml', 'default')\n\
             \x20   assert config['POSTGRES_PASSWORD'] == value\n\
             \x20   assert get_secret_value('NONE') is None\n\
             \x20   print('printed', value)\n    logging.getLogger('x').warning('logged %s', value)\n    return 1\n",
        ),
        step(
            "transformer",
            "fail",
            "from mage_ai.data_preparation.shared.secrets import get_secret_value\n\
             @transformer\ndef f(x, *args, **kwargs):\n    raise ValueError('refused ' + get_secret_value('WAREHOUSE'))\n",
        )
        .after(&["use"]),
    ];
    let workspace = Workspace::new(shared(), "secretive");
    workspace.write("io_config.yaml", "default:\n  POSTGRES_PASSWORD: \"{{ mage_secret_var('WAREHOUSE') }}\"\n");
    workspace.pipeline("p", "", &steps);
    workspace.deploy().with_code(0);
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), CANARY).unwrap();
    let from = file.path().to_str().unwrap();
    workspace.orrery(&["secrets", "set", "WAREHOUSE", "--from-file", from, "--pipeline", "p"]).with_code(0);
    let run = workspace.run("p").failed();
    assert_eq!(run.block("use").0["status"], "BLOCK_RUN_STATUS_COMPLETED", "{run:#?}");
    for line in ["printed [secret]", "logged [secret]", "refused [secret]"] {
        workspace.logged(&run, line);
    }
    assert!(!format!("{run:?}").contains(CANARY));
    let id = run.run["id"].as_str().unwrap().to_owned();
    for told in [&["logs", &id][..], &["blocks", &id], &["audit"], &["secrets"], &["runs"]] {
        assert!(!format!("{:?}", workspace.orrery(told).with_code(0)).contains(CANARY), "{told:?}");
    }
    assert_eq!(holder(&shared().data(), CANARY), None);
}

#[test]
fn a_secret_that_blocks_return_is_shown_to_nobody() {
    let steps = [
        step(
            "data_loader",
            "give",
            "from mage_ai.data_preparation.shared.secrets import get_secret_value\n\
             @data_loader\ndef f(*args, **kwargs):\n    return {'password': 'pw ' + get_secret_value('PASSWORD')}\n",
        ),
        // It is as secret where it was handed to.
        step(
            "transformer",
            "pass",
            "@transformer\ndef f(x, *args, **kwargs):\n    print('got', x)\n    return [x['password']] * 3\n",
        )
        .after(&["give"]),
    ];
    let workspace = Workspace::with_pipeline(shared(), "telling", "", &steps);
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), RETURNED).unwrap();
    let from = file.path().to_str().unwrap();
    workspace.orrery(&["secrets", "set", "PASSWORD", "--from-file", from]).with_code(0);
    let run = workspace.run("p").completed();
    workspace.logged(&run, "got {'password': 'pw [secret]'}");
    for block in ["give", "pass"] {
        let shown = workspace.orrery(&["outputs", run.id(), block]).with_code(0);
        assert!(shown.out.contains("pw [secret]") && !shown.out.contains(RETURNED), "{shown:?}");
    }
    for told in [&["logs", run.id()][..], &["blocks", run.id()], &["audit"], &["runs"]] {
        assert!(!format!("{:?}", workspace.orrery(told).with_code(0)).contains(RETURNED), "{told:?}");
    }
}

#[test]
fn an_executor_hides_what_another_life_gave_out() {
    let (cluster, _turn) = to_be_hurt();
    let steps = [
        step(
            "data_loader",
            "la",
            "from mage_ai.data_preparation.shared.secrets import get_secret_value\n\
             @data_loader\ndef f(*args, **kwargs):\n    return {'pw': get_secret_value('LATE')}\n",
        ),
        step("transformer", "lb", "@transformer\ndef f(x, *args, **kwargs):\n    print('sees', x)\n    return x\n")
            .after(&["la"]),
        // Of another pipeline's run, whose secret its own does not see.
        step(
            "data_loader",
            "reads",
            "from mage_ai.data_preparation.variable_manager import get_variable\n\
             @data_loader\ndef f(*args, **kwargs):\n    print('read', get_variable('p', 'la', 'output_0'))\n",
        ),
    ];
    let workspace = Workspace::new(cluster, "another-life");
    workspace.pipeline("p", "secrets: [LATE]\n", &steps[..2]);
    workspace.pipeline("q", "", &steps[2..]);
    workspace.deploy().with_code(0);
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), RETURNED).unwrap();
    let from = file.path().to_str().unwrap();
    workspace.orrery(&["secrets", "set", "LATE", "--from-file", from, "--pipeline", "p"]).with_code(0);
    let run = workspace.run("p").completed();
    // Lines travel apart from results, and one that is killed takes its last ones along.
    workspace.logged(&run, "sees {'pw': '[secret]'}");
    for name in ["executor-1", "executor-2"] {
        processes::signal(cluster.service(name), Signal::KILL);
    }
    // Whichever of the new ones takes it: none has given anything out.
    workspace.orrery(&["retry", run.id(), "--from", "lb", "--wait"]).with_code(0);
    let run = workspace.end_of(run.id()).completed();
    let logs = wait::until("the line of both lives", SOON, || {
        let logs = workspace.logs(run.id(), &[]);
        (logs.matches("sees {'pw': ").count() >= 2).then_some(logs)
    });
    assert_eq!(logs.matches("sees {'pw': '[secret]'}").count(), 2, "{logs}");
    assert!(!logs.contains(RETURNED));
    let shown = workspace.orrery(&["outputs", run.id(), "lb"]).with_code(0);
    assert!(shown.out.contains("[secret]") && !shown.out.contains(RETURNED), "{shown:?}");
    cluster.wait_for_executors(2);
    for name in ["executor-1", "executor-2"] {
        processes::signal(cluster.service(name), Signal::KILL);
    }
    let other = workspace.run("q").completed();
    workspace.logged(&other, "read {'pw': '[secret]'}");
}

#[test]
fn a_secret_is_no_variable_of_another_run() {
    let steps = [
        step(
            "data_loader",
            "starts",
            "from mage_ai.data_preparation.shared.secrets import get_secret_value\n\
             from mage_ai.orchestration.triggers.api import trigger_pipeline\n\
             @data_loader\ndef f(*args, **kwargs):\n\
             \x20   trigger_pipeline('q', variables={'day': 'monday', 'pw': 'of ' + get_secret_value('HANDED')})\n",
        ),
        step("data_loader", "reads", "@data_loader\ndef f(*args, **kwargs):\n    print(kwargs)\n"),
    ];
    let workspace = Workspace::new(shared(), "handing-on");
    workspace.pipeline("p", "", &steps[..1]);
    workspace.pipeline("q", "", &steps[1..]);
    workspace.deploy().with_code(0);
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), RETURNED).unwrap();
    workspace.orrery(&["secrets", "set", "HANDED", "--from-file", file.path().to_str().unwrap()]).with_code(0);
    let run = workspace.run("p").failed();
    workspace.logged(&run, "the variable `pw` holds a secret");
    let runs = workspace.orrery(&["runs"]).with_code(0);
    assert!(!runs.out.contains("\"q\"") && !runs.out.contains(RETURNED), "{runs:?}");
}
