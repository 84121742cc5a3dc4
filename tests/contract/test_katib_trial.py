"""A trial's command as Katib makes it: what was configured arrives, what is said is read.

No Katib runs here: `tests/katib_trial.py` does with the manifest what its servers do, and a real
shell runs the line.
"""

import datetime
import itertools
import math
import pathlib
import re
import shlex

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.steps import tune_once
from estimator_lib.core import config as configuration
from estimator_lib.core.errors import ConfigError
from pipelines import katib
from tests import katib_trial

FLIGHTS = pathlib.Path("pipelines/examples/flights")
BASE = configuration.load(FLIGHTS / "config.yaml", [f"tune=@{FLIGHTS}/tune.yaml"])
NAME = "estimator.args.a"
NASTY = [
    "plain", "two words", " edges ", "", "it's", 'say "so"', "back\\slash", "\\u0024", "a\\",
    "$HOME", "$(HOME)", "$$", "$$(TUNE_PREPARED)", "${trialParameters.p0}",
    "${trialParameters.x}", "`id`", "$(id)", "; exit 1", "a && b || c", "a > b < c", "#no", "*",
    "%24", "50%", "é", "\u2028", "\u3000", "two\nlines", "tab\t", "\x00", "1", "1e3", "1e-06",
    "0o17", "null", "~", "yes", "{a: b}", "...", "😀", "=", "a=b", "-", "--help", 1, 1e3, 1e-06,
    True, None, [256, 128], ["a b", 'c"d'], {"name": "Adam", "x": [1.5]}, [], {}, [[]],
]  # fmt: skip


def searching(choices, **options):
    tune = configuration.Tune.model_validate({"space": {NAME: {"choice": choices}}, **options})
    return BASE.model_copy(update={"tune": tune})


def dumping(folder):
    """A `python` that writes down its words and its environment, and says one value."""
    words, names = (shlex.quote(str(folder / name)) for name in ("words", "names"))
    said = "echo 2026-11-27T01:00:00.000000Z loss=0.5"
    body = f"""printf '%s\\n' "$@" >{words}; env -0 >{names}; {said}"""
    return katib_trial.program(folder, body)


def received(folder):
    """Words and environment of the last trial."""
    found = (folder / "names").read_bytes().decode().rstrip("\0").split("\0")
    return (folder / "words").read_text().splitlines(), dict(one.split("=", 1) for one in found)


def run(experiment, drawn, folder, path, **options):
    here = folder / "katib"
    here.mkdir(exist_ok=True)
    for file in here.iterdir():
        file.unlink()
    return katib_trial.run(katib_trial.job(experiment, drawn), here, path, **options)


def texts(experiment):
    """The texts that Katib may draw, by the parameters' names."""
    found = {}
    for parameter in experiment["spec"]["parameters"]:
        space = parameter["feasibleSpace"]
        found[parameter["name"]] = space.get("list") or [space["min"], space["max"]]
    return found


def same(one, other):
    """Whether two values are equal and of equal types, down to the last."""
    return repr(one) == repr(other)


@pytest.mark.parametrize("may_stop", [False, True])
def test_committed_experiment_reaches_its_trials(tmp_path, may_stop):
    experiment = yaml.safe_load(pathlib.Path("pipeline_specs/flights-katib.yaml").read_text())
    path = dumping(tmp_path)
    for column in itertools.zip_longest(*texts(experiment).values(), fillvalue=None):
        drawn = {
            name: text if text is not None else texts(experiment)[name][-1]
            for name, text in zip(texts(experiment), column, strict=True)
        }
        ended = run(experiment, drawn, tmp_path, path, may_stop=may_stop)
        assert (ended.code, ended.completed) == (0, True)
        words, environment = received(tmp_path)
        assert words == ["-m", "components.steps.tune_once"]
        asked = tune_once.read_environment(environment)
        assert asked.part == BASE.tune_part()
        assert str(asked.prepared) == "/mnt/flights/prepared"
        for name, space in BASE.tune.space.items():
            if space.choice is None:
                assert asked.values[name] == float(drawn[name])
            else:
                number = texts(experiment)[name].index(drawn[name])
                assert same(asked.values[name], space.choice[number])


