import json
import pathlib
import re

import click
import pytest
import yaml

from components.steps import predict_job
from estimator_lib.core import columns as fc
from estimator_lib.core import config as configuration
from pipelines import cli, compiling
from pipelines.local import run as local_run
from pipelines.local import summary
from transforms.scoring import Scored

FLIGHTS = pathlib.Path("pipelines/examples/flights/config.yaml")


def config_columns(config):
    return configuration.build_columns(config.columns).values()


@pytest.fixture
def example(tmp_path):
    """A copy of the flights configuration with data files of one row."""
    (tmp_path / "data").mkdir()
    config = configuration.load(FLIGHTS)
    fields = [*fc.raw_fields(config_columns(config)), *config.evaluate.slicing_fields, "late"]
    header = ",".join(dict.fromkeys(fields))
    row = ",".join("1" for _ in dict.fromkeys(fields))
    for month in range(1, 13):
        (tmp_path / "data" / f"flights-2013-{month:02d}.csv").write_text(f"{header}\n{row}\n")
    path = tmp_path / "config.yaml"
    path.write_text(FLIGHTS.read_text())
    return path


def test_config_check_accepts_the_example(example, capsys):
    assert cli.main(["config", "check", str(example)]) == 0
    assert "9 train files, 3 eval files" in capsys.readouterr().out


