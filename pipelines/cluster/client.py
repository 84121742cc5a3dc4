"""Talks to a Kubeflow Pipelines server: submits runs and reads them back.

A thin layer over `kfp.Client`, which knows how to authenticate. What it adds: nothing is posted
before it is checked, every failure is one clear error, and a server that is away is noticed in
seconds. A token is read from an environment variable or a file, never from the command line.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import datetime
import hashlib
import io
import ipaddress
import json
import os
import pathlib
import tempfile
import urllib.parse
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

import urllib3

from components.steps import workflow
from components.steps.workflow import Step, Workflow
from estimator_lib.core import storage
from estimator_lib.core.errors import ConfigError, PipelineError, Reason, SecurityError
from pipelines import cache
from pipelines.cluster import arguments
from pipelines.specification import Specification

HOST = "KF_PIPELINES_ENDPOINT"
TOKEN = "ESTIMATOR_PIPELINES_TOKEN"  # noqa: S105 - the variable's name
TOKEN_FILE = "ESTIMATOR_PIPELINES_TOKEN_FILE"  # noqa: S105 - the variable's name
COOKIE_FILE = "ESTIMATOR_PIPELINES_COOKIE_FILE"
IN_CLUSTER = "KF_PIPELINES_SA_TOKEN_PATH"
IN_CLUSTER_TOKEN = "/var/run/secrets/kubeflow/pipelines/token"  # noqa: S105 - a path
"""Where Kubeflow gives its pods a token of their service account, unless the variable says."""
PLAIN_HTTP = "ESTIMATOR_PIPELINES_TOKEN_OVER_HTTP"
_CONNECT_TIMEOUT_S = 10.0
_READ_TIMEOUT_S = 60.0
_PAGE = 100
_RETRYABLE = frozenset((408, 425, 429, 500, 502, 503, 504))


class Credentials(Protocol):
    """What KFP calls TokenCredentialsBase."""

    def refresh_api_key_hook(self, config: Any) -> None:
        """Puts the token into the client's configuration."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Address:
    """Where a server is and how to be let in.

    Attributes:
        host: Its address, such as https://kubeflow.example/pipeline.
        namespace: The profile that runs belong to, for servers of many users; else "".
        token: Sent as bearer token; never shown.
        token_file: Where the token is read from, again for each request, for a cluster replaces it
            before it expires; None where it comes from a variable, or there is none.
        certificate: File with the certificates to trust; None for the system's.
        cookie: Sent with each request, as a login of Dex gives it; never shown.
        credentials: An object of KFP's, such as `kfp.client.ServiceAccountTokenVolumeCredentials`,
            that is asked for the token before each request.
    """

    host: str
    namespace: str = ""
    token: str | None = dataclasses.field(default=None, repr=False)
    token_file: str | None = None
    certificate: str | None = None
    cookie: str | None = dataclasses.field(default=None, repr=False)
    credentials: Credentials | None = dataclasses.field(default=None, repr=False)


def address(
    host: str | None = None,
    *,
    namespace: str = "",
    token_file: str | None = None,
    certificate: str | None = None,
    credentials: Credentials | None = None,
    environment: Mapping[str, str] | None = None,
) -> Address:
    """Returns the server's address from what is given, else from the environment.

    Args:
        host: Else the variable KF_PIPELINES_ENDPOINT.
        namespace: The profile, for servers of many users.
        token_file: File with the token; else the variable ESTIMATOR_PIPELINES_TOKEN_FILE names
            one, else ESTIMATOR_PIPELINES_TOKEN holds the token, else it is the one that Kubeflow
            gives its pods (KF_PIPELINES_SA_TOKEN_PATH). Without any, none is sent. A cookie is in
            the file that ESTIMATOR_PIPELINES_COOKIE_FILE names.
        certificate: File with the certificates to trust.
        credentials: An object of KFP's that gives the token, instead of a file or a variable.
        environment: The variables; by default those of the process.

    Raises:
        ConfigError: there is no host, or it is malformed; the token file cannot be read.
        SecurityError: the host holds a password, or a token would go over plain http to another
            machine and nobody asked for it.
    """
    variables = os.environ if environment is None else environment
    host = host or variables.get(HOST, "")
    if not host:
        raise ConfigError(
            f"The Kubeflow Pipelines server is not given. Use --host, or set {HOST}.",
            reason=Reason.MISSING_VALUE,
        )
    parts = urllib.parse.urlsplit(host)
    if parts.password or parts.username:
        raise SecurityError(
            f"The host holds a password. Leave it out and set {TOKEN_FILE}.",
            reason=Reason.SECRET,
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            f"Host {host!r} is invalid: expected http://... or https://...",
        )
    path, token = None, ""
    if credentials is None:
        path = _token_path(token_file, variables)
        token = _read_token(path) if path else _checked_token(variables.get(TOKEN, ""))
    cookie = _read_cookie(variables.get(COOKIE_FILE))
    secret = "cookie" if cookie else "token" if token or credentials is not None else ""
    elsewhere = parts.scheme == "http" and not _is_this_machine(parts.hostname)
    if secret and elsewhere and variables.get(PLAIN_HTTP) != "1":
        raise SecurityError(
            f"The {secret} is not sent to {host}: anybody on the way could read it. Use https, or "
            f"set {PLAIN_HTTP}=1 where the network is trusted.",
            reason=Reason.SECRET,
        )
    if certificate is not None and not os.path.isfile(certificate):
        raise ConfigError(
            f"Certificate file {certificate} does not exist.", reason=Reason.FILE_NOT_FOUND
        )
    return Address(
        host=host.rstrip("/"),
        namespace=namespace,
        token=token or None,
        token_file=path,
        certificate=certificate,
        cookie=cookie or None,
        credentials=credentials,
    )


