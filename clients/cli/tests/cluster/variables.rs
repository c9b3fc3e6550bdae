//! Variables and outputs that user code asks for by name, over a real scheduler and executor.

use crate::{
    cluster::shared,
    project::step,
    wait,
    workspace::{SOON, Workspace},
};
use serde_json::Value;

const MAKES: &str = "
import pandas as pd
@data_loader
def f(*args, **kwargs):
    return [pd.DataFrame({'n': range(kwargs['rows'])}), {'rows': kwargs['rows']}]
";

/// A run of `reader` asks for what `maker` left, of its latest completed run and of an earlier one, and for variables.
const ASKS: &str = "
from mage_ai.data_preparation.variable_manager import (
    VariableManager, get_global_variable, get_global_variables, get_variable, set_global_variable)
@data_loader
def f(*args, **kwargs):
    frame = get_variable('maker', 'load', 'output_0')
    assert list(frame.n) == [0, 1, 2, 3, 4], frame
    assert get_variable('maker', 'load', 'output_1') == {'rows': 5}
    assert VariableManager().get_variable('maker', 'load', variable_uuid='output_1') == {'rows': 5}
    assert get_variable('maker', 'load', 'output_1', partition=kwargs['first']) == {'rows': 3}
    assert get_variable('maker', 'none', 'output_0') is None
    assert get_variable('maker', 'load', 'output_0', partition='9/20200101T000000_x') is None
    assert get_global_variables('maker') == {'rows': 3, 'words': ['a', 'b']}
    assert get_global_variable('maker', 'words') == ['a', 'b']
    assert get_global_variable('maker', 'none') is None
    # Of this pipeline: what it defines, not what this run was given.
    assert get_global_variables('reader') == {'mine': 1} and kwargs['mine'] == 2
    try:
        set_global_variable('maker', 'rows', 9)
        raise AssertionError('a run changed the version of a pipeline')
    except NotImplementedError as error:
        assert 'metadata.yaml' in str(error), error
    assert get_global_variable('maker', 'rows') == 3
    print('all of it')
";
const TELLS: &str = "
@transformer
def f(frame, *args, **kwargs):
    with open(kwargs['meet'] + '/partition-' + str(kwargs['rows']), 'w') as file:
        print(kwargs['execution_partition'], file=file)
";

#[test]
fn user_code_reads_outputs_and_variables_of_any_pipeline_of_its_workspace() {
    let workspace = Workspace::new(shared(), "asks-by-name");
    let maker = [step("data_loader", "load", MAKES), step("transformer", "tell", TELLS).after(&["load"])];
    workspace.pipeline("maker", "variables: {rows: 3, words: [a, b]}", &maker);
    workspace.pipeline("reader", "variables: {mine: 1}", &[step("data_loader", "ask", ASKS)]);
    workspace.deploy().with_code(0);
    workspace.run("maker").completed();
    let first = format!("first={}", workspace.told("partition-3"));
    workspace.end_of(&workspace.start("maker", &["--var", "rows=5"])).completed();
    let run = workspace.end_of(&workspace.start("reader", &["--var", &first, "--var", "mine=2"])).completed();
    workspace.logged(&run, "all of it");
    // Another workspace has none of it.
    let stranger = Workspace::new(shared(), "asks-by-name-too");
    let code = "
from mage_ai.data_preparation.variable_manager import get_global_variables, get_variable
@data_loader
def f(*args, **kwargs):
    for question in (lambda: get_variable('maker', 'load', 'output_0'), lambda: get_global_variables('maker')):
        try:
            found = question()
        except Exception as error:
            print('refused', error)
            continue
        assert not found, found
    print('nothing of it')
";
    stranger.pipeline("p", "", &[step("data_loader", "ask", code)]);
    stranger.deploy().with_code(0);
    let run = stranger.run("p").completed();
    stranger.logged(&run, "nothing of it");
}

/// Notes what a block is told about its interval, as JSON.
const INTERVAL: &str = "
import datetime, json, os
@data_loader
def f(*args, **kwargs):
    names = ('ds', 'hr', 'execution_date', 'interval_start_datetime', 'interval_end_datetime', 'interval_seconds',
             'interval_start_datetime_previous')
    told = {n: v.isoformat() if isinstance(v, datetime.datetime) else v for n, v in ((n, kwargs.get(n)) for n in names)}
    path = kwargs['meet'] + '/' + kwargs['pipeline_run_id']
    with open(path + '.new', 'w') as file:
        print(json.dumps(told), file=file)
    os.rename(path + '.new', path)
";

#[test]
fn a_block_of_a_backfill_is_told_what_the_preview_and_its_run_say() {
    let workspace = Workspace::with_pipeline(shared(), "told-intervals", "", &[step("data_loader", "load", INTERVAL)]);
    let meet = format!("meet={}", workspace.meet().display());
    // Three days of Berlin, over the night in which its clocks change; each begins in the evening before, in UTC.
    let range = [
        "--start",
        "2024-03-29T23:00:00Z",
        "--end",
        "2024-03-31T22:00:00Z",
        "--interval",
        "day",
        "--time-zone",
        "Europe/Berlin",
        "--var",
        &meet,
    ];
    let preview = workspace.orrery(&[&["backfills", "preview", "p"], &range[..]].concat()).with_code(0).json();
    assert_eq!(preview["variables"]["ds"], "2024-03-29");
    assert_eq!(preview["variables"]["hr"], "23");
    let create = [&["backfills", "create", "p", "--name", "days"], &range[..]].concat();
    workspace.orrery(&create).with_code(0);
    let runs = wait::until("the runs of the backfill", SOON, || {
        let runs = workspace.orrery(&["runs", "--backfill", "days"]).json()["runs"].take();
        let runs = runs.as_array().cloned().unwrap_or_default();
        (runs.len() == 3 && runs.iter().all(|run| run["completedAt"].is_string())).then_some(runs)
    });
    let mut days = Vec::new();
    for run in runs {
        let told: Value = serde_json::from_str(&workspace.told(run["id"].as_str().unwrap())).unwrap();
        for (name, value) in told.as_object().unwrap() {
            // A number of a message is a double.
            let same = |shown: &Value| shown == value || shown.as_f64().is_some() && shown.as_f64() == value.as_f64();
            assert!(same(&run["variables"][name]), "{name}: {value} {run:#}");
            assert!(told["ds"] != "2024-03-29" || same(&preview["variables"][name]), "{name}: {value} {preview:#}");
        }
        days.push((told["ds"].clone(), told["hr"].clone(), told["interval_seconds"].as_f64().unwrap()));
    }
    days.sort_by_key(|(day, ..)| day.to_string());
    let hours = |day: &str, hr: &str, hours: f64| (Value::from(day), Value::from(hr), hours * 3_600.0);
    assert_eq!(
        days,
        [hours("2024-03-29", "23", 24.0), hours("2024-03-30", "23", 23.0), hours("2024-03-31", "22", 24.0)]
    );
}
