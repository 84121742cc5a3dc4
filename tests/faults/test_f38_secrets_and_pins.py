"""Fault 38: no secret, nothing unpinned and no chance gets into a specification.

Fails when `credentials` forgets a shape or a spelling of a name, when `specification` does not look
at a place, or when `client` sends a token where it can be read, or repeats it.
"""

import base64
import json
import pathlib
import subprocess
import sys

import pytest
import yaml

from estimator_lib.core import config as configuration
from estimator_lib.core.errors import ConfigError, EstimatorLibError, Reason, SecurityError
from pipelines import compiling, credentials, specification
from pipelines.cluster import arguments, client, testing

FLIGHTS = pathlib.Path("pipelines/examples/flights/config.yaml")
KEY = "AKIA" + "IOSFODNN7EXAMPLE"
WORD = "tok-12345"


def compiled(*settings):
    return compiling.compile_text(configuration.load(FLIGHTS, settings))


@pytest.mark.parametrize(
    ("setting", "place"),
    [
        (f"cluster.steps.train={{env: {{ANYTHING: {KEY}}}}}", "exec-train.env.ANYTHING"),
        ("cluster.steps.train={env: {DB_PASSWORD: x}}", "exec-train.env.DB_PASSWORD"),
        (f"estimator.args.dnn_optimizer={{name: {KEY}}}", "parameter train_config"),
        ("data.split.files.train=['s3://me:hunter2@bucket/x']", "parameter preprocess_config"),
    ],
)
def test_secret_is_refused_when_compiling_and_not_repeated(setting, place):
    with pytest.raises(SecurityError) as caught:
        compiled(setting)
    assert caught.value.reason is Reason.SECRET
    assert place in caught.value.message
    assert KEY not in caught.value.message
    assert "hunter2" not in caught.value.message


ACCOUNT_KEY = "Zm9v" * 21 + "YQ=="
SECRETS = [
    "postgres://app:s3cret@db/x", "POSTGRES://app:s3cret@db/x", "redis://:hunter22@cache:6379",
    "mongodb+srv://u:p%40ss@cluster.example/db", "https://" + "a1" * 12 + "@git.example/x",
    "Server=db;User Id=sa;Password=hunter2;", "host=db dbname=x password=hunter2",
    "jdbc:postgresql://db/x?user=app&password=hunter2",
    "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=" + ACCOUNT_KEY,
    "Endpoint=sb://x.servicebus.windows.net/;SharedAccessKey=" + ACCOUNT_KEY[:44],
    "https://a.blob.core.windows.net/c/b?sv=2024&sig=" + "a%2B1" * 10,
    "abc8Q~" + "x1" * 17, "AIza" + "b" * 35, "GOCSPX-" + "c" * 28, "ya29." + "d" * 30,
    "ASIA" + "ABCDEFGH12345678", "LTAI" + "e1" * 10, "dapi" + "0123456789abcdef" * 2,
    "Authorization: Basic " + base64.b64encode(b"user:hunter22").decode(),
    "Bearer " + "f1" * 20, "hvs." + "g" * 30, "npm_" + "h" * 36, "dckr_pat_" + "i" * 27,
    "https://hooks.slack.com/services/" + "T0/B0/abcdef", "export API_KEY=" + "j1" * 10,
    "--token " + KEY, '{"deep": [{"er": "' + KEY + '"}]}', "--api-key=" + "k2" * 10,
    "-----BEGIN PGP PRIVATE KEY" + " BLOCK-----", "-----BEGIN OPENSSH PRIVATE KEY" + "-----",
    base64.b64encode(b'{"private_key": "-----BEGIN PRIVATE KEY' + b'-----"}').decode(),
    "host=db user=x password='hunter2'", "mysql -u root --password=hunter2", "mysql -ux -phunter2",
    "curl -u user:hunter2 https://x", "db:\n  password: hunter2\n", '[db]\npassword = "hunter2"',
    "machine h login u password hunter2", "${DB_PASSWORD:-hunter2}",
    "{{ env.PASSWORD | default('hunter2') }}", "{{ 'AKIA' }}IOSFODNN7EXAMPLE",
    "postgres%3A%2F%2Fapp%3As3cret%40db%2Fx", "aB3dE5gH7jK9mN1pQ3sT" + "5vW7yZ9bC1eF3hJ5kL7n",
    "https://storage.googleapis.com/b/o?X-Goog-Signature=" + "a1" * 32,
    "SK" + "0123456789abcdef" * 2,
    "NRAK-" + "A1B" * 9, "ATATT3xFfGF0" + "aB1" * 20, "AGE-SECRET-KEY-1" + "Q" * 58,
    "123456789:AA" + "a1B2c" * 6 + "abc", "key-" + "0123456789abcdef" * 2,
    "shpat_" + "0123456789abcdef" * 2, "lin_api_" + "aB1" * 14, "glsa_" + "aB1" * 11,
    "dp.pt." + "aB1" * 14, "abcdefghij1234.atlasv1." + "aB1" * 22,
]  # fmt: skip
NAMES = [
    "PASSWORD", "DB_PASSWORD", "dbPassword", "MYSQL_ROOT_PASSWORD", "PGPASSWORD_1", "apiKey",
    "OPENAI_API_KEY", "client-secret", "awsSecretAccessKey", "AWS_SESSION_TOKEN", "SLACK_TOKEN2",
    "DATABASE_CONNECTION_STRING", "connectionString", "AZURE_STORAGE_SAS", "HTTP_AUTHORIZATION",
    "service.credentials", "SSH_PASSPHRASE", "encryption_key", "DB_PASS", "dbpass", "pgpass",
    "PRIVATE_KEY_PEM", "GITHUB_PAT", "bearer", "CREDS", "subscription_key", "kubeconfig", "id_rsa",
    "GOOGLE_APPLICATION_CREDENTIALS_JSON",
]  # fmt: skip
HARMLESS = [
    ("MODEL", "gs://bucket/models/1"), ("OOV", "[UNK]"), ("URL", "https://host:8080/a@b"),
    ("tokens", "4096"), ("max_tokens", "4096000000"), ("PYTHONPATH", "/a/b:/c/d"),
    ("DIGEST", "sha256:" + "0123456789abcdef" * 4), ("monkey", "bananas and more"),
    ("secretName", "name-of-a-secret"), ("author", "somebody else"), ("SEED", "12345678901234567"),
    ("bandpass", "0.5"), ("low_pass", "0.25"), ("partition_key", "day of year"),
    ("primary_key", "flight_id"), ("cmd", "docker run -u 1000:1000 x"), ("hash", "a1" * 20),
    ("note", "the password is asked for by hand"),
    ("path", "/mnt/Data/2024/Models/WideAndDeep/version/12"),
    ("QUERY", "SELECT * FROM t WHERE password IS NULL"), ("BASIC", "basic understanding of it"),
]  # fmt: skip


