import json
import re

import pytest
import yaml

from estimator_lib.core import config as configuration
from pipelines import cache, compiling, katib, kubernetes_yaml, specification

FLIGHTS = "pipelines/examples/flights"
TEXTS = (
    "1e3", "1E+3", "-1e-06", ".5", "5.", "1.5", "+12e03", "0x1f", "-0X1F", "0o17", "017", "0b11",
    "1_000", "1__0", "_1", "1_e3", "y", "Y", "n", "N", "yes", "on", "null", "Null", "~", "true",
    "TRUE", ".inf", "-.INF", ".NaN", "1:30", "2026-11-27", "2026-1-2", "2026-1-2 3:4:5",
    "2026-11-27T01:00:00Z", "0.1.0", "500m", "1Gi", "", "-", "=", "<<", "{a: b}", "# no", "a: b",
)  # fmt: skip


class Core(yaml.SafeLoader):
    """Reads plain texts by the core schema of YAML 1.2."""


class Go(yaml.SafeLoader):
    """Reads plain texts as Go's YAML does, which has numbers of both versions, dates and `y`."""


FLOAT = r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
for reader, expressions in (
    (Core, {
        "null": r"null|Null|NULL|~|", "bool": r"true|True|TRUE|false|False|FALSE",
        "int": r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "float": FLOAT,
    }),
    (Go, {
        "null": r"null|Null|NULL|~|", "bool": r"(?i:y|n|yes|no|on|off|true|false)",
        "int": r"[-+]?(0[bB][01_]+|0[oO]?[0-7_]+|0[xX][0-9a-fA-F_]+|[0-9][0-9_]*)",
        "float": r"(?!_)[-+]?[0-9_]*\.?[0-9_]+([eE][-+]?[0-9_]+)?|[-+]?[0-9][0-9_]*\.|" + FLOAT,
        "timestamp": r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt ].*)?",
    }),
):  # fmt: skip
    reader.yaml_implicit_resolvers = {}
    for kind, expression in expressions.items():
        pattern = re.compile(rf"(?:{expression})$")
        reader.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", pattern, None)
    # What is no text need not be understood, only seen.
    for kind in ("int", "float", "timestamp"):
        reader.add_constructor(f"tag:yaml.org,2002:{kind}", lambda _, node: (node.tag, node.value))

READERS = [Core, Go, yaml.SafeLoader]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_a_text_to_every_reader(reader, text):
    found = {"value": text, text: "key", "list": [text]}
    (read,) = yaml.load_all(kubernetes_yaml.dump([found]), reader)
    assert read == found


def test_what_is_no_text_stays_so():
    found = {"a": 1, "b": 1.5, "c": True, "d": None, "e": [], "f": {}}
    assert yaml.safe_load(kubernetes_yaml.dump([found])) == found
    assert "'" not in kubernetes_yaml.dump([found])


@pytest.mark.parametrize("reader", READERS)
def test_parameters_of_such_texts_reach_a_cluster_as_they_are(reader):
    variables = {f"V{number}": text for number, text in enumerate(TEXTS)}
    setting = f"cluster.steps.train.env={json.dumps(variables)}"
    config = configuration.load(f"{FLIGHTS}/config.yaml", [setting])
    compiled = compiling.compile_text(config)
    spec = specification.check(compiled, "flights")
    for text in (compiled, cache.choose(spec, {}, on=True)):
        pipeline, _ = yaml.load_all(text, reader)
        given = pipeline["deploymentSpec"]["executors"]["exec-train"]["container"]["env"]
        read = {one["name"]: one.get("value", "") for one in given}
        assert {name: read[name] for name in variables} == variables


@pytest.mark.parametrize("reader", READERS)
def test_choices_of_such_texts_reach_katib_as_they_are(reader):
    choices = [text for text in TEXTS if text]
    base = configuration.load(f"{FLIGHTS}/config.yaml", [f"tune=@{FLIGHTS}/tune.yaml"])
    tune = configuration.Tune.model_validate({"space": {"estimator.args.a": {"choice": choices}}})
    config = base.model_copy(update={"tune": tune})
    (experiment,) = yaml.load_all(katib.manifest(config), reader)
    (parameter,) = experiment["spec"]["parameters"]
    listed = parameter["feasibleSpace"]["list"]
    assert len(listed) == len(choices)
    assert all(isinstance(text, str) for text in listed)