def _token_path(given: str | None, variables: Mapping[str, str]) -> str | None:
    """The file with the token, if it is in one."""
    path = given or variables.get(TOKEN_FILE)
    if path or variables.get(TOKEN):
        return path or None
    mounted = variables.get(IN_CLUSTER) or IN_CLUSTER_TOKEN
    return mounted if os.path.isfile(mounted) else None


def _is_this_machine(hostname: str) -> bool:
    try:
        return ipaddress.ip_address(hostname).is_loopback
    except ValueError:
        return hostname == "localhost" or hostname.endswith(".localhost")


def _checked_token(text: str, origin: str = "") -> str:
    token = text.strip()
    if token and not (token.isascii() and token.isprintable() and " " not in token):
        raise ConfigError(
            f"The token {origin}is invalid: expected one word of plain characters.",
        )
    return token


def _read_token(path: str) -> str:
    return _checked_token(_read_secret(path, "Token"), f"in {path} ")


def _read_cookie(path: str | None) -> str:
    cookie = _read_secret(path, "Cookie") if path else ""
    if not cookie.isprintable():
        raise ConfigError(f"Cookie file {path} is invalid: expected one line of plain characters.")
    return cookie


def _read_secret(path: str, what: str) -> str:
    """What a file holds; `what` it is of goes into messages, never the content."""
    try:
        return pathlib.Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not plain text"
        raise ConfigError(
            f"{what} file {path} cannot be read: {reason}.", reason=Reason.FILE_NOT_FOUND
        ) from error


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """One run.

    Attributes:
        id: The server's.
        name: What people call it.
        state: Such as PENDING, RUNNING, SUCCEEDED, FAILED, or CANCELED if it was terminated.
        schedule: Id of the schedule that started it, or "".
        due: When that schedule had it to start; None for other runs.
        parameters: As they were sent.
        error: What the server says went wrong, or "".
    """

    id: str
    name: str
    state: str
    created: datetime.datetime | None = None
    finished: datetime.datetime | None = None
    schedule: str = ""
    due: datetime.datetime | None = None
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    error: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Submission:
    """What `submit` did.

    Attributes:
        run: The run.
        new: False if it was there already.
        link: Its page.
    """

    run: Run
    new: bool
    link: str