@pytest.mark.parametrize("secret", SECRETS)
def test_secret_is_found_wherever_it_is_and_under_any_name(secret):
    places = {
        "as it is": secret,
        "in a text": f"run --with '{secret}' now",
        "in a list": ["a", secret],
        "in a structure": {"a": {"b": secret}},
        "in JSON": json.dumps({"a": [secret]}),
        "after a template": "{{$.inputs.parameters['x']}} " + secret,
    }
    for place, value in places.items():
        assert list(credentials.find(value, "ANYTHING")), place


@pytest.mark.parametrize("name", NAMES)
def test_value_under_the_name_of_a_secret_is_one_however_it_is_spelled(name):
    for value in ("hunter2", "{{$.inputs.parameters['x']}}", "{{hidden}}hunter2"):
        assert list(credentials.find(value, name)), value


@pytest.mark.parametrize(("name", "value"), HARMLESS)
def test_what_is_no_secret_is_let_through(name, value):
    assert list(credentials.find(value, f"exec-train.env.{name}")) == []


@pytest.mark.parametrize(
    "value",
    [
        {"env": [{"name": "DB_PASSWORD", "value": "x"}]},
        {"x": json.dumps({"y": json.dumps({"password": "hunter2"})})},
        json.dumps([{"name": "API_TOKEN", "value": "{{x}}"}]),
        {"password": "hunt3r"},
    ],
)
def test_secret_is_found_beside_its_name_in_a_structure(value):
    assert list(credentials.find(value, "parameter x"))


@pytest.mark.parametrize(
    "change",
    [
        lambda first, second: first["root"]["inputDefinitions"]["parameters"].update(
            x={"parameterType": "STRING", "defaultValue": KEY}
        ),
        lambda first, second: container(first)["env"].append({"name": "A", "value": KEY}),
        lambda first, second: container(first)["env"].append(
            {"name": "DB_PASSWORD", "value": "{{$.inputs.parameters['config']}}"}
        ),
        lambda first, second: container(first)["args"].append(f"--key={KEY}"),
        lambda first, second: container(first)["command"].append(KEY),
        lambda first, second: second["platforms"]["kubernetes"]["deploymentSpec"]["executors"][
            "exec-train"
        ].update(podMetadata={"annotations": {"note": KEY}}),
    ],
    ids=["default", "env", "env by parameter", "args", "command", "annotation"],
)
def test_secret_anywhere_in_a_specification_is_refused_and_not_repeated(change):
    first, second = yaml.safe_load_all(compiled())
    container(first).setdefault("env", [])
    change(first, second)
    with pytest.raises(SecurityError) as caught:
        specification.check(yaml.safe_dump_all([first, second]), "spec")
    assert caught.value.reason is Reason.SECRET
    assert KEY not in caught.value.message


