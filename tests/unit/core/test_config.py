import json
import pathlib
import re

import pytest

from estimator_lib.core import columns as fc
from estimator_lib.core import config, labels
from estimator_lib.core.errors import ConfigError, Reason

VALID = """
name: trips
data:
  files: [rows/*.csv]
  split: {hash: {key: [id], eval_fraction: 0.2}}
label: {field: late}
columns:
  carrier: {kind: vocabulary, min_count: 3}
  hour: {kind: bucketized, quantiles: 4}
  both: {kind: crossed, of: [carrier, hour], buckets: 100}
  carrier_vector: {kind: embedding, of: carrier, dimension: 4}
  miles: {kind: numeric, field: distance, normalize: moments, default: mean}
  no_miles: {kind: missing_indicator, field: distance}
estimator:
  name: DNNLinearCombinedClassifier
  args:
    linear_feature_columns: [carrier, hour, both]
    dnn_feature_columns: [carrier_vector, miles, no_miles]
    dnn_hidden_units: [8]
train: {epochs: 2}
"""


def load(tmp_path: pathlib.Path, text: str, *overrides: str) -> config.RunConfiguration:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return config.load(path, overrides)


def test_load_valid_file_gives_columns_by_name(tmp_path):
    loaded = load(tmp_path, VALID)
    built = config.build_columns(loaded.columns)
    assert list(built) == ["carrier", "hour", "both", "carrier_vector", "miles", "no_miles"]
    assert built["both"].name == "carrier_X_hour_bucketized"
    assert built["miles"] == fc.numeric_column(
        "distance", default_value=fc.Mean(), normalizer_fn=fc.Moments()
    )
    assert fc.raw_fields(built.values()) == {
        "carrier": "string",
        "hour": "float",
        "distance": "float",
    }


def test_numbers_as_vectors_and_automatic_embeddings(tmp_path):
    text = VALID.replace(
        "no_miles: {",
        "way: {kind: piecewise_linear, field: distance, quantiles: 3, dimension: 2}\n"
        "  cuts: {kind: piecewise_linear, field: speed, boundaries: [0.0, 1.0]}\n"
        "  waves: {kind: periodic, field: distance, frequencies: 4}\n  no_miles: {",
    ).replace("dimension: 4", "dimension: auto")
    loaded = load(tmp_path, text)
    part = config.PreprocessPart.from_json(loaded.preprocess_part().to_json())
    built = config.build_columns(part.columns)
    number = fc.numeric_column("distance")
    assert built["way"] == fc.piecewise_linear_embedding(number, fc.Quantiles(buckets=3), 2)
    assert built["way"].boundaries == fc.Quantiles(buckets=3, ends=True)
    assert built["cuts"].edges == (0.0, 1.0)
    assert built["waves"] == fc.periodic_embedding(
        fc.numeric_column("distance", normalizer_fn=fc.Moments()), 4
    )
    learned = {"Vocabulary": ("a", "b"), "Quantiles": (1.0, 2.0)}

    def found(field, part):
        return learned.get(type(part).__name__) or fc.ZScore(mean=0.0, stddev=1.0)

    vector = fc.resolve(built["carrier_vector"], found)
    assert vector.width == fc.embedding_width(vector.categorical_column.num_buckets) == 2
    assert fc.resolve(built["way"], found).edges == (1.0, 2.0)
    for wrong in ("dimension: 4", "dimension: wide"), ("quantiles: 3", "quantiles: 1"):
        with pytest.raises(ConfigError, match=wrong[1].partition(": ")[2]):
            load(tmp_path, text.replace("dimension: auto", "dimension: 4").replace(*wrong))


def test_parts_survive_the_trip_to_a_step(tmp_path):
    loaded = load(tmp_path, VALID)
    part = loaded.preprocess_part()
    assert part.weight is None
    assert config.PreprocessPart.from_json(part.to_json()) == part
    assert config.TrainPart.from_json(loaded.train_part().to_json()) == loaded.train_part()