class Connection:
    """A server that answered.

    Args:
        where: The server.

    Raises:
        PipelineError: it does not answer (`retryable`), or does not let us in.
    """

    def __init__(self, where: Address) -> None:
        self.where = where
        self._many_users = False
        with self.errors(f"connect to {where.host}"):
            self.client = _client(where)
        self._many_users = bool(self.client.health.multi_user)

    @contextlib.contextmanager
    def errors(self, action: str) -> Iterator[None]:
        """Turns whatever the client raises inside the block into one error that names `action`."""
        import kfp_server_api

        try:
            # The client writes links to standard output, which belongs to our own commands.
            with contextlib.redirect_stdout(io.StringIO()):
                yield
        except kfp_server_api.ApiException as error:
            raise self._explain(error.status, error.reason, error.body, action) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise _retryable(
                f"Cannot {action}: {self.where.host} does not answer ({_cause(error)}). Check the "
                "address, or try again later.",
                Reason.UNREACHABLE,
            ) from error

    def submit(
        self,
        specification: Specification,
        parameters: Mapping[str, Any],
        *,
        name: str | None = None,
        once: str | None = None,
        experiment: str | None = None,
        service_account: str | None = None,
        pipeline_root: str | None = None,
        caching: bool | None = None,
    ) -> Submission:
        """Starts a run.

        Args:
            specification: The compiled pipeline.
            parameters: What differs from its defaults.
            name: Of the run; by default the pipeline's name and the time.
            once: A key, such as the data's interval. The run's name then follows from the
                pipeline, the key and the parameters; where a run of that name waits, runs or
                has succeeded, nothing is started.
            experiment: The group of runs it goes to; by default the pipeline's name.
            service_account: That runs the pods; by default the installation's.
            pipeline_root: Where artifacts go; by default the installation's bucket.
            caching: Whether steps may be taken from the cluster's cache; None leaves it to the
                pipeline. See `pipelines.cache` for the steps that run always.

        Raises:
            ConfigError: the parameters are wrong; nothing was sent.
            PipelineError: the server did not answer (`retryable`) or refused.
        """
        checked = arguments.check(specification, parameters)
        if once is not None:
            name = f"{specification.name}-{once}-{fingerprint(specification, checked)[:8]}"
            for found in self.runs(name=name):
                if found.state not in ("FAILED", "CANCELED", "CANCELING", "SKIPPED"):
                    return Submission(run=found, new=False, link=self.link(found.id))
        elif name is None:
            now = datetime.datetime.now(datetime.UTC)
            name = f"{specification.name} {now:%Y-%m-%d %H:%M:%S}"
        group = self.experiment(experiment or specification.name)
        with self.errors("submit the run"), package(specification, checked, caching) as path:
            answer = self.client.run_pipeline(
                experiment_id=group,
                job_name=name,
                pipeline_package_path=path,
                params=checked,
                pipeline_root=pipeline_root,
                service_account=service_account,
            )
        run = _run(answer)
        return Submission(run=run, new=True, link=self.link(run.id))

    def experiment(self, name: str) -> str:
        """Returns the id of the experiment of that name; it is made if there is none."""
        with self.errors(f"find or make experiment {name}"):
            answer = self.client.create_experiment(name, namespace=self.where.namespace or None)
            return str(answer.experiment_id)

    def link(self, run_id: str) -> str:
        """Returns the address of a run's page."""
        return f"{self.where.host}/#/runs/details/{run_id}"

    def runs(self, *, limit: int | None = None, name: str | None = None) -> list[Run]:
        """Returns runs, newest first.

        Args:
            limit: At most how many; None for all.
            name: Only runs of exactly this name.
        """
        with self.errors("list runs"):
            found = pages(
                self.client.list_runs,
                "runs",
                limit=limit,
                sort_by="created_at desc",
                namespace=self.where.namespace or None,
                filter=by_name(name),
            )
        return [_run(item) for item in found]

    def run(self, run: str) -> Run:
        """Returns one run by its id, or by its name: then the newest.

        Raises:
            PipelineError: there is no such run.
        """
        import kfp_server_api

        with self.errors(f"read run {run}"):
            try:
                return _run(self.client.get_run(run))
            except kfp_server_api.ApiException as error:
                # Servers answer 400 for what is no id at all.
                if error.status not in (400, 404):
                    raise
        named = self.runs(limit=1, name=run)
        if not named:
            raise PipelineError(
                f"Run {run!r} does not exist on {self.where.host}. List them with `runs list`.",
                reason=Reason.UNKNOWN_NAME,
            )
        with self.errors(f"read run {run}"):
            return _run(self.client.get_run(named[0].id))

    def workflow(self, run_id: str) -> Workflow:
        """Returns what a run's steps did.

        It comes from the v1beta1 API: what v2beta1 says of tasks cannot be told from it.

        Raises:
            PipelineError: the server keeps no Workflow, or none that can be read.
        """
        action = f"read the steps of run {run_id}"
        text = self._get(f"/apis/v1beta1/runs/{_quote_path(run_id)}", action)
        try:
            manifest = json.loads(text)["pipeline_runtime"]["workflow_manifest"]
            return workflow.read(manifest)
        except (ValueError, KeyError, TypeError) as error:
            raise PipelineError(
                f"Cannot {action}: {self.where.host} keeps no Workflow of it.",
                reason=Reason.UNSUPPORTED,
            ) from error

    def log(self, run_id: str, step: Step) -> str:
        """Returns what the last attempt of a step has written.

        Raises:
            PipelineError: the server does not have it.
        """
        action = f"read the log of step {step.name}"
        node = step.attempts[-1].node
        # The one address outside v1beta1 and v2beta1, which have none for logs.
        path = f"/apis/v1alpha1/runs/{_quote_path(run_id)}/nodes/{_quote_path(node)}/log"
        text = self._get(path, action)
        problem = workflow.log_error(text)
        if problem:
            raise PipelineError(
                f"Cannot {action}: {self.where.host} says: {_short(problem)}.",
                reason=Reason.FILE_NOT_FOUND,
            )
        return text

    def _get(self, path: str, action: str) -> str:
        """What the server answers at an address that the generated client has no method for."""
        with self.errors(action):
            # It sends the token and reports errors as for any other.
            answer = self.client.runs.api_client.call_api(
                path,
                "GET",
                header_params={"Accept": "*/*"},
                auth_settings=["Bearer"],
                response_type=None,
                _preload_content=False,
                _return_http_data_only=True,
            )
            content: bytes = answer.read()
            if answer.status != 200:
                raise self._explain(answer.status, answer.reason, content, action)
            return content.decode("utf-8", "replace")

    def _api_keys(self) -> Mapping[str, str]:
        client = getattr(self, "client", None)
        return client.runs.api_client.configuration.api_key if client is not None else {}

    def _explain(self, status: int, reason: str, body: object, action: str) -> PipelineError:
        # A proxy may answer with what it was sent; a token's file may hold another one by now.
        sent = {self.where.token, self.where.cookie, *self._api_keys().values()}
        tokens = [token for token in sent if token]
        said = _message(body, tokens) or _message(reason, tokens)
        host = self.where.host
        if status in (401, 403):
            return PipelineError(
                f"Cannot {action}: {host} refused access ({status} {said}). {self._token_advice()}",
                reason=Reason.PERMISSION,
            )
        if status == 404:
            return PipelineError(
                f"Cannot {action}: {host} does not know it (404 {said}).",
                reason=Reason.UNKNOWN_NAME,
            )
        text = f"Cannot {action}: {host} answered {status} {said}."
        if status in _RETRYABLE:
            return _retryable(f"{text} Try again later.", Reason.UNREACHABLE)
        if status == 400 and self._many_users and not self.where.namespace:
            text += (
                " It has many users: give --namespace, or cluster.namespace in the configuration."
            )
            return PipelineError(text, reason=Reason.MISSING_VALUE)
        return PipelineError(text, reason=Reason.INVALID_VALUE)

    def _token_advice(self) -> str:
        """What to do about a token that was refused, or not sent."""
        if self.where.cookie:
            return f"The cookie of {COOKIE_FILE} may have expired: log in and write it anew."
        if self.where.credentials is not None:
            return f"The token of {type(self.where.credentials).__name__} is not taken."
        if not self.where.token:
            return f"No token was sent; set {TOKEN_FILE} or {TOKEN}."
        source = f"in {self.where.token_file}" if self.where.token_file else f"of {TOKEN}"
        return (
            f"The token {source} may have expired, be of another audience (Kubeflow's is "
            "pipelines.kubeflow.org), or of an account without this right."
        )


