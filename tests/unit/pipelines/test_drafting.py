"""`init` drafts a configuration from a table as people have them, and says what it saw."""

import importlib.util

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from pipelines import cli

ROWS = 400
RANDOM = np.random.default_rng(0)
Y = RANDOM.integers(0, 2, ROWS)
X = (RANDOM.normal(0, 20, ROWS) + 5 * Y).round(2)
"""A number that tells the label a little."""


@pytest.fixture
def init(tmp_path, monkeypatch, capsys):
    """Writes a table and drafts from it; returns exit code, configuration and what was said."""
    monkeypatch.chdir(tmp_path)

    def init(columns, label="y", delimiter=",", encoding="utf-8", options=(), name="orders.csv"):
        lines = [delimiter.join(columns)]
        lines += [delimiter.join(map(str, row)) for row in zip(*columns.values(), strict=True)]
        (tmp_path / name).write_text("\n".join(lines) + "\n", encoding=encoding)
        code = cli.main(["init", name, "--label", label, *options])
        path = tmp_path / "orders.yaml"
        config = yaml.safe_load(path.read_text()) if path.exists() else None
        said = capsys.readouterr()
        if config is not None:
            assert cli.main(["config", "check", str(path)]) == 0, path.read_text()
            assert f"{len(config['columns'])} columns" in capsys.readouterr().out
        return code, config, said.out + said.err

    return init


def test_a_plain_table_needs_no_key(init):
    code, config, said = init({"x": X, "y": Y})
    assert code == 0
    assert config["name"] == "orders"
    assert config["data"] == {
        "files": ["orders.csv"],
        "split": {"hash": {"key": ["x"], "eval_fraction": 0.2}},
    }
    assert config["label"] == {"field": "y", "classes": 2}
    assert config["columns"] == {"x": {"kind": "numeric"}}
    assert config["train"]["early_stopping"]
    share = Y.mean()
    entropy = -(share * np.log(share) + (1 - share) * np.log(1 - share))
    assert config["evaluate"]["thresholds"]["loss"]["max"] == pytest.approx(entropy, abs=1e-4)
    assert "at random" in said


def test_semicolons_commas_of_decimals_and_latin_1_are_found_out(init):
    numbers = [f"{1000 + x:.2f}".replace(".", ",") for x in X]
    city = RANDOM.choice(["Köln", "Bonn"], ROWS)
    _, config, said = init({"x": numbers, "city": city, "y": Y}, delimiter=";", encoding="latin-1")
    read = {key: config["data"][key] for key in ("delimiter", "encoding", "decimal")}
    assert read == {"delimiter": ";", "encoding": "cp1252", "decimal": ","}
    assert {name: spec["kind"] for name, spec in config["columns"].items()}["x"] == "numeric"
    assert "delimiter ';', encoding cp1252, numbers as 1234,5" in said


def test_an_encoding_is_found_out_where_its_first_letter_is_far_behind(init, tmp_path, monkeypatch):
    from transforms.validating import table

    monkeypatch.setattr(table, "_HEAD_BYTES", 100)
    _, config, _ = init({"x": X, "c": ["a"] * (ROWS - 1) + ["ü"], "y": Y}, encoding="latin-1")
    assert config["data"]["encoding"] == "cp1252"


def test_thousands_units_and_missing_tokens_are_found_out(init):
    price = [f'"${1000 + x:,.2f}"' for x in X]
    size = [f'"{5000 + x:,.2f}"' for x in X]
    age = ["NA" if i % 7 == 0 else str(20 + i % 50) for i in range(ROWS)]
    _, config, said = init({"price": price, "size": size, "age": age, "y": Y})
    assert config["data"]["thousands"] == ","
    assert config["data"]["units"] == {"price": "$"}
    assert config["data"]["missing"] == ["", "NA"]
    assert config["columns"]["age"] == {"kind": "numeric", "default": "mean"}
    assert config["columns"]["no_age"] == {"kind": "missing_indicator", "field": "age"}
    assert "'NA', in every field" in said


def test_blanks_behind_commas_are_part_of_texts_and_not_of_numbers(init):
    hours = [" ?" if i % 7 == 0 else f" {20 + i % 50}" for i in range(ROWS)]
    income = np.array([" <=50K", " >50K"])[Y]
    _, config, _ = init({"x": X, " hours": hours, " income": income}, label=" income")
    assert config["label"]["classes"] == [" <=50K", " >50K"]
    assert config["data"]["missing"] == ["", " ?"]
    assert config["columns"][" hours"] == {"kind": "numeric", "default": "mean"}


def test_a_date_divides_by_time_and_later_rows_judge(init):
    days = np.datetime64("2024-01-01") + np.arange(ROWS)
    _, config, _ = init({"day": days, "x": X, "y": Y})
    split = config["data"]["split"]["time"]
    assert split["field"] == "day"
    assert "2024-01-01" < split["validation_from"] < split["eval_from"] < str(days[-1])
    assert config["columns"]["day_weekday"]["part"] == "weekday"


def test_dates_that_cannot_be_read_are_told(init):
    days = [f"{1 + i % 28}.{1 + i % 12}.2024" for i in range(ROWS)]
    _, config, said = init({"day": days, "x": X, "y": Y})
    assert "hash" in config["data"]["split"]
    assert "dates of day cannot be read: write them as 2026-01-31" in said


def test_rows_of_one_customer_stay_together(init):
    ids = RANDOM.integers(0, 120, ROWS)
    _, config, said = init({"customer_id": ids, "x": X, "y": Y})
    assert config["data"]["split"]["hash"]["key"] == ["customer_id"]
    assert "customer_id" not in config["columns"]
    assert "customer_id is left out: it names the groups" in said