@pytest.fixture(scope="module")
def nasty():
    return yaml.safe_load(katib.manifest(searching(NASTY)))


def test_value_of_every_kind_arrives_as_it_is(nasty, tmp_path):
    path = dumping(tmp_path)
    listed = texts(nasty)[NAME]
    assert len(set(listed)) == len(NASTY)
    assert "two words" in listed
    assert "[256, 128]" in listed
    for choice, text in zip(NASTY, listed, strict=True):
        assert run(nasty, {NAME: text}, tmp_path, path).completed
        words, environment = received(tmp_path)
        assert words == ["-m", "components.steps.tune_once"]
        asked = tune_once.read_environment(environment)
        assert same(asked.values[NAME], choice)
        assert same(asked.part.tune.space[NAME].choice, NASTY)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab$\" '"), inner),
    max_leaves=5,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    choices=st.lists(json_values, min_size=1, max_size=3, unique_by=repr),
    order=st.permutations(["p0", "p1"]),
)
def test_any_choice_arrives_as_it_is(choices, order, tmp_path):
    space = {NAME: {"choice": choices}, "estimator.args.b": {"choice": choices[::-1]}}
    tune = configuration.Tune.model_validate({"space": space})
    experiment = yaml.safe_load(katib.manifest(BASE.model_copy(update={"tune": tune})))
    path = dumping(tmp_path)
    drawn = {name: listed[-1] for name, listed in texts(experiment).items()}
    made = katib_trial.job(experiment, drawn, order=order)
    katib_trial.run(made, tmp_path, path)
    asked = tune_once.read_environment(received(tmp_path)[1])
    assert same(asked.values, {NAME: choices[-1], "estimator.args.b": choices[0]})
    assert asked.part.tune == tune


def test_text_of_the_user_is_not_taken_for_anothers(tmp_path):
    config = searching(["a"])
    env = {"A": "it's $HOME", "B": "$$(A)"}
    cluster = configuration.Cluster.model_validate(
        {**BASE.cluster.model_dump(exclude_unset=True), "steps": {"tune": {"env": env}}}
    )
    experiment = yaml.safe_load(
        katib.manifest(config.model_copy(update={"cluster": cluster}), "/mnt/flights/$(A) $$ 'b'")
    )
    assert run(experiment, {NAME: "a"}, tmp_path, dumping(tmp_path)).completed
    _, environment = received(tmp_path)
    assert (environment["A"], environment["B"]) == ("it's $HOME", "$(A)")
    assert str(tune_once.read_environment(environment).prepared) == "/mnt/flights/$(A) $$ 'b'"


# What is a number or a truth value to the reader of kubectl, and plain text to PyYAML.
OTHERWISE = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|0o[0-7]+|[yYnN]|[-+]?0b[01]+"
)


def test_manifest_means_the_same_to_kubernetes():
    odd = ["1e3", "0o17", "08", "+5", ".5e3", "y", "N", "yes", "1_000", "two words", "_1"]
    space = {
        "estimator.args.rate": {"log_uniform": [1e-6, 1e-5]},
        "estimator.args.count": {"integer": [-1, 9]},
        NAME: {"choice": odd},
    }
    tune = configuration.Tune.model_validate({"space": space})
    placed = with_tune_placed(env={f"V{n}": text for n, text in enumerate(odd)})
    text = katib.manifest(placed.model_copy(update={"tune": tune}))
    plain = {
        event.value
        for event in yaml.parse(text, Loader=yaml.SafeLoader)
        if isinstance(event, yaml.ScalarEvent) and event.style is None
    }
    assert {"two words", "_1"} <= plain
    texts_only = {value for value in plain if isinstance(yaml.safe_load(value), str)}
    assert [value for value in texts_only if OTHERWISE.fullmatch(value)] == []
    assert texts(yaml.safe_load(text)) == {
        "estimator.args.rate": ["1e-06", "1e-05"],
        "estimator.args.count": ["-1", "9"],
        NAME: [tune_once.text(one) for one in odd],
    }


# --- the end of a trial -----------------------------------------------------------------------