def test_a_model_parameter_leaves_the_preprocess_part_alone(tmp_path):
    first = load(tmp_path, VALID)
    second = load(tmp_path, VALID, "estimator.args.dnn_hidden_units=[16]", "train.epochs=3")
    assert first.preprocess_part().to_json() == second.preprocess_part().to_json()
    assert first.train_part() != second.train_part()


def test_override_replaces_nested_value(tmp_path):
    loaded = load(tmp_path, VALID, "train.batch_size=64", "evaluate.thresholds.auc.min=0.5")
    assert loaded.train.batch_size == 64
    assert loaded.evaluate.thresholds["auc"].min == 0.5


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (("epochs: 2", "epochz: 2"), ["train.epochz", "'epochs'"]),
        (("min_count: 3", "min_cuont: 3"), ["columns.carrier.min_cuont", "'min_count'"]),
        (("kind: vocabulary", "kind: vocabluary"), ["columns.carrier", "'vocabulary'"]),
        (("epochs: 2", "epochs: two"), ["train.epochs", "'two'"]),
        (("epochs: 2", "epochs: 2, max_steps: 3"), ["train", "exactly one of epochs, max_steps"]),
        (("name: trips", "name: Trips!"), ["name", "Trips!"]),
        (("label: {field: late}", ""), ["label: missing"]),
        (("of: carrier,", "of: carier,"), ["carrier_vector", "'carrier'"]),
        (("of: carrier,", "of: miles,"), ["carrier_vector", "'miles'", "numeric"]),
        (("of: [carrier, hour]", "of: [both, hour]"), ["refers to itself"]),
        (("dnn_hidden_units", "dnn_hiden_units"), ["dnn_hiden_units", "'dnn_hidden_units'"]),
        (("[carrier, hour, both]", "[carrier, huor]"), ["linear_feature_columns", "'hour'"]),
        (("[carrier, hour, both]", "carrier"), ["linear_feature_columns", "list of column names"]),
        (
            ("DNNLinearCombinedClassifier", "DNNLinearClassifier"),
            ["DNNLinearClassifier", "Did you"],
        ),
        (("field: late", "field: carrier"), ["label", "'carrier'"]),
        (("epochs: 2", "epochs: 2, calibration: plat"), ["train.calibration", "'plat'"]),
        (("files: [rows/*.csv]", ""), ["data", "files is missing"]),
        (("eval_fraction: 0.2", "eval_fraction: 1.5"), ["eval_fraction", "less than 1"]),
        (("hash: {key: [", "time: {field: x, eval_from: soon, key: ["), ["eval_from", "'soon'"]),
    ],
)
def test_load_names_what_is_wrong(tmp_path, change, names):
    assert change[0] in VALID
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, VALID.replace(*change))
    assert caught.value.exit_code == 2
    for name in names:
        assert name in caught.value.message


def test_an_argument_that_has_no_default_may_come_from_the_search(tmp_path):
    model = "estimator={name: DNNClassifier, args: {feature_columns: [miles]}}"
    with pytest.raises(ConfigError, match=r"estimator\.args\.hidden_units is missing"):
        load(tmp_path, VALID, model)
    assert load(
        tmp_path, VALID, model, "tune={space: {estimator.args.hidden_units: {choice: [[8]]}}}"
    )


@pytest.mark.parametrize(
    ("label", "fix"), [("classes: 3", "Use temperature"), ("kind: number", "Remove it")]
)
def test_calibration_needs_classes(tmp_path, label, fix):
    calibrated = VALID.replace("epochs: 2", "epochs: 2, calibration: platt")
    assert load(tmp_path, calibrated).train.calibration == "platt"
    with pytest.raises(ConfigError, match=fix):
        load(tmp_path, calibrated.replace("field: late", f"field: late, {label}"))