def test_identifiers_constants_and_leaks_are_left_out_and_told(init):
    _, config, said = init(
        {
            "order": np.arange(ROWS) + 7,
            "country": ["DE"] * ROWS,
            "note": [f"note {i}" for i in range(ROWS)],
            "empty": [""] * ROWS,
            "reason": np.where(Y == 1, "left", "none"),
            "refund": np.where(Y == 1, 10 + np.abs(X), -np.abs(X)),
            "x": X,
            "y": Y,
        }
    )
    assert list(config["columns"]) == ["x"]
    for told in (
        "order is left out: it numbers the rows",
        "country is left out: it is 'DE' always",
        "note is left out: it is different in every row",
        "empty is left out: it has no values",
        "reason is left out: it tells y alone",
        "refund is left out: it tells y alone",
    ):
        assert told in said


def test_labels_are_classes_or_numbers(init, tmp_path):
    texts = np.array(["no", "yes"])[Y]
    _, config, said = init({"x": X, "y": texts})
    assert config["label"] == {"field": "y", "classes": ["no", "yes"]}
    assert "yes is positive" in said
    (tmp_path / "orders.yaml").unlink()

    _, config, _ = init({"x": X, "y": RANDOM.integers(1, 6, ROWS)})
    assert config["label"]["classes"] == ["1", "2", "3", "4", "5"]
    (tmp_path / "orders.yaml").unlink()

    amounts = np.where(
        np.arange(ROWS) % 9 == 0, "", (X + RANDOM.normal(0, 9, ROWS)).round(1).astype(str)
    )
    _, config, _ = init({"x": X, "y": amounts})
    assert config["label"] == {"field": "y", "kind": "number", "missing": "skip"}
    assert config["estimator"]["name"].endswith("Regressor")
    present = [float(a) for a in amounts if a]
    assert config["evaluate"]["thresholds"]["rmse"]["max"] == pytest.approx(np.std(present), 1e-3)


def test_a_network_is_drafted_where_there_is_no_lightgbm(init, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "lightgbm" else find(name, *a)
    )
    city = RANDOM.choice(["a", "b"], ROWS)
    _, config, _ = init({"x": X, "city": city, "y": Y})
    assert config["estimator"]["name"] == "TabMClassifier"
    assert config["estimator"]["args"]["feature_columns"] == ["x", "city_vector"]
    assert config["estimator"]["args"]["optimizer"]["name"] == "Adam"
    assert config["columns"]["x"] == {"kind": "numeric", "normalize": "moments"}


def test_parquet_is_read_by_its_types(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tags = pa.array([["a"]] * ROWS)
    pq.write_table(pa.table({"x": X, "tags": tags, "y": Y.astype(bool)}), "t.parquet")
    assert cli.main(["init", "t.parquet", "--label", "y", "--out", "sub.yaml"]) == 0
    config = yaml.safe_load((tmp_path / "sub.yaml").read_text())
    assert config["data"]["format"] == "parquet"
    assert list(config["columns"]) == ["x"]
    assert "tags is left out: it has several values" in capsys.readouterr().out
    assert cli.main(["config", "check", "sub.yaml"]) == 0


@pytest.mark.parametrize(
    ("columns", "options", "told"),
    [
        ({"x": X, "late": Y}, {"label": "lates"}, "Did you mean 'late'?"),
        ({"x": X, "y": [1] * ROWS}, {}, "Label 'y' is '1' always"),
        ({"x": X, "y": [f"t{i}" for i in range(ROWS)]}, {}, "400 different texts"),
        ({"c": ["a"] * ROWS, "y": Y}, {}, "No field of the table can predict 'y': c: is 'a'"),
        ({"1": X, "2": Y}, {"label": "2"}, "expected a header with the names"),
        ({"x": X, "y": Y}, {"options": ["--encoding", "utf-99"]}, "is no text encoding"),
        ({"x": X, "y": Y}, {"name": "orders.doc"}, "Format of orders.doc is not known"),
    ],
)
def test_mistakes_say_what_to_do(init, columns, options, told):
    code, config, said = init(columns, **options)
    assert code == 2
    assert config is None
    assert said.startswith("error: ")
    assert told in said


def test_a_workbook_is_refused_with_advice(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "orders.csv").write_bytes(b"PK\x03\x04" + b"\0" * 30)
    assert cli.main(["init", "orders.csv", "--label", "y"]) == 2
    assert "save the sheet as CSV UTF-8" in capsys.readouterr().err


def test_a_file_that_was_edited_is_not_written_over(init, tmp_path):
    assert init({"x": X, "y": Y})[0] == 0
    assert init({"x": X, "y": Y})[0] == 0
    path = tmp_path / "orders.yaml"
    path.write_text(path.read_text() + "# mine\n")
    code, _, said = init({"x": X, "y": Y})
    assert code == 2
    assert "is there already" in said
    assert path.read_text().endswith("# mine\n")


def test_names_of_fields_cannot_write_the_configuration(init):
    _, config, _ = init({'"a\nname: evil"': ["k"] * ROWS, '"b: {}"': X, "y": Y})
    assert config["name"] == "orders"
    assert list(config["columns"]) == ["b: {}"]


def test_run_tells_a_table_from_a_configuration(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["run", "orders.csv"]) == 2
    assert "Add --label" in capsys.readouterr().err
    assert cli.main(["run", "orders.yaml", "--label", "y"]) == 2
    assert "Leave --label away" in capsys.readouterr().err
