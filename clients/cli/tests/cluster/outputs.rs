//! What blocks left, looked at and removed: by the command line, and by the Python client.

use crate::{
    cluster::{Cluster, shared},
    http,
    project::step,
    wait,
    workspace::Workspace,
};
use std::{fs, path::Path, process::Command};

const TABLE: &str = "
import pandas as pd
@data_loader
def f(*args, **kwargs):
    return pd.DataFrame({'n': range(kwargs['rows']), 's': 'text'})
";
const SUM: &str = "
@transformer
def f(frame, *args, **kwargs):
    return {'sum': int(frame.n.sum())}
";
const ALL: &str = "
@transformer
def f(frame, *args, **kwargs):
    return [n * n for n in frame.n.tolist()]
";

/// Everything that the client offers, against a real cluster.
const SCRIPT: &str = r#"
import sys
import orrery

client = orrery.Client()
name = sys.argv[1]
workspace = client.get_workspace(name, create_if_not_exist=True)
assert name in [w.name for w in client.list_workspaces()]
assert client.get_workspace(name + "-new", create_if_not_exist=True).name == name + "-new"
assert [p.name for p in workspace.list_pipelines()] == ["p"]
pipeline = workspace.pipeline("p")
assert pipeline.blocks == ["load", "sum", "all"] and pipeline.variables == {"rows": 3}, pipeline.document
first = pipeline.run(variables={"rows": 4}, idempotency_key="once")
assert pipeline.run(variables={"rows": 4}, idempotency_key="once").id == first.id
run = first.wait(timeout=120)
assert run.status == "completed" and run.variables["rows"] == 4 and run.completed_at >= run.created_at
assert [(b.name, b.status) for b in run.blocks()] == [("load", "completed"), ("sum", "completed"), ("all", "completed")]
assert run.output("load").rows()[3] == {"n": 3, "s": "text"}
assert run.get_variable("sum") == {"sum": 6}
assert list(run.logs(follow=True)) is not None
again = run.retry(from_block="sum").wait(timeout=120)
assert again.id == run.id
large = pipeline.run(variables={"rows": 1000}).wait(timeout=120)
output = large.output("load")
assert (output.row_count, len(output.rows()), output.columns[0][0]) == (1000, 100, "n")
assert large.get_variable("all") == [n * n for n in range(1000)] and not large.output("all").is_complete
saved = large.save_output("load", sys.argv[2])
assert [path.rsplit("/", 1)[1] for path in saved] == ["data.parquet", "data_column_types.json"], saved
with open(saved[0], "rb") as file:
    assert file.read(4) == b"PAR1"
try:
    workspace.pipeline("none")
    raise AssertionError("there is none")
except orrery.NotFound as error:
    assert error.reason == "PIPELINE_NOT_FOUND"
assert {r.id for r in pipeline.list_runs()} >= {run.id, large.id}
print("done", run.id, large.id)
"#;

#[test]
fn outputs_are_looked_at_and_removed_and_runs_stay() {
    let steps = [step("data_loader", "load", TABLE), step("transformer", "sum", SUM).after(&["load"])];
    let all = step("transformer", "all", ALL).after(&["load"]);
    let steps: Vec<_> = steps.into_iter().chain([all]).collect();
    let workspace = Workspace::with_pipeline(shared(), "look", "variables: {rows: 3}", &steps);
    let script = workspace.meet().join("script.py");
    fs::write(&script, SCRIPT).unwrap();
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../python");
    let mut python = Command::new(provision::Python::find_or_install().unwrap().path);
    let (server, token_file) = shared().server();
    python.env("ORRERY_SERVER", server).env("ORRERY_TOKEN_FILE", token_file);
    python
        .arg(&script)
        .arg("look")
        .arg(workspace.meet().join("saved"))
        .env("PYTHONPATH", package)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    let said = wait::output(&mut python);
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.status.success(), "{text}{}", String::from_utf8_lossy(&said.stderr));
    let mut words = text.split_whitespace().skip(1).map(str::to_owned);
    let (old, latest) = (words.next().unwrap(), words.next().unwrap());

    let looked = workspace.orrery(&["outputs", &latest, "load"]).with_code(0).json();
    assert_eq!(
        (&looked["outputs"][0]["rows"], looked["outputs"][0]["sample"].as_array().unwrap().len()),
        (&"1000".into(), 100)
    );
    assert_eq!(workspace.orrery(&["outputs", &latest, "none"]).code, 66);
    assert_eq!(workspace.orrery(&["clean"]).code, 65, "without a period it must be said what goes");
    let counted = workspace.orrery(&["clean", "--before", "0h", "--dry-run"]).with_code(0).json();
    assert_eq!(counted["pipelines"][0]["runs"], "1", "the latest completed run keeps its own: {counted}");
    workspace.orrery(&["clean", "--before", "0h"]).with_code(0);
    let gone = workspace.orrery(&["outputs", &old, "load"]).with_code(0).json();
    assert!(gone["expiredAt"].is_string() && gone["outputs"][0]["rows"] == "4", "{gone}");
    assert_eq!(
        workspace.orrery(&["outputs", &latest, "load"]).with_code(0).json()["expiredAt"],
        serde_json::Value::Null
    );
    let refused = workspace.orrery(&["retry", &old, "--from", "sum"]);
    assert_eq!(refused.code, 65, "{refused:?}");
    assert!(refused.err.contains("outputs") && refused.err.contains("whole run"), "{}", refused.err);
    workspace.orrery(&["retry", &old, "--wait"]).with_code(0);
}

#[test]
fn outputs_in_a_bucket_of_google_are_read_by_the_next_block_and_shown() {
    let google = testkit::Google::bucket();
    let cluster = Box::leak(Box::new(Cluster::with_google(&google)));
    let workspace = Workspace::new(cluster, "google");
    let place = format!("project_type: standalone\nremote_variables_dir: gs://{}/lake\n", google.bucket);
    workspace.write("metadata.yaml", &place);
    let steps = [step("data_loader", "load", TABLE), step("transformer", "sum", SUM).after(&["load"])];
    workspace.pipeline("p", "variables: {rows: 5}", &steps);
    workspace.deploy().with_code(0);
    let run = workspace.run("p").completed();
    let looked = workspace.orrery(&["outputs", run.id(), "sum"]).with_code(0).json();
    assert_eq!(
        looked["outputs"][0]["text"].as_str().map(|text| text.replace(' ', "")),
        Some(r#"{"sum":10}"#.to_owned())
    );
    let listed = http::get(&format!("http://{}", google.host), &format!("/storage/v1/b/{}/o", google.bucket)).body;
    let names: Vec<_> = listed["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect();
    for (block, file) in [("load", "output_0/data.parquet"), ("load", "manifest.json"), ("sum", "output_0/data.json")] {
        let is_it = |name: &&&str| name.starts_with(&format!("lake/{}/{block}/", run.id())) && name.ends_with(file);
        assert_eq!(names.iter().filter(is_it).count(), 1, "{block}/{file} in {names:?}");
    }
    assert!(!cluster.data().join("outputs").join(run.id()).exists(), "they are in the bucket and nowhere else");
}
