//! Variables and outputs that user code asks for by name, over a real scheduler and executor.

use crate::{cluster::shared, project::step, workspace::Workspace};

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
