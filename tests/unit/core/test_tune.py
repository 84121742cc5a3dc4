import pytest

from estimator_lib.core import config as configuration
from estimator_lib.core.errors import ConfigError

FLIGHTS = "pipelines/examples/flights/config.yaml"
UNITS = "estimator.args.dnn_hidden_units"
RATE = "estimator.args.dnn_optimizer.learning_rate"


def load(tune, *more):
    return configuration.load(FLIGHTS, [f"tune={tune}", *more])


def space(text):
    return load(f"{{space: {{{text}}}}}")


def test_values_reach_the_argument_however_deep_it_is():
    config = space(f"{UNITS}: {{choice: [[64], [128, 64]]}}, {RATE}: {{log_uniform: [0.01, 1]}}")
    part = config.tune_part().train.with_values({UNITS: [128, 64], RATE: 0.5})
    assert part.estimator.args["dnn_hidden_units"] == [128, 64]
    assert part.estimator.args["dnn_optimizer"] == {"name": "Adam", "learning_rate": 0.5}
    assert config.estimator.args["dnn_hidden_units"] == [64]
    assert configuration.TunePart.from_json(config.tune_part().to_json()) == config.tune_part()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("estimator.args.dnn_hiden_units: {choice: [[64]]}", "'dnn_hidden_units'"),
        ("estimator.name: {choice: [A]}", "cannot be searched"),
        ("estimator.args.: {choice: [1]}", "cannot be searched"),
        ("train.batch_size: {choice: [0]}", "tune.space 'train.batch_size' has the value"),
        ("train.batch_size: {uniform: [16, 64]}", "batch_size"),
        ("estimator.args.dnn_hidden_units.a: {choice: [1]}", "expected a mapping"),
        ("estimator.args.dnn_feature_columns: {choice: [[nowhere]]}", "'nowhere'"),
        ("estimator.args.dnn_dropout: {uniform: [0.5, 0.5]}", "a lower and a higher"),
        ("estimator.args.dnn_dropout: {uniform: [0.5]}", "at least 2"),
        ("estimator.args.dnn_dropout: {log_uniform: [0, 1]}", "above 0"),
        ("estimator.args.dnn_dropout: {integer: [0, .inf]}", "integer"),
        ("estimator.args.dnn_dropout: {choice: []}", "choice"),
        ("estimator.args.dnn_dropout: {}", "exactly one of choice"),
        ("estimator.args.dnn_dropout: {choice: [1], uniform: [0, 1]}", "exactly one of choice"),
        ("estimator.args.dnn_dropout: {uniforms: [0, 1]}", "'uniform'"),
    ],
)
def test_space_that_cannot_be_searched_is_refused_before_any_work(text, said):
    with pytest.raises(ConfigError, match=said):
        space(text)


def test_trials_apart_must_not_need_each_other():
    one = f"{UNITS}: {{choice: [[64]]}}"
    assert load(f"{{space: {{{one}}}, separate_tasks: true, sampler: random}}").tune
    with pytest.raises(ConfigError, match="sampler random"):
        load(f"{{space: {{{one}}}, separate_tasks: true}}")


def test_tuned_training_needs_a_space():
    with pytest.raises(ConfigError, match="section tune is missing"):
        configuration.load(FLIGHTS, ["pipeline=tuned_training"])
