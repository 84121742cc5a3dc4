"""A Kubeflow Pipelines server for tests: answers on 127.0.0.1 as KFP 2.17.0 does, runs nothing.

Tests of code that submits runs or applies schedules use it as ours do:

    with FakeServer() as server:
        connection = client.Connection(client.address(server.host))
        submission = connection.submit(specification, {})
        server.finish(submission.run.id, "FAILED", workflow=manifest)

What steps did is in the run's Argo Workflow, as on a real server; without one, only the run's own
state is known. A log that is not there is answered with status 200 and an error in JSON, as a
real server does.
"""

from __future__ import annotations

import dataclasses
import http.server
import itertools
import json
import re
import threading
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any, Self

import yaml

from estimator_lib.core.errors import ConfigError, Reason

_API = "/apis/v2beta1"
_EPOCH = "1970-01-01T00:00:00Z"
_GRPC_CODES = {400: 3, 401: 16, 403: 7, 404: 5, 409: 6, 500: 13, 501: 12, 503: 14}


def pipeline(
    parameters: Mapping[str, tuple[str, Any]] | None = None,
    *,
    name: str = "fake",
    container: Mapping[str, Any] | None = None,
) -> str:
    """Returns a compiled pipeline of one step, as text.

    Args:
        parameters: KFP's type and the default per name; a default of None makes it required.
        name: Of the pipeline.
        container: What its container has beside a pinned image.
    """
    declared = {
        key: {"parameterType": kind, **({} if default is None else {"defaultValue": default})}
        for key, (kind, default) in (parameters or {}).items()
    }
    document = {
        "pipelineInfo": {"name": name},
        "schemaVersion": "2.1.0",
        "sdkVersion": "kfp-2.17.0",
        "components": {"comp-step": {"executorLabel": "exec-step"}},
        "deploymentSpec": {
            "executors": {"exec-step": {"container": {"image": "step:1", **(container or {})}}}
        },
        "root": {
            "dag": {
                "tasks": {
                    "step": {
                        "taskInfo": {"name": "step"},
                        "componentRef": {"name": "comp-step"},
                        "cachingOptions": {"enableCache": True},
                    }
                }
            },
            "inputDefinitions": {"parameters": declared},
        },
    }
    return yaml.safe_dump(document)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """One request that the server received.

    Attributes:
        method: Such as POST.
        path: Without the query.
        query: The query's last value per name.
        body: The JSON that was sent, the text of an uploaded file, or None.
        token: The bearer token, or None.
        cookie: The cookie, or None.
    """

    method: str
    path: str
    query: Mapping[str, str]
    body: Any
    token: str | None
    cookie: str | None = None


