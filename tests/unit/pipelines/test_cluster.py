import pathlib
import time

import kfp.client
import pytest

from estimator_lib.core.errors import ConfigError, PipelineError, Reason, SecurityError
from pipelines import cli, specification
from pipelines.cluster import client, testing

SPEC = specification.check(
    testing.pipeline(
        {"steps": ("NUMBER_INTEGER", 20), "rate": ("NUMBER_DOUBLE", 0.1), "data": ("STRING", None)},
        name="flights",
    ),
    "spec",
)
FLIGHTS = pathlib.Path("pipelines/examples/flights/config.yaml").resolve()
GIVEN = {"data": "/mnt/data"}
WORD = "s3cret"
NEXT = "n3xt"


@pytest.fixture
def server():
    with testing.FakeServer() as running:
        yield running


@pytest.fixture
def connection(server):
    return client.Connection(client.address(server.host, environment={}))


@pytest.fixture
def command(server, tmp_path, capsys, monkeypatch):
    """Runs a command against the server; returns its exit code, output and errors."""
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", server.host)
    monkeypatch.delenv("ESTIMATOR_PIPELINES_TOKEN", raising=False)
    monkeypatch.delenv("ESTIMATOR_PIPELINES_TOKEN_FILE", raising=False)
    (tmp_path / "spec.yaml").write_text(SPEC.text)
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        code = cli.main(arguments)
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


def test_submit_posts_the_pipeline_and_its_parameters(server, connection):
    submission = connection.submit(SPEC, {**GIVEN, "steps": 7.0}, service_account="robot")
    (body,) = server.posted("/runs")
    assert body["pipeline_spec"]["pipelineInfo"]["name"] == "flights"
    assert body["runtime_config"]["parameters"] == {"data": "/mnt/data", "steps": 7}
    assert body["service_account"] == "robot"
    assert submission.new
    assert submission.link == f"{server.host}/#/runs/details/{submission.run.id}"


def test_submit_says_nothing_on_standard_output(connection, capsys):
    connection.submit(SPEC, GIVEN)
    assert capsys.readouterr().out == ""


def test_experiment_is_made_once(server, connection):
    connection.submit(SPEC, GIVEN)
    connection.submit(SPEC, GIVEN)
    assert [e["display_name"] for e in server.posted("/experiments")] == ["flights"]
    first, second = server.posted("/runs")
    assert first["experiment_id"] == second["experiment_id"]


def test_runs_are_listed_newest_first_over_all_pages(connection, monkeypatch):
    monkeypatch.setattr(client, "_PAGE", 2)
    for index in range(5):
        connection.submit(SPEC, GIVEN, name=f"run {index}")
    assert [r.name for r in connection.runs(limit=3)] == ["run 4", "run 3", "run 2"]
    assert len(connection.runs()) == 5
    assert [r.name for r in connection.runs(name="run 1")] == ["run 1"]


def test_run_is_found_by_id_and_by_name(connection):
    run = connection.submit(SPEC, GIVEN, name="mine").run
    assert connection.run(run.id).name == "mine"
    assert connection.run("mine").id == run.id
    with pytest.raises(PipelineError, match="'other' does not exist") as caught:
        connection.run("other")
    assert caught.value.reason is Reason.UNKNOWN_NAME


def test_token_is_sent_and_never_shown(tmp_path):
    path = tmp_path / "token"
    path.write_text(f"{WORD}\n")
    with testing.FakeServer(token=WORD) as server:
        where = client.address(server.host, token_file=str(path), environment={})
        client.Connection(where).runs()
        assert {r.token for r in server.requests} == {WORD}
        assert WORD not in repr(where)
        named = {"ESTIMATOR_PIPELINES_TOKEN_FILE": str(path)}
        assert client.address(server.host, environment=named) == where
        plain = {"ESTIMATOR_PIPELINES_TOKEN": WORD}
        assert client.address(server.host, environment=plain).token == WORD


def test_token_that_is_replaced_is_read_again(tmp_path):
    path = tmp_path / "token"
    path.write_text(WORD)
    with testing.FakeServer(token=WORD) as server:
        connection = client.Connection(client.address(server.host, token_file=str(path)))
        server.token = NEXT
        path.write_text(f"{NEXT}\n")
        assert connection.runs() == []
        path.unlink()  # as while it is being replaced
        assert connection.runs() == []


def test_token_that_is_refused_later_is_told_with_its_file_and_what_may_be_wrong(tmp_path):
    path = tmp_path / "token"
    path.write_text(WORD)
    with testing.FakeServer(token=WORD) as server:
        connection = client.Connection(client.address(server.host, token_file=str(path)))
        server.token = NEXT
        with pytest.raises(PipelineError, match="may have expired") as caught:
            connection.runs()
    assert caught.value.reason is Reason.PERMISSION
    assert str(path) in caught.value.message
    assert "pipelines.kubeflow.org" in caught.value.message
    assert WORD not in caught.value.message