def container(pipeline):
    return pipeline["deploymentSpec"]["executors"]["exec-train"]["container"]


def test_refused_specification_is_not_written(tmp_path):
    from pipelines import cli

    spec = tmp_path / "spec.yaml"
    setting = f"cluster.steps.train={{env: {{K: {KEY}}}}}"
    assert cli.main(["compile", str(FLIGHTS), "-o", str(spec), "--set", setting]) == 2
    assert not spec.exists()


def test_secret_in_a_parameter_is_refused_before_it_is_sent_and_not_repeated():
    spec = specification.check(testing.pipeline({"data": ("STRING", "")}), "spec")
    with pytest.raises(ConfigError) as caught:
        arguments.check(spec, {"data": f"key={KEY}"})
    assert caught.value.reason is Reason.SECRET
    assert KEY not in caught.value.message


def test_token_of_the_server_is_in_no_request_body_and_no_error():
    spec = specification.check(testing.pipeline({"data": ("STRING", "")}), "spec")
    with testing.FakeServer(token=WORD) as server:
        variables = {"ESTIMATOR_PIPELINES_TOKEN": WORD}
        connection = client.Connection(client.address(server.host, environment=variables))
        connection.submit(spec, {})
        assert WORD not in str([r.body for r in server.requests])
        server.fail("POST", "/runs$", 403, "forbidden")
        with pytest.raises(Exception, match="forbidden") as caught:
            connection.submit(spec, {})
        assert WORD not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "sent"),
    [
        ("https://kubeflow.example", True), ("http://localhost:8080", True),
        ("http://127.0.0.1", True), ("http://[::1]:80", True), ("http://x.localhost", True),
        ("http://kubeflow.example", False), ("http://10.0.0.1", False),
        ("http://localhost.example", False), ("http://127.0.0.1.example", False),
        ("HTTP://kubeflow.example", False), ("http://0.0.0.0", False),
    ],
)  # fmt: skip
def test_token_goes_over_plain_http_to_this_machine_only_unless_asked(host, sent):
    variables = {client.TOKEN: WORD}
    if not sent:
        with pytest.raises(SecurityError, match=client.PLAIN_HTTP) as caught:
            client.address(host, environment=variables)
        assert WORD not in caught.value.message
        assert client.address(host, environment={}).token is None
        variables[client.PLAIN_HTTP] = "1"
    assert client.address(host, environment=variables).token == WORD


def test_token_that_a_server_answers_with_is_not_repeated():
    spec = specification.check(testing.pipeline({"data": ("STRING", "")}), "spec")
    with testing.FakeServer(token=WORD) as server:
        connection = client.Connection(
            client.address(server.host, environment={client.TOKEN: WORD})
        )
        encoded = base64.b64encode(WORD.encode()).decode()
        for status in (400, 403, 404, 500):
            for written in (WORD, encoded, "".join(f"\\u{ord(c):04x}" for c in WORD)):
                said = f'{{"message": "bad header: Bearer {written}"}}'
                server.fail("POST", "/runs$", status, said)
                with pytest.raises(EstimatorLibError, match="bad header") as caught:
                    connection.submit(spec, {})
                assert WORD not in str(caught.value)
                assert encoded not in str(caught.value)


@pytest.mark.parametrize("image", ["python", "python:latest", "registry.example:5000/python"])
def test_unpinned_image_is_refused(image):
    with pytest.raises(ConfigError, match="image"):
        compiled(f"cluster.image={image}")


def test_two_compiles_are_identical_whatever_the_hash_seed(tmp_path):
    texts = set()
    for seed in ("1", "2"):
        path = tmp_path / f"{seed}.yaml"
        command = [sys.executable, "-m", "pipelines.cli", "compile", str(FLIGHTS), "-o", str(path)]
        environment = {"PYTHONHASHSEED": seed, "PATH": "/usr/bin:/bin"}
        subprocess.run(command, check=True, capture_output=True, env=environment)
        texts.add(path.read_bytes())
    assert len(texts) == 1


def test_publishing_needs_the_one_word_and_nothing_else_opens_the_gate():
    first, _ = yaml.safe_load_all(compiled())
    parts = {"root": first["root"], **first["components"]}
    dags = {name: part["dag"]["tasks"] for name, part in parts.items() if "dag" in part}
    gates = {
        task["componentRef"]["name"]: task["triggerPolicy"]["condition"].split(" == ")[1]
        for tasks in dags.values()
        for task in tasks.values()
        if "condition" in task.get("triggerPolicy", {})
    }
    publishing = [name for name, tasks in dags.items() if "export" in tasks]
    assert gates == dict.fromkeys(publishing, "'blessed'")
    assert len(publishing) == 1