def test_exit_code_of_a_final_error_is_the_one_the_job_does_not_repeat(nasty, tmp_path):
    path = katib_trial.program(tmp_path, 'echo "error: the data is bad"; exit 2')
    drawn = {NAME: "plain"}
    ended = run(nasty, drawn, tmp_path, path)
    assert (ended.said, ended.completed) == ("error: the data is bad\n", False)
    spec = nasty["spec"]["trialTemplate"]["trialSpec"]["spec"]
    (rule,) = spec["podFailurePolicy"]["rules"]
    assert rule["action"] == "FailJob"
    assert rule["onExitCodes"] == {
        "containerName": nasty["spec"]["trialTemplate"]["primaryContainerName"],
        "operator": "In",
        "values": [ended.code],
    }
    assert spec["template"]["spec"]["restartPolicy"] == "Never"  # else the rule is refused
    assert spec["backoffLimit"] == 2
    again = run(nasty, drawn, tmp_path, katib_trial.program(tmp_path, "exit 75"))
    assert again.code == 75


def test_trial_that_katib_stops_early_ends_well_and_one_that_fails_does_not(nasty, tmp_path):
    drawn = {NAME: "plain"}
    mark = f"echo early-stopped >{shlex.quote(str(tmp_path / 'katib'))}/$PPID.pid"
    stopped = katib_trial.program(tmp_path, f"{mark}; kill -TERM $$")
    ended = run(nasty, drawn, tmp_path, stopped, may_stop=True)
    assert (ended.code, ended.completed) == (0, True)
    failed = katib_trial.program(tmp_path, "exit 2")
    assert run(nasty, drawn, tmp_path, failed, may_stop=True).code == 1  # Katib's line hides it


def test_job_of_an_ended_trial_is_kept_for_katib_and_then_goes(nasty):
    template = nasty["spec"]["trialTemplate"]
    assert template["retain"] is True
    assert template["trialSpec"]["spec"]["ttlSecondsAfterFinished"] > 24 * 3600


# --- metrics ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "value", "read"),
    [
        ("auc", 0.6948, [0.6948]),
        ("auc/late", 0.5, [0.5]),
        ("pinball/0.9", 1e-05, [1e-05]),
        ("precision@0.5", -2.5e20, [-2.5e20]),
        ("loss", 0, [0.0]),
        ("auc", math.nan, []),
        ("auc", -math.inf, []),
        ("auc", None, []),
        ("c", 0.5, [0.5]),
    ],
)
def test_metric_line_is_read_with_its_time(metric, value, read, capsys):
    experiment = yaml.safe_load(katib.manifest(searching(["a"], metric=metric)))
    before = datetime.datetime.now(datetime.UTC)
    tune_once.say("other", 0.25)
    tune_once.say(metric, value)
    said = f"error: {metric}=0.1 is bad\n{capsys.readouterr().out}{metric}=nan\n{metric}=0.3\n"
    found = katib_trial.collected(experiment, said)
    assert [value for _, value in found] == read
    assert all(before <= time <= datetime.datetime.now(datetime.UTC) for time, _ in found)


def test_pattern_of_metric_lines_is_one_that_katib_takes(nasty):
    (pattern,) = nasty["spec"]["metricsCollectorSpec"]["source"]["filter"]["metricsFormat"]
    assert re.compile(pattern).groups == 2
    assert ";" not in pattern  # Katib joins patterns by it
    assert "$(" not in pattern  # Kubernetes expands the collector's arguments
    assert not re.search(r"\(\?[^:]|\\[1-9]", pattern)  # RE2 has no such thing


# --- what is refused --------------------------------------------------------------------------


def with_tune_placed(**placement):
    cluster = {**BASE.cluster.model_dump(exclude_unset=True), "steps": {"tune": placement}}
    return BASE.model_copy(update={"cluster": configuration.Cluster.model_validate(cluster)})