def test_server_of_many_users_asks_for_the_namespace():
    with testing.FakeServer(many_users=True) as server:
        with pytest.raises(PipelineError, match="give --namespace") as caught:
            client.Connection(client.address(server.host, environment={})).runs()
        assert (caught.value.reason, caught.value.exit_code) == (Reason.MISSING_VALUE, 2)
        where = client.address(server.host, namespace="team", environment={})
        assert client.Connection(where).runs() == []


def test_the_namespace_is_taken_from_the_configuration(tmp_path, monkeypatch, capsys):
    text = FLIGHTS.read_text() + "\nschedule: {cron: 0 0 3 * * *}\n"
    (tmp_path / "config.yaml").write_text(text)
    config = str(tmp_path / "config.yaml")
    monkeypatch.chdir(FLIGHTS.parent)
    with testing.FakeServer(many_users=True) as server:
        words = ["--host", server.host, "--set", "cluster.namespace=team"]
        assert cli.main(["submit", config, *words]) == 0, capsys.readouterr()
        assert cli.main(["schedule", "apply", config, *words]) == 0, capsys.readouterr()
        asked = {r.query["namespace"] for r in server.requests if "namespace" in r.query}
        assert asked == {"team"}
        assert cli.main(["schedule", "apply", config, *words[:2]]) == 2
        assert "cluster.namespace" in capsys.readouterr().err


def test_the_token_that_kubeflow_gives_its_pods_is_found_and_read_anew(tmp_path, monkeypatch):
    path = tmp_path / "token"
    path.write_text(WORD)
    monkeypatch.setattr(client, "IN_CLUSTER_TOKEN", str(path))
    assert client.address("https://k.example", environment={}).token == WORD
    other = tmp_path / "other"
    other.write_text(NEXT)
    variables = {client.IN_CLUSTER: str(other)}
    assert client.address("https://k.example", environment=variables).token == NEXT
    variables[client.TOKEN] = WORD
    assert client.address("https://k.example", environment=variables).token == WORD
    with testing.FakeServer(token=WORD) as server:
        connection = client.Connection(client.address(server.host, environment={}))
        path.write_text(NEXT)
        server.token = NEXT
        assert connection.runs() == []


def test_credentials_of_kfp_give_the_token(tmp_path):
    path = tmp_path / "token"
    path.write_text(WORD)
    credentials = kfp.client.ServiceAccountTokenVolumeCredentials(path=str(path))
    with testing.FakeServer(token=WORD) as server:
        where = client.address(server.host, credentials=credentials, environment={})
        connection = client.Connection(where)
        path.write_text(NEXT)
        server.token = NEXT
        assert connection.runs() == []
        server.token = WORD
        with pytest.raises(PipelineError, match="ServiceAccountTokenVolumeCredentials") as caught:
            connection.runs()
        assert NEXT not in caught.value.message
    with pytest.raises(SecurityError):
        client.address("http://k.example", credentials=credentials, environment={})


def test_a_cookie_of_dex_is_sent_and_never_shown(tmp_path):
    path = tmp_path / "cookie"
    path.write_text(f"authservice_session={WORD}\n")
    variables = {client.COOKIE_FILE: str(path)}
    with testing.FakeServer() as server:
        where = client.address(server.host, environment=variables)
        connection = client.Connection(where)
        connection.runs()
        assert {r.cookie for r in server.requests} == {f"authservice_session={WORD}"}
        assert WORD not in repr(where)
        server.fail("GET", "/runs", 401, f"no session authservice_session={WORD}")
        with pytest.raises(PipelineError, match="log in") as caught:
            connection.runs()
        assert WORD not in caught.value.message
    with pytest.raises(SecurityError, match="cookie"):
        client.address("http://k.example", environment=variables)
    path.write_text("a=1\nb=2")
    with pytest.raises(ConfigError, match="one line"):
        client.address("https://k.example", environment=variables)


def test_wrong_token_is_refused_once_with_what_to_do():
    with testing.FakeServer(token=WORD) as server:
        with pytest.raises(PipelineError, match="ESTIMATOR_PIPELINES_TOKEN_FILE") as caught:
            client.Connection(client.address(server.host, environment={}))
        assert (caught.value.reason, caught.value.exit_code) == (Reason.PERMISSION, 2)
        assert len(server.requests) == 1


