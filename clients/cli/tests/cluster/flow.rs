//! What follows what: dynamic children, conditions, callbacks, sensors, child runs, one process, SQL.

use crate::{
    cluster::shared,
    project::{Step, WAITS, step},
    workspace::Workspace,
};

#[test]
fn values_and_variables_travel_down_a_chain() {
    let steps = [
        step("data_loader", "load", "import pandas as pd\n@data_loader\ndef f(**kwargs):\n    return pd.DataFrame({'a': [1, 2, kwargs['last']]})\n"),
        step("transformer", "double", "@transformer\ndef f(df, *args, **kwargs):\n    df.a *= 2\n    return df\n")
            .after(&["load"]),
        step("data_exporter", "keep", "@data_exporter\ndef f(df, *args, **kwargs):\n    assert list(df.a) == [2, 4, 14], df\n    print('kept', len(df))\n")
            .after(&["double"]),
    ];
    let workspace = Workspace::with_pipeline(shared(), "chain", "variables: {last: 1}", &steps);
    let run = workspace.end_of(&workspace.start("p", &["--var", "last=7"])).completed();
    assert_eq!(run.block("load").0["outputs"][0]["rows"], "3");
    workspace.logged(&run, "kept 3");
}

#[test]
fn dynamic_blocks_have_as_many_children_as_items() {
    let parent = "@data_loader\ndef f(**kwargs):\n    items = list(range(kwargs['items']))\n    return [items, [{'block_uuid': f'part_{n}'} for n in items]]\n";
    let steps = [
        step("data_loader", "parts", parent).with("configuration: {dynamic: true}"),
        step("transformer", "square", "@transformer\ndef f(item, *args, **kwargs):\n    return item * item\n")
            .after(&["parts"])
            .with("configuration: {reduce_output: true}"),
        step(
            "data_exporter",
            "sum",
            "@data_exporter\ndef f(all, *args, **kwargs):\n    print('sum of', len(all), 'is', sum(all))\n",
        )
        .after(&["square"]),
    ];
    let workspace = Workspace::with_pipeline(shared(), "dynamic", "", &steps);
    let ids = [0, 1, 5].map(|n| (n, workspace.start("p", &["--var", &format!("items={n}")])));
    for (items, id) in ids {
        let run = workspace.end_of(&id).completed();
        assert_eq!(run.children("square"), items, "{run:#?}");
        assert_eq!(run.block("square").0["childrenTotal"], items, "{run:#?}");
        let sum: usize = (0..items).map(|n| n * n).sum();
        workspace.logged(&run, &format!("sum of {items} is {sum}"));
        if items == 5 {
            assert_eq!(run.child("square", 3).0["childName"], "part_3");
        }
    }
}

#[test]
fn a_false_condition_skips_what_follows_and_the_run_completes() {
    let steps = [
        step("data_loader", "load", "@data_loader\ndef f(**kwargs):\n    return 1\n"),
        step("transformer", "guarded", "@transformer\ndef f(x, *args):\n    raise AssertionError\n").after(&["load"]),
        step("data_exporter", "after", "@data_exporter\ndef f(x, *args):\n    raise AssertionError\n")
            .after(&["guarded"]),
        step("data_exporter", "beside", "@data_exporter\ndef f(x, *args):\n    assert x == 1\n").after(&["load"]),
        step("conditional", "guard", "@condition\ndef f(x, *args, **kwargs):\n    return x > 1\n").after(&["guarded"]),
    ];
    let workspace = Workspace::with_pipeline(shared(), "conditions", "", &steps);
    let run = workspace.run("p").completed();
    assert_eq!(
        run.summary(),
        ["load=COMPLETED", "guarded=CONDITION_FAILED", "after=CONDITION_FAILED", "beside=COMPLETED"]
    );
}

#[test]
fn callbacks_are_called_and_awaited() {
    let callback = "
@callback
def good(value, **kwargs):
    print('good', value, kwargs['parent_block_uuid'])
@callback('failure')
def bad(value, **kwargs):
    print('bad', kwargs['parent_block_uuid'], kwargs['__error'])
";
    let steps = [
        step("data_loader", "load", "@data_loader\ndef f(**kwargs):\n    return 5\n"),
        step("transformer", "fail", "@transformer\ndef f(x, *args):\n    raise ValueError('on purpose')\n")
            .after(&["load"]),
        step("callback", "tell", callback).after(&["load", "fail"]),
    ];
    let workspace = Workspace::with_pipeline(shared(), "callbacks", "", &steps);
    let run = workspace.run("p").failed();
    workspace.logged(&run, "good 5 load");
    workspace.logged(&run, "bad fail");
    workspace.logged(&run, "on purpose");
    assert_eq!(run.block("tell:load").status(), "COMPLETED");
    assert_eq!(run.block("tell:fail").status(), "COMPLETED");
}