@pytest.mark.parametrize(
    ("placement", "said"),
    [
        ({"env": {"TUNE_CONFIG": "a"}}, "TUNE_CONFIG"),
        ({"secrets": [{"name": "s", "env": {"k": "TUNE_VALUE_7"}}]}, "TUNE_VALUE_7"),
        ({"env": {"A": "${trialParameters.p0}"}}, "trialParameters"),
        ({"env": {"A": "${trialParameters.mine}"}}, "trialParameters"),
        ({"volumes": [{"claim": "c", "mount_path": "/var/log/katib"}]}, "/var/log/katib"),
    ],
)
def test_placement_that_a_trial_would_not_have_is_refused(placement, said):
    with pytest.raises(ConfigError) as caught:
        katib.manifest(with_tune_placed(**placement))
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("update", "said"),
    [
        ({"name": "a" * 36}, "at most 35 characters, got 36"),
        ({"metric": "auc/a b"}, "tune.metric 'auc/a b'"),
        ({"metric": "a=b"}, "tune.metric"),
        ({"metric": "a;b"}, "tune.metric"),
        ({"choices": ["x" * 140_000]}, "128 KiB"),
    ],
)
def test_search_that_katib_would_refuse_is_refused(update, said):
    name = update.pop("name", "flights")
    config = searching(update.pop("choices", ["a"]), **update)
    with pytest.raises(ConfigError) as caught:
        katib.manifest(config.model_copy(update={"name": name}))
    assert said in caught.value.message


@pytest.mark.parametrize("prepared", ["gs://bucket/x", "prepared", "/mnt/flights2", "/data"])
def test_directory_that_no_trial_sees_is_refused(prepared):
    with pytest.raises(ConfigError, match=rf"'{prepared}'.*below.*/mnt/flights"):
        katib.manifest(searching(["a"]), prepared)
    assert katib.manifest(searching(["a"]), "/mnt/flights/other")


def test_longest_name_is_taken():
    config = searching(["a"]).model_copy(update={"name": "a" * 35})
    name = yaml.safe_load(katib.manifest(config))["metadata"]["name"]
    assert len(name) == 40
    assert re.fullmatch("[a-z]([-a-z0-9]*[a-z0-9])?", name)


SAMPLES = {
    "cpu": "2",
    "memory": "4Gi",
    "disk": {"size": "1Gi"},
    "gpu": 1,
    "gpu_type": "amd.com/gpu",
    "node_selector": {"zone": "a"},
    "tolerations": [{"key": "k"}],
    "affinity": [{"key": "zone", "values": ["a"]}],
    "volumes": [{"claim": "c", "mount_path": "/more"}],
    "env": {"A": "b"},
    "secrets": [{"name": "s", "env": {"k": "KEY"}}],
    "config_maps": [{"name": "s", "env": {"k": "KEY"}}],
    "labels": {"team": "ml"},
    "image": "registry.example/x:1",
    "shared_memory": "3Gi",
    "empty_dirs": [{"mount_path": "/cache", "size": "5Gi"}],
    "image_pull_policy": "Always",
    "image_pull_secrets": ["pull"],
    "security_context": {"run_as_user": 10001, "run_as_group": 10002, "run_as_non_root": True},
    "timeout_s": 60,
    "retries": 1,
}


@pytest.mark.parametrize("field", configuration.Placement.model_fields)
def test_every_field_of_a_placement_is_used_or_refused(field):
    given = {field: SAMPLES[field]}
    without = {"gpu": 1} if field == "gpu_type" else {}
    plain = katib.manifest(with_tune_placed(**without))
    try:
        placed = katib.manifest(with_tune_placed(**without, **given))
    except ConfigError as refusal:
        if field in refusal.message:
            return
        raise
    assert placed != plain
    job = yaml.safe_load(placed)["spec"]["trialTemplate"]["trialSpec"]
    assert katib_trial.strictly(job, "V1Job") == job
    found = set(_leaves(job)) | set(_keys(job))
    assert set(_leaves(SAMPLES[field])) <= found


def test_field_of_a_placement_that_the_job_does_not_know_is_refused(monkeypatch):
    monkeypatch.setattr(katib, "_PLACED", katib._PLACED - {"cpu"})
    assert katib.manifest(with_tune_placed(memory="1Gi"))
    with pytest.raises(ConfigError, match=r"steps\.tune has cpu"):
        katib.manifest(with_tune_placed(cpu="1"))


def _keys(value):
    """The names in a value, of whatever depth."""
    for one in value.values() if isinstance(value, dict) else value:
        if isinstance(one, dict | list):
            yield from _keys(one)
    if isinstance(value, dict):
        yield from value


def _leaves(value):
    """The texts in a value, down to the last."""
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list):
        yield str(value)
        return
    for one in value:
        yield from _leaves(one)