def test_load_lists_all_faults_at_once(tmp_path):
    with pytest.raises(ConfigError) as caught:
        load(
            tmp_path, VALID.replace("epochs: 2", "epochs: 2, sead: 1").replace("late", "late, x: 1")
        )
    assert "train.sead" in caught.value.message
    assert "label.x" in caught.value.message


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", "a: !!python/object:os.system {}", "\xff: 1"])
def test_load_refuses_what_is_not_a_mapping(tmp_path, text):
    with pytest.raises(ConfigError):
        load(tmp_path, text)


def test_load_missing_file(tmp_path):
    with pytest.raises(ConfigError) as caught:
        config.load(tmp_path / "none.yaml")
    assert caught.value.reason is Reason.FILE_NOT_FOUND


@pytest.mark.parametrize("override", ["train.epochs", "=3", "train..epochs=1", "name.x=1", "a=["])
def test_bad_override_is_refused(tmp_path, override):
    with pytest.raises(ConfigError):
        load(tmp_path, VALID, override)


def test_json_schema_describes_every_key():
    schema = config.json_schema()
    assert set(schema["properties"]) >= {"name", "data", "label", "columns", "estimator", "train"}
    assert schema["additionalProperties"] is False
    json.dumps(schema, allow_nan=False)


HEADS = VALID.replace(
    "label: {field: late}",
    "labels: {late: {field: late}, delay: {field: minutes, kind: number}}",
).replace("DNNLinearCombinedClassifier", "DNNLinearCombinedEstimator")
MULTILABEL = "label: {kind: multilabel, field: tags, values: [a, b]}"


def test_labels_have_a_head_each(tmp_path):
    loaded = load(tmp_path, HEADS, "estimator.args.head_weights={delay: 0.1}")
    assert list(loaded.heads) == ["late", "delay"]
    part = config.PreprocessPart.from_json(loaded.preprocess_part().to_json())
    assert labels.to_json(config.described(part.heads)) == {
        "kind": "heads",
        "heads": [
            {"name": "late", "kind": "class", "field": "late", "classes": 2},
            {"name": "delay", "kind": "number", "field": "minutes", "classes": None},
        ],
    }


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        (["label={field: x}"], ["label and labels are both given"]),
        (["labels={late: {field: late}}"], ["labels", "at least 2"]),
        (["labels.delay.field=late"], ["'late' is both labels.late and labels.delay"]),
        (["labels.delay.field=carrier"], ["'carrier' is the labels.delay"]),
        (["weight=minutes"], ["'minutes' is both labels.delay and weight"]),
        (["labels.a/b={field: c}"], ["labels.a/b"]),
        (["labels.late.fields=[a, b]"], ["labels.late", "for kind multilabel"]),
        (["labels.late={kind: multilabel}"], ["takes fields, or field and values"]),
        (["labels.late={kind: multilabel, fields: [a, a]}"], ["listed twice"]),
        (["labels.late={kind: multilabel, fields: [a]}"], ["at least 2"]),
        (["labels.delay.classes=3"], ["classes is for kind class"]),
        (
            ["labels.late={kind: multilabel, field: a, values: [b, c]}"],
            ["'a' holds the values", "data.fields"],
        ),
        (
            ["labels.late={kind: multilabel, field: a, values: [b, c], missing: skip}"],
            ["a row without has no class"],
        ),
        (
            ["estimator.name=DNNLinearCombinedClassifier"],
            ["labels has 2", "DNNLinearCombinedEstimator or MMoEEstimator"],
        ),
        (["estimator.args.head=x"], ["no such argument", "head_weights"]),
        (["estimator.args.head_weights={dealy: 1}"], ["'dealy'", "'delay'"]),
        (["estimator.args.head_weights=[1, 2]"], ["by label", "[1, 2]"]),
        (["estimator.args.head_weights={delay: -1}"], ["at least 0"]),
        (
            ["tune={space: {estimator.args.head_weights.late: {choice: [heavy]}}}"],
            ["tune.space 'estimator.args.head_weights.late'", "'heavy'"],
        ),
        (
            ["train.calibration=platt", "labels.late.classes=3"],
            ["labels.late.classes is 3", "temperature"],
        ),
    ],
)
def test_labels_that_cannot_be_learned_are_refused(tmp_path, settings, names):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, HEADS, *settings)
    for name in names:
        assert name in caught.value.message