def fingerprint(specification: Specification, parameters: Mapping[str, Any], *more: object) -> str:
    """Returns the digest of a pipeline and its parameters (and more), in hexadecimal."""
    content = [specification.text, dict(parameters), *more]
    return hashlib.sha256(storage.canonical_json(content).encode()).hexdigest()


@contextlib.contextmanager
def package(
    specification: Specification, parameters: Mapping[str, Any], caching: bool | None
) -> Iterator[str]:
    """Gives what is sent as a file, which is the form the client takes.

    Args:
        specification: The compiled pipeline.
        parameters: The run's.
        caching: As of `Connection.submit`.
    """
    text = specification.text
    if caching is not None:
        text = cache.choose(specification, parameters, on=caching)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "pipeline.yaml")
        storage.write_text(path, text)
        yield path


def by_name(name: str | None) -> str | None:
    """Returns the filter for objects of exactly this name."""
    if name is None:
        return None
    predicate = {"operation": "EQUALS", "key": "display_name", "stringValue": name}
    return json.dumps({"predicates": [predicate]})


def pages(
    call: Callable[..., Any], field: str, *, limit: int | None = None, **options: Any
) -> list[Any]:
    """Returns what a list call gives, over all its pages."""
    found: list[Any] = []
    token = ""
    while True:
        size = _PAGE if limit is None else min(_PAGE, limit - len(found))
        answer = call(page_token=token, page_size=size, **options)
        found += getattr(answer, field) or []
        token = answer.next_page_token or ""
        if not token or (limit is not None and len(found) >= limit):
            return found if limit is None else found[:limit]