def test_server_that_is_away_is_noticed_at_once_and_may_be_retried():
    with testing.FakeServer() as server:
        host = server.host
    began = time.monotonic()
    with pytest.raises(PipelineError, match="does not answer") as caught:
        client.Connection(client.address(host, environment={}))
    assert (caught.value.reason, caught.value.exit_code) == (Reason.UNREACHABLE, 75)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(("status", "code"), [(400, 2), (403, 2), (404, 2), (500, 75), (503, 75)])
def test_refusal_names_status_and_reason_and_sets_the_exit_code(server, connection, status, code):
    server.fail("POST", "/runs$", status, "the server's own words")
    with pytest.raises(PipelineError, match=f"{status} the server's own words") as caught:
        connection.submit(SPEC, GIVEN)
    assert caught.value.exit_code == code
    assert server.runs == {}


@pytest.mark.parametrize(
    ("host", "error", "said"),
    [
        (None, ConfigError, "KF_PIPELINES_ENDPOINT"),
        ("kubeflow.example", ConfigError, "https://"),
        ("ftp://kubeflow.example", ConfigError, "https://"),
        ("https://me:hunter2@kubeflow.example", SecurityError, "holds a password"),
    ],
)
def test_bad_host_is_refused_before_anything_is_sent(host, error, said):
    with pytest.raises(error, match=said) as caught:
        client.address(host, environment={})
    assert "hunter2" not in caught.value.message


def test_missing_token_file_is_named():
    path = "/nowhere/token"
    with pytest.raises(ConfigError, match=path):
        client.address("https://k.example", token_file=path, environment={})


@pytest.mark.parametrize("namespace", ["", "team"])
def test_login_page_is_not_taken_for_an_empty_cluster(namespace):
    class Login(testing.FakeServer):
        def answer(self, request):
            return 200, "<html>Please log in</html>"

    with Login() as server:
        where = client.address(server.host, namespace=namespace, environment={})
        with pytest.raises(PipelineError, match="maybe a login") as caught:
            client.Connection(where)
    assert (caught.value.reason, caught.value.exit_code) == (Reason.PERMISSION, 2)


def test_token_of_several_words_is_refused_and_not_repeated(tmp_path):
    path = tmp_path / "token"
    path.write_text("two words\nand lines")
    with pytest.raises(ConfigError, match="one word") as caught:
        client.address("https://k.example", token_file=str(path), environment={})
    assert "two words" not in caught.value.message


def test_missing_certificate_is_named():
    with pytest.raises(ConfigError, match="/nowhere"):
        client.address("https://k.example", certificate="/nowhere.pem", environment={})


def test_namespace_goes_along(server):
    where = client.address(server.host, namespace="team", environment={})
    connection = client.Connection(where)
    connection.submit(SPEC, GIVEN)
    connection.runs()
    assert [e["namespace"] for e in server.posted("/experiments")] == ["team"]
    assert [r.query.get("namespace") for r in server.requests if r.path.endswith("/runs")][-1]


def test_submit_command_starts_a_run(server, command):
    code, out, _ = command("submit", "spec.yaml", "--param", "data=20", "--param", "steps=3")
    assert code == 0
    assert f"{server.host}/#/runs/details/run-" in out
    (body,) = server.posted("/runs")
    assert body["runtime_config"]["parameters"] == {"data": "20", "steps": 3}
    assert "flights" in command("runs", "list")[1]


def test_submit_command_refuses_mistakes_before_it_connects(server, command):
    code, _, err = command("submit", "spec.yaml", "--param", "stepz=3")
    assert code == 2
    assert "Did you mean 'steps'?" in err
    assert "data: missing" in err
    assert command("submit", "spec.yaml", "--set", "train.epochs=3")[0] == 2
    assert server.requests == []


@pytest.mark.parametrize(
    ("arguments", "cached"),
    [
        ((), False),
        (("--param", "data_fingerprint=12ab"), True),
        (("--cache",), True),
        (("--param", "data_fingerprint=12ab", "--no-cache"), False),
    ],
)
def test_cache_is_used_only_where_the_data_is_identified(server, command, arguments, cached):
    text = testing.pipeline({"data_fingerprint": ("STRING", "")})
    pathlib.Path("spec.yaml").write_text(text)
    assert command("submit", "spec.yaml", *arguments)[0] == 0
    (body,) = server.posted("/runs")
    task = body["pipeline_spec"]["root"]["dag"]["tasks"]["step"]
    assert task["cachingOptions"].get("enableCache", False) is cached


def test_dry_run_sends_nothing(server, command):
    code, out, _ = command("submit", "spec.yaml", "--param", "data=x", "--dry-run")
    assert code == 0
    assert "nothing was sent" in out
    assert server.requests == []


def test_command_for_a_server_that_is_away_ends_with_75(server, command):
    code, _, err = command("runs", "list", "--host", "http://127.0.0.1:1")
    assert code == 75
    assert err.startswith("error: ")
    assert "Traceback" not in err