def test_the_pages_labels_are_valid(tmp_path):
    section = pathlib.Path("docs/table.md").read_text().split("## Labels\n")[1]
    several, named, one, *_ = re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)
    label = "label: {field: late}\n"
    columns = VALID.replace(label, "").partition("estimator:")[0]
    loaded = load(tmp_path, columns + several.replace("distance", "miles"))
    assert list(loaded.heads) == ["late", "delay"]
    model = "estimator={name: DNNEstimator, args: {feature_columns: [miles], hidden_units: [4]}}"
    lists = "data.fields={tags: {separator: '|'}}"
    for shown, classes in zip(named.splitlines(), (2, 3), strict=True):
        text = VALID.replace(label, f"{shown}\n")
        assert len(load(tmp_path, text, model).heads[""].described().classes) == classes
    for shown in one.splitlines():
        text = VALID.replace(label, f"{shown}\n")
        assert load(tmp_path, text, model, lists).heads[""].kind == "multilabel"


def test_a_multilabel_label_needs_a_model_with_a_head(tmp_path):
    text = VALID.replace("label: {field: late}", MULTILABEL)
    lists = "data.fields={tags: {separator: ','}}"
    with pytest.raises(ConfigError, match="label is multilabel"):
        load(tmp_path, text, lists)
    assert load(tmp_path, text, lists, "estimator.name=DNNLinearCombinedEstimator")
    with pytest.raises(ConfigError, match="learns several labels, but there is one"):
        load(tmp_path, text, lists, "estimator={name: MMoEEstimator, args: {feature_columns: []}}")


def test_processes_of_a_training_are_told(tmp_path):
    found = load(tmp_path, trained("batch_size: 512, epochs: 1, cluster: {workers: 4}"))
    assert found.train.cluster == config.Processes(
        workers=4, parameter_servers=0, evaluator=True, mode="sync"
    )
    assert found.train_part().train.cluster is not None


@pytest.mark.parametrize(
    ("train", "fault"),
    [
        ("batch_size: 512, epochs: 1, cluster: {workers: 1}", "at least 2 workers, got 1"),
        ("batch_size: 512, epochs: 1, cluster: {workers: 3}", "shared by 3 workers; use 510"),
        ("epochs: 1, cluster: {parameter_servers: 2}", "mode sync has no parameter_servers, got 2"),
        ("epochs: 1, cluster: {mode: async}", "mode async needs parameter_servers"),
        ("epochs: 1, cluster: {mode: fast}", "'sync' or 'async'"),
        ("epochs: 1, early_stopping: {}, cluster: {evaluator: false}", "cluster.evaluator: true"),
        ("epochs: 1, cluster: {workers: two}", "train.cluster.workers"),
    ],
)
def test_processes_that_cannot_train_together_are_refused(tmp_path, train, fault):
    with pytest.raises(ConfigError, match=re.escape(fault)):
        load(tmp_path, trained(train))


def test_processes_on_gpus_are_refused(tmp_path):
    text = trained("epochs: 1, cluster: {workers: 2}")
    with pytest.raises(ConfigError, match=r"cluster\.steps\.train has gpu"):
        load(tmp_path, f"{text}\ncluster: {{steps: {{train: {{gpu: 1}}}}}}\n")


def trained(train):
    return re.sub(r"(?m)^train:.*(\n +.*)*", f"train: {{{train}}}", VALID)