/// A block that fails beside one that goes on until it is told, each with one below it.
fn a_failing_and_a_good_branch() -> [Step; 4] {
    let pass = "@transformer\ndef f(x, *args, **kwargs):\n    return x\n";
    [
        step("data_loader", "bad", "@data_loader\ndef f(**kwargs):\n    raise ValueError\n"),
        step("transformer", "below_bad", pass).after(&["bad"]),
        step("data_loader", "good", WAITS),
        step("transformer", "below_good", pass).after(&["good"]),
    ]
}

#[test]
fn a_failure_ends_what_runs_beside_it() {
    let workspace = Workspace::with_pipeline(shared(), "fails", "", &a_failing_and_a_good_branch());
    let run = workspace.run("p").failed();
    let ends = ["bad=FAILED", "below_bad=UPSTREAM_FAILED", "good=CANCELLED", "below_good=CANCELLED"];
    assert_eq!(run.summary(), ends, "{run:#?}");
    assert_eq!(run.block("below_bad").attempts(), 0);
}

#[test]
fn a_failure_is_contained_when_blocks_may_fail() {
    let workspace = Workspace::with_pipeline(shared(), "contained", "", &a_failing_and_a_good_branch());
    let id = workspace.start("p", &["--allow-blocks-to-fail"]);
    workspace.run_when("the failure", &id, |run| {
        run.blocks.iter().any(|b| b["block"] == "bad") && run.block("bad").status() == "FAILED"
    });
    workspace.tell("go-1");
    let run = workspace.end_of(&id).failed();
    let ends = ["bad=FAILED", "below_bad=UPSTREAM_FAILED", "good=COMPLETED", "below_good=COMPLETED"];
    assert_eq!(run.summary(), ends, "{run:#?}");
}

#[test]
fn retries_of_a_block_wait_and_count() {
    let code = "@data_loader\ndef f(**kwargs):\n    if kwargs['retry']['attempts'] < 3:\n        raise ValueError('not yet')\n    return kwargs['retry']['attempts']\n";
    let steps = [step("data_loader", "load", code).with("retry_config: {retries: 3, delay: 1}")];
    let workspace = Workspace::with_pipeline(shared(), "retries", "", &steps);
    assert_eq!(workspace.run("p").completed().block("load").attempts(), 3);
}

#[test]
fn one_process_shares_its_context() {
    let steps = [
        step("data_loader", "one", "import os\n@data_loader\ndef f(*args, **kwargs):\n    kwargs['context']['from'] = os.getpid()\n    return object()\n"),
        step("transformer", "two", "import os\n@transformer\ndef f(x, *args, **kwargs):\n    assert kwargs['context']['from'] == os.getpid()\n    assert type(x) is object\n    return 1\n")
            .after(&["one"]),
    ];
    let top = "run_pipeline_in_one_process: true\ncache_block_output_in_memory: true";
    let workspace = Workspace::with_pipeline(shared(), "one-process", top, &steps);
    workspace.run("p").completed();
}

#[test]
fn sql_on_duckdb_reads_and_makes_tables() {
    let steps = [
        step("data_loader", "load", "import pandas as pd\n@data_loader\ndef f(**kwargs):\n    return pd.DataFrame({'Kilos': [1, 2, 3]})\n"),
        step("transformer", "query", "select kilos * 10 as b from {{ df_1 }} where kilos > {{ least }}\n")
            .after(&["load"])
            .with("language: sql, configuration: {data_provider: duckdb, data_provider_profile: default, export_write_policy: replace}"),
        step("data_exporter", "check", "@data_exporter\ndef f(df, *args):\n    assert list(df.b) == [20, 30], df\n").after(&["query"]),
    ];
    let workspace = Workspace::new(shared(), "duckdb");
    let database = workspace.meet().join("data.db");
    workspace.write(
        "io_config.yaml",
        &format!("version: 0.1.1\ndefault:\n  DUCKDB_DATABASE: {}\n  DUCKDB_SCHEMA: main\n", database.display()),
    );
    workspace.pipeline("p", "variables: {least: 1}", &steps);
    workspace.deploy().with_code(0);
    workspace.run("p").completed();
    assert!(database.exists());
}

#[test]
fn a_sensor_is_asked_again_until_it_is_true() {
    let sensor = "import os\n@sensor\ndef f(*args, **kwargs):\n    open(kwargs['meet'] + '/asked', 'w').write('x\\n')\n    return os.path.exists(kwargs['meet'] + '/ready')\n";
    let steps = [
        step("sensor", "wait", sensor).with("configuration: {poke_interval: 1}"),
        step("data_loader", "load", "@data_loader\ndef f(*args, **kwargs):\n    return 1\n").after(&["wait"]),
    ];
    let workspace = Workspace::with_pipeline(shared(), "sensor", "", &steps);
    let id = workspace.start("p", &[]);
    workspace.told("asked");
    workspace.tell("ready");
    let run = workspace.end_of(&id).completed();
    assert_eq!(run.block("load").status(), "COMPLETED");
}