class _RefusedError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class FakeServer:
    """A server in this process; use as a context manager.

    Time stands still until a test moves it: objects made later are one second younger.

    Args:
        token: The bearer token that it asks for; None lets everyone in.
        many_users: Whether lists are of one profile each, which must be named.

    Attributes:
        host: Its address.
        token: As given; a test may change it.
        requests: What it received, in order.
        runs: Its runs by id, as JSON of the v2beta1 API.
        workflows: The Argo Workflow of a run by its id, as JSON text.
        schedules: Its recurring runs by id, as JSON.
        pipelines: Its pipelines by id, as JSON.
        versions: The versions of pipelines by id, as JSON, with `package`, the file that was sent.
        logs: What pods have written, by their node in the Workflow.
    """

    def __init__(self, *, token: str | None = None, many_users: bool = False) -> None:
        self.requests: list[Request] = []
        self.runs: dict[str, dict[str, Any]] = {}
        self.workflows: dict[str, str] = {}
        self.schedules: dict[str, dict[str, Any]] = {}
        self.pipelines: dict[str, dict[str, Any]] = {}
        self.versions: dict[str, dict[str, Any]] = {}
        self.logs: dict[str, str] = {}
        self.token = token
        self._many_users = many_users
        self._experiments: dict[str, dict[str, Any]] = {}
        self._failures: list[tuple[str, str, int, str]] = []
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"fake": self})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        self.host = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def posted(self, path: str) -> list[Any]:
        """Returns the bodies that were posted to `path` below the API, such as "/runs"."""
        return [r.body for r in self.requests if r.method == "POST" and r.path == _API + path]

    def fail(self, method: str, pattern: str, status: int, message: str = "refused") -> None:
        """Has the next request of `method` whose path matches `pattern` fail, once."""
        self._failures.append((method, pattern, status, message))

    def finish(
        self, run_id: str, state: str, *, workflow: str = "", error: str = "", seconds: int = 60
    ) -> None:
        """Has a run come to a state, usually its last.

        Args:
            run_id: The run.
            state: Such as SUCCEEDED or FAILED.
            workflow: Its Argo Workflow then, as JSON text; else it stays as it is.
            error: What the server says went wrong.
            seconds: How long it took.
        """
        run = self.runs[run_id]
        run["state"] = state
        run["state_history"].append({"update_time": run["created_at"], "state": state})
        if state not in ("PENDING", "RUNNING", "CANCELING"):
            run["finished_at"] = _time(_second(run["created_at"]) + seconds)
        if workflow:
            self.workflows[run_id] = workflow
        if error:
            run["error"] = {"code": 13, "message": error}

    def trigger(self, schedule_id: str, due: str = "") -> str:
        """Starts a run of a schedule as the server's clock would; returns the run's id.

        Args:
            schedule_id: The schedule.
            due: When the run was to start, such as 2026-01-01T03:00:00Z.

        Raises:
            ConfigError: the schedule is paused.
        """
        schedule = self.schedules[schedule_id]
        if schedule["status"] != "ENABLED":
            raise ConfigError("The schedule is paused.", reason=Reason.CONFLICT)
        body = {
            "display_name": f"{schedule['display_name']} {next(self._ids)}",
            "recurring_run_id": schedule_id,
            "runtime_config": schedule.get("runtime_config", {}),
            "experiment_id": schedule.get("experiment_id"),
            **({"scheduled_at": due} if due else {}),
        }
        return str(self._create_run(body)["run_id"])

    def answer(self, request: Request) -> tuple[int, Any]:
        """Returns status and content of the answer to one request."""
        with self._lock:
            self.requests.append(request)
            if self.token is not None and request.token != self.token:
                return _refusal(401, "Request unauthenticated with error")
            for failure in self._failures:
                method, pattern, status, message = failure
                if request.method == method and re.search(pattern, request.path):
                    self._failures.remove(failure)
                    return _refusal(status, message)
            try:
                return 200, self._dispatch(request)
            except _RefusedError as error:
                return _refusal(error.status, str(error))

    def _dispatch(self, request: Request) -> Any:
        log = re.fullmatch(r"/apis/v1alpha1/runs/([^/]+)/nodes/([^/]+)/log", request.path)
        if log:
            return self.logs.get(log[2]) or json.dumps(_no_log(log[1], log[2]))
        one = re.fullmatch(r"/apis/v1beta1/runs/([^/]+)", request.path)
        if one and request.method == "GET":
            return self._run_v1(one[1])
        path = request.path.removeprefix(_API)
        routes: dict[tuple[str, str], Callable[..., Any]] = {
            ("GET", "/healthz"): lambda: {"multi_user": self._many_users, "tag_name": "2.17.0"},
            ("GET", "/experiments"): lambda: self._page(self._experiments, "experiments", request),
            ("POST", "/experiments"): lambda: self._create_experiment(request.body),
            ("GET", "/runs"): lambda: self._page(self.runs, "runs", request),
            ("POST", "/runs"): lambda: self._create_run(request.body),
            ("GET", "/recurringruns"): lambda: self._page(self.schedules, "recurringRuns", request),
            ("POST", "/recurringruns"): lambda: self._create_schedule(request.body),
            ("GET", "/pipelines"): lambda: self._page(self.pipelines, "pipelines", request),
            ("POST", "/pipelines"): lambda: self._create_pipeline(request.body),
            ("POST", "/pipelines/upload_version"): lambda: self._create_version(request),
        }
        if (request.method, path) in routes:
            return routes[request.method, path]()
        of = re.fullmatch(r"/pipelines/([^/:]+)/versions", path)
        if of and request.method == "GET":
            own = {k: v for k, v in self.versions.items() if v["pipeline_id"] == of[1]}
            return self._page(own, "pipeline_versions", request, divided=False)
        one = re.fullmatch(r"/(runs|recurringruns|experiments)/([^/:]+)(?::(\w+))?", path)
        if not one:
            raise _RefusedError(404, f"no such address {path}")
        return self._on_one(request.method, one[1], one[2], one[3])

    def _on_one(self, method: str, kind: str, key: str, verb: str | None) -> Any:
        kinds = {
            "runs": self.runs,
            "recurringruns": self.schedules,
            "experiments": self._experiments,
        }
        place = kinds[kind]
        if key not in place:
            raise _RefusedError(404, f"Failed to get one of {kind}: {key} not found")
        match method, kind, verb:
            case "GET", _, None:
                return place[key]
            case "DELETE", _, None:
                del place[key]
            case "POST", "recurringruns", "enable" | "disable":
                place[key]["status"] = f"{verb.upper()}D" if verb else ""
                place[key]["mode"] = str(verb).upper()
            case "POST", "runs", "terminate":
                self.finish(key, "CANCELING")
            case _:
                raise _RefusedError(404, f"{kind} has no {method} {verb}")
        return {}

    def _page(
        self,
        place: Mapping[str, dict[str, Any]],
        field: str,
        request: Request,
        *,
        divided: bool = True,
    ) -> dict[str, Any]:
        """One page of a list, filtered by equality and sorted by creation, as the server does.

        What is `divided` among users is listed for one of them.
        """
        if divided and self._many_users and not request.query.get("namespace"):
            text = "Invalid input error: A run cannot have an empty namespace in multi-user mode"
            raise _RefusedError(400, text)
        items = list(place.values())
        if request.query.get("sort_by") == "created_at desc":
            items.reverse()
        for predicate in json.loads(request.query.get("filter") or "{}").get("predicates", []):
            value = predicate.get("string_value", predicate.get("stringValue"))
            items = [item for item in items if item.get(predicate["key"]) == value]
        start = int(request.query.get("page_token") or 0)
        end = start + int(request.query.get("page_size") or 10)
        page: dict[str, Any] = {field: items[start:end], "total_size": len(items)}
        if end < len(items):
            page["next_page_token"] = str(end)
        return page

    def _run_v1(self, key: str) -> dict[str, Any]:
        """A run as the older API has it, which keeps its Workflow; only that is here."""
        if key not in self.runs:
            raise _RefusedError(404, f"Failed to get a v1beta1 run: Run {key} not found")
        runtime = {"workflow_manifest": self.workflows[key]} if key in self.workflows else {}
        run = {"id": key, "name": self.runs[key].get("display_name", "")}
        return {"run": run, "pipeline_runtime": runtime}

    def _create_experiment(self, body: dict[str, Any]) -> dict[str, Any]:
        key = f"experiment-{next(self._ids)}"
        self._experiments[key] = {**body, "experiment_id": key}
        return self._experiments[key]

    def _create_run(self, body: dict[str, Any]) -> dict[str, Any]:
        number = next(self._ids)
        key = f"run-{number}"
        self.runs[key] = {
            **body,
            "run_id": key,
            "state": "RUNNING",
            "state_history": [{"update_time": _time(number), "state": "RUNNING"}],
            "created_at": _time(number),
            "finished_at": _EPOCH,
        }
        return self.runs[key]

    def _create_pipeline(self, body: dict[str, Any]) -> dict[str, Any]:
        key = f"pipeline-{next(self._ids)}"
        self.pipelines[key] = {**body, "pipeline_id": key}
        return self.pipelines[key]

    def _create_version(self, request: Request) -> dict[str, Any]:
        name, pipeline = request.query["name"], request.query["pipelineid"]
        if any(
            (one["pipeline_id"], one["display_name"]) == (pipeline, name)
            for one in self.versions.values()
        ):
            raise _RefusedError(409, f"Already exist error: pipeline version {name}")
        key = f"version-{next(self._ids)}"
        self.versions[key] = {
            "pipeline_id": pipeline,
            "pipeline_version_id": key,
            "display_name": name,
            "description": request.query.get("description", ""),
            "package": request.body,
        }
        return self.versions[key]

    def _create_schedule(self, body: dict[str, Any]) -> dict[str, Any]:
        number = next(self._ids)
        key = f"schedule-{number}"
        status = "ENABLED" if body.get("mode") == "ENABLE" else "DISABLED"
        self.schedules[key] = {
            **body,
            "recurring_run_id": key,
            "status": status,
            "created_at": _time(number),
        }
        return self.schedules[key]


