"""Pipelines on a server: a version for each change."""

import pytest

from estimator_lib.core.errors import PipelineError, Reason
from pipelines import cli, specification
from pipelines.cluster import client, testing, uploads

SPEC = specification.check(testing.pipeline({"data": ("STRING", "")}, name="flights"), "spec")
OTHER = specification.check(testing.pipeline({"more": ("STRING", "")}, name="flights"), "spec")


@pytest.fixture
def server():
    with testing.FakeServer() as running:
        yield running


@pytest.fixture
def connection(server):
    return client.Connection(client.address(server.host, environment={}))


def test_each_change_is_a_version_of_one_pipeline(server, connection):
    first = uploads.upload(connection, SPEC)
    second = uploads.upload(connection, OTHER)
    assert first.new
    assert second.new
    assert [p["display_name"] for p in server.pipelines.values()] == ["flights"]
    assert first.pipeline == second.pipeline
    names = {version["display_name"] for version in server.versions.values()}
    assert names == {first.name, second.name}
    assert server.versions[first.version]["package"] == SPEC.text
    assert first.link.startswith(f"{server.host}/#/pipelines/details/{first.pipeline}")


def test_the_same_again_uploads_nothing(server, connection):
    first = uploads.upload(connection, SPEC)
    again = uploads.upload(connection, SPEC)
    assert (again.new, again.version) == (False, first.version)
    assert len(server.versions) == 1


def test_the_profile_is_the_pipelines_too():
    with testing.FakeServer(many_users=True) as server:
        where = client.address(server.host, namespace="team", environment={})
        uploads.upload(client.Connection(where), SPEC)
        assert [p["namespace"] for p in server.pipelines.values()] == ["team"]
        with pytest.raises(PipelineError, match="namespace"):
            uploads.upload(client.Connection(client.address(server.host, environment={})), SPEC)


def test_two_pipelines_of_one_name_are_told(server, connection):
    for key in ("a", "b"):
        server.pipelines[key] = {"pipeline_id": key, "display_name": "flights"}
    with pytest.raises(PipelineError) as caught:
        uploads.upload(connection, SPEC)
    assert caught.value.reason is Reason.DUPLICATE


def test_a_server_that_refuses_is_told(server, connection):
    server.fail("POST", "upload_version", 403, "no right")
    with pytest.raises(PipelineError, match="no right"):
        uploads.upload(connection, SPEC)


def test_the_command_uploads_a_compiled_pipeline(server, tmp_path, capsys):
    (tmp_path / "spec.yaml").write_text(SPEC.text)
    words = ["upload", str(tmp_path / "spec.yaml"), "--host", server.host]
    assert cli.main(words) == 0
    assert "uploaded as version" in capsys.readouterr().out
    assert cli.main(words) == 0
    assert "nothing to do" in capsys.readouterr().out