def test_config_check_names_a_pattern_without_files(example, capsys):
    for path in (example.parent / "data").glob("*-1*.csv"):
        path.unlink()
    assert cli.main(["config", "check", str(example)]) == 2
    assert "data/flights-2013-1*.csv" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("train.epochz=3", "'epochs'"),
        ("evaluate.thresholds={auk: {min: 0.5}}", "'auc'"),
        ("estimator.args.dnn_hiden_units=[3]", "'dnn_hidden_units'"),
        ("data_schema={path: none.pbtxt}", "none.pbtxt"),
        ("estimator={function: 'nowhere.models:build'}", "nowhere.models"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(example, capsys, setting, said):
    assert cli.main(["config", "check", str(example), "--set", setting]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("error: ")
    assert said in shown.err
    assert "Traceback" not in shown.err
    assert shown.out == ""


def test_config_schema_is_json(capsys):
    assert cli.main(["config", "schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "RunConfiguration"


def test_run_refuses_a_missing_file_before_it_writes_anything(example, tmp_path, capsys):
    (tmp_path / "data" / "flights-2013-01.csv").unlink()
    output = tmp_path / "out"
    setting = "data.split.files.train=[data/flights-2013-01.csv]"
    code = cli.main(["run", str(example), "--output", str(output), "--set", setting])
    assert code == 2
    assert "flights-2013-01.csv" in capsys.readouterr().err
    assert not output.exists()


def test_resume_begins_no_run(example, tmp_path, capsys):
    output = tmp_path / "out"
    assert cli.main(["run", str(example), "--resume", "--output", str(output)]) == 2
    assert f"no run to resume in {output}" in capsys.readouterr().err
    assert not output.exists()


def test_compile_twice_is_identical_and_check_sees_a_difference(tmp_path, capsys):
    spec = tmp_path / "spec.yaml"
    assert cli.main(["compile", str(FLIGHTS), "-o", str(spec)]) == 0
    assert cli.main(["compile", str(FLIGHTS), "-o", str(spec), "--check"]) == 0
    other = ["--set", "train.batch_size=99"]
    assert cli.main(["compile", str(FLIGHTS), "-o", str(spec), "--check", *other]) == 2
    assert "make specs" in capsys.readouterr().err
    assert cli.main(["compile", str(FLIGHTS), "-o", str(tmp_path / "none"), "--check"]) == 2


def test_committed_specification_is_up_to_date():
    text = compiling.compile_text(configuration.load(FLIGHTS))
    compiling.check(text, pathlib.Path("pipeline_specs/flights.yaml"))


def executors(text):
    first, *rest = yaml.safe_load_all(text)
    return first["deploymentSpec"]["executors"], first, rest


def test_placement_reaches_the_specification(example):
    config = configuration.load(
        example,
        [
            "cluster={image: registry.example/python-steps:1, volume: {claim: c, mount_path: /m},"
            " steps: {train: {cpu: '3', memory: 5Gi, gpu: 2, retries: 4}}}"
        ],
    )
    found, spec, platform = executors(compiling.compile_text(config))
    train = found["exec-train"]["container"]
    assert train["image"] == "registry.example/python-steps:1"
    assert train["resources"]["accelerator"]["resourceCount"] == "2"
    assert train["resources"]["resourceMemoryLimit"] == "5Gi"
    assert train["resources"]["resourceCpuRequest"] == "3"
    tasks = spec["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    assert tasks["train"]["retryPolicy"]["maxRetryCount"] == 4
    assert tasks["train"]["inputs"]["parameters"]["code_version"]
    kubernetes = platform[0]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    mounts = {n: e["pvcMount"][0]["mountPath"] for n, e in kubernetes.items() if "pvcMount" in e}
    assert set(mounts.values()) == {"/m"}
    assert set(kubernetes) - set(mounts) == {"exec-notify"}


def test_bad_memory_is_refused_at_compile_time(example, tmp_path, capsys):
    setting = "cluster.steps.train={memory: 4Q}"
    spec = tmp_path / "spec.yaml"
    assert cli.main(["compile", str(example), "-o", str(spec), "--set", setting]) == 2
    assert "4Q" in capsys.readouterr().err
    assert not spec.exists()


def test_export_depends_on_the_verdict(example):
    _, spec, _ = executors(compiling.compile_text(configuration.load(example)))
    tasks = spec["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    assert "export" not in tasks
    condition = tasks["condition-2"]["triggerPolicy"]["condition"]
    assert condition.endswith("== 'blessed'")


def test_summary_says_rows_metrics_verdict_and_places():
    result = {
        "rows": {"read": 1000, "skipped": 10, "splits": {"train": 800, "eval": 190}},
        "evaluation": {
            "task": "binary",
            "verdict": "refused",
            "reasons": ["auc 0.5 is below 0.6"],
            "metrics": {"auc": {"value": 0.5}, "loss": {"value": None}},
        },
        "report": "/r/report.html",
        "model": None,
        "cached": ["preprocess"],
        "seconds": {"train": 1.0, "total": 2.0},
    }
    result["evaluation"]["cautions"] = ["Field 'x' alone gives the label away."]
    text = summary.render(result)
    for part in (
        "warnings  Field 'x' alone gives the label away.",
        "1,000 read, 10 skipped without label, 800 train, 190 eval",
        "auc 0.5000, loss undefined",
        "refused",
        "auc 0.5 is below 0.6",
        "/r/report.html",
        "not published",
        "2.0 s (train 1.0); from cache: preprocess",
    ):
        assert part in text
    values = {"auc/late": {"value": 0.5}, "auc/lost": {"value": None}, "mae/delay": {"value": 3.0}}
    parts = [{"name": "late"}, {"name": "delay"}]
    result["evaluation"] |= {"task": "multihead", "metrics": values, "parts": parts}
    assert "late: auc 0.5000\n          delay: mae 3.0000" in summary.render(result)


@pytest.mark.parametrize(
    ("verdict", "code"), [("blessed", 0), ("refused", 3), ("not_evaluated", 0)]
)
def test_a_refused_model_ends_with_an_exit_code_of_its_own(
    example, tmp_path, monkeypatch, verdict, code
):
    evaluation = {"task": "binary", "verdict": verdict, "reasons": [], "metrics": {}}
    result = {
        "rows": {"read": 1, "splits": {}}, "evaluation": evaluation, "report": "/r", "model": None,
        "cached": [], "seconds": {"total": 1.0},
    }  # fmt: skip
    monkeypatch.setattr(local_run, "run", lambda *_, **__: result)
    assert cli.main(["run", str(example), "--output", str(tmp_path / "out")]) == code


@pytest.mark.parametrize(
    "words",
    [
        ["katib", "{config}", "-o", "s3://bucket/experiment.yaml"],
        ["compile", "{config}", "-o", "gs://bucket/spec.yaml"],
    ],
)
def test_a_uri_for_a_path_of_this_machine_is_refused(example, words, tmp_path, monkeypatch, capsys):
    config = str(example.absolute())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        cli.main([word.replace("{config}", config) for word in words])
    assert left.value.code == 2
    assert "got the URI" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "data"]


def every_command(command=cli.commands, words=()):
    """Yields the words of each command, and its help."""
    with click.Context(command, info_name=" ".join(words)) as context:
        yield words, " ".join(command.get_help(context).split())
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                yield from every_command(command.get_command(context, name), (*words, name))


def test_settings_that_help_texts_advise_are_accepted():
    advised = {
        setting
        for _, text in every_command()
        for setting in re.findall(r"override one setting of the configuration, such as (\S+)", text)
    }
    assert "cluster.steps.train.memory=8Gi" in advised
    tune = "tune=@pipelines/examples/flights/tune.yaml"
    for setting in advised:
        configuration.load(FLIGHTS, [tune, setting])


def test_commands_and_options_keep_their_names():
    found = {" ".join(words) for words, _ in every_command()}
    assert found >= {
        "", "run", "compile", "katib", "predict", "config", "config check", "config schema",
        "models", "models list", "models show", "models rollback", "statistics", "validate",
        "preprocess", "submit", "schedule", "schedule apply", "schedule list", "schedule pause",
        "schedule resume", "schedule delete", "runs", "runs list", "runs show", "runs logs",
        "report",
    }  # fmt: skip
    help_ = {" ".join(words): text for words, text in every_command()}
    for option in ("--set", "--param", "--once", "--cache / --no-cache", "--wait", "--token-file"):
        assert option in help_["submit"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["runn"], "'run'"),
        (["run"], "'CONFIG'"),
        (["run", "a.yaml", "--outptu", "b"], "'--output'"),
        (["runs", "list", "--limit", "0"], "0 is not in the range"),
        (["statistics", "a.csv", "-o", "b", "--type", "int"], "expected FIELD=TYPE, got 'int'"),
        (["predict", "model", "a.csv", "-o", "b.csv", "--keep"], "requires an argument"),
    ],
)
def test_words_that_are_no_command_are_refused_in_two_lines(capsys, words, said):
    with pytest.raises(SystemExit) as left:
        cli.main(words)
    assert left.value.code == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("error: ")
    assert said in first
    assert second.startswith("See `estimator-pipelines ")


@pytest.mark.parametrize(
    "words", [[], ["models"], ["runs"]], ids=["nothing", "models", "runs"]
)  # fmt: skip
def test_a_group_alone_says_what_there_is(capsys, words):
    with pytest.raises(SystemExit) as left:
        cli.main(words)
    assert left.value.code == 2
    assert "Commands:" in capsys.readouterr().err


def test_values_in_a_row_and_repeated_ones_reach_predict(monkeypatch, tmp_path, capsys):
    given = {}

    def score_files(patterns, **options):
        given.update(options, patterns=patterns)
        return Scored(rows=1, left_out=0, faults=(), files=1, version="1")

    monkeypatch.setattr(predict_job, "score_files", score_files)
    words = ["predict", str(tmp_path), "a.csv", "b.csv", "-o", str(tmp_path / "out.csv")]
    more = ["--keep", "x", "y z", "--missing", "", "-999", "NA", "--keep", "w", "--csv", "quote='"]
    assert cli.main([*words, *more, "--skip-bad-rows"]) == 0
    assert list(given["patterns"]) == ["a.csv", "b.csv"]
    assert list(given["keep"]) == ["x", "y z", "w"]
    assert list(given["missing"]) == ["", "-999", "NA"]
    assert given["csv"] == {"quote": "'", "delimiter": ","}
    assert given["skip_bad_rows"] is True
    assert "scored 1 rows" in capsys.readouterr().out


def test_an_interrupt_ends_with_130_and_a_damaged_file_does_not(example, monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(local_run, "run", interrupt)
    assert cli.main(["run", str(example)]) == 130
    assert "nothing is broken" in capsys.readouterr().err

    def end(*_, **__):
        raise EOFError("compressed file ended")

    monkeypatch.setattr(local_run, "run", end)
    with pytest.raises(click.Abort):
        cli.main(["run", str(example)])