class _Handler(http.server.BaseHTTPRequestHandler):
    fake: FakeServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answers one request."""
        length = int(self.headers.get("Content-Length") or 0)
        content = self.rfile.read(length)
        parts = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qs(parts.query)
        kind, _, token = (self.headers.get("Authorization") or "").partition(" ")
        status, answer = self.fake.answer(
            Request(
                method=self.command,
                path=urllib.parse.unquote(parts.path),
                query={name: values[-1] for name, values in query.items()},
                body=_body(content, self.headers.get("Content-Type") or ""),
                token=token if kind == "Bearer" else None,
                cookie=self.headers.get("Cookie"),
            )
        )
        text = isinstance(answer, str)
        data = (answer if text else json.dumps(answer)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if text else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_POST = do_DELETE = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


def _body(content: bytes, kind: str) -> Any:
    """What was sent: JSON, or the text of the one file of a form."""
    if not kind.startswith("multipart/form-data"):
        return json.loads(content) if content else None
    boundary = b"--" + kind.partition("boundary=")[2].encode()
    part = content.split(boundary)[1]
    return part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n").decode()


def _refusal(status: int, message: str) -> tuple[int, dict[str, Any]]:
    return status, {"code": _GRPC_CODES.get(status, 2), "message": message, "details": []}


def _no_log(run_id: str, node: str) -> dict[str, str]:
    message = f'Failed to read logs for run {run_id}: pods "{node}" not found'
    return {"error_message": message, "error_details": f"{message}\nInternalServerError"}


def _time(second: int) -> str:
    return f"2026-01-01T{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}Z"


def _second(time: str) -> int:
    hours, minutes, seconds = time[11:19].split(":")
    return int(hours) * 3600 + int(minutes) * 60 + int(seconds)