def _client(where: Address) -> Any:
    import kfp

    class Client(kfp.Client):
        """Asks once whether the server is healthy; KFP's own asks five times, 5 s apart."""

        health: Any = None

        def get_kfp_healthz(self, sleep_duration: int = 0) -> Any:
            del sleep_duration
            if self.health is None:
                # Before the first request, for KFP waits for an answer for ever.
                pool = self.healthzs.api_client.rest_client.pool_manager
                timeout = urllib3.Timeout(connect=_CONNECT_TIMEOUT_S, read=_READ_TIMEOUT_S)
                pool.connection_pool_kw.update(timeout=timeout, retries=1)
                self.health = self.healthzs.healthz_service_get_healthz()
            return self.health

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = Client(
            host=where.host,
            existing_token=where.token,
            cookies=where.cookie,
            credentials=where.credentials,
            namespace=where.namespace or "kubeflow",
            ssl_ca_cert=where.certificate,
        )
    if where.token_file:
        client.runs.api_client.configuration.refresh_api_key_hook = _refresh(where.token_file)
    # The constructor asks only where no profile is known yet.
    if client.get_kfp_healthz().multi_user is None:
        # A proxy's login page, which the client takes for an answer without content.
        raise PipelineError(
            f"{where.host} answers, but not as Kubeflow Pipelines: expected its API, got another "
            f"page, maybe a login. Set {TOKEN_FILE} or {COOKIE_FILE}, or check the address.",
            reason=Reason.PERMISSION,
        )
    return client


def _refresh(path: str) -> Callable[[Any], None]:
    def refresh(configuration: Any) -> None:
        # A file that is just being replaced: the token that was read last may still do.
        with contextlib.suppress(ConfigError):
            configuration.api_key["authorization"] = _read_token(path)
            configuration.api_key_prefix["authorization"] = "Bearer"

    return refresh


def _message(body: object, tokens: Iterable[str] = ()) -> str:
    """The message in a server's answer, in one short line without the tokens, however written."""
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else str(body or "")
    with contextlib.suppress(ValueError):
        content = json.loads(text)
        if isinstance(content, dict):
            text = str(content.get("message") or content.get("error") or text)
    for token in tokens:
        encoded = base64.b64encode(token.encode()).decode().rstrip("=")
        for written in (token, _quote_path(token), encoded):
            text = text.replace(written, "***")
    return _short(text)


def _short(text: str) -> str:
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= 300 else f"{line[:297]}..."


def _quote_path(text: str) -> str:
    return urllib.parse.quote(text, safe="")


def _retryable(text: str, reason: Reason) -> PipelineError:
    error = PipelineError(text, reason=reason)
    error.retryable = True
    return error


def _cause(error: BaseException) -> str:
    inner = getattr(error, "reason", None)
    if isinstance(inner, BaseException):
        return _cause(inner)
    text = str(error).rpartition(": ")[2]
    return " ".join(text.split())[:120] or type(error).__name__


def _run(answer: Any) -> Run:
    runtime = answer.runtime_config
    return Run(
        id=answer.run_id,
        name=answer.display_name or "",
        state=_state(answer),
        created=answer.created_at,
        finished=_end_time(answer.finished_at),
        schedule=answer.recurring_run_id or "",
        due=_end_time(answer.scheduled_at) if answer.recurring_run_id else None,
        parameters=dict((runtime and runtime.parameters) or {}),
        error=(answer.error.message or "") if answer.error else "",
    )


def _state(answer: Any) -> str:
    """Servers say FAILED in the end of a run that was terminated; before that, CANCELING."""
    state = answer.state or "PENDING"
    earlier = {past.state for past in answer.state_history or ()}
    return "CANCELED" if state == "FAILED" and "CANCELING" in earlier else state


def _end_time(time: datetime.datetime | None) -> datetime.datetime | None:
    """Servers give the epoch for what has not ended."""
    return None if time is None or time.year <= 1970 else time
