"""Asynchronous training: each process trains for itself on variables that all share.

Layer 3. The chief and every worker trace the same model_fn over variables on parameter servers and
run their own steps; nobody waits for anybody in a step. A step is made by whoever has drawn its
number from the counter, so that there are never more than asked for. What the chief alone does:
first values, checkpoints, and the word that training has ended.
"""

from __future__ import annotations

import abc
import contextlib
import time
import uuid
from collections.abc import Iterator, Sequence

import tensorflow as tf

from estimator_lib import variables
from estimator_lib.core.errors import ConfigError, EstimatorLibError, Reason, TrainingError
from estimator_lib.protocols import InputFn
from estimator_lib.training import parameter_servers as servers
from estimator_lib.training.claims import Claims
from estimator_lib.training.engine import Engine
from estimator_lib.training.hooks import CheckpointSaverListener
from estimator_lib.training.lease import Lease
from estimator_lib.training.parameter_servers import Board, Doing, Order
from estimator_lib.training.run_config import RunConfig
from estimator_lib.training.training_run import TrainingRun

_SILENT_S = 15.0
"""A client that has given no sign of life for so long is gone."""
_PAUSE_S = 60.0
"""How long a checkpoint, or the end, waits for a worker that is there."""


def train(
    engine: Engine,
    input_fn: InputFn,
    *,
    hooks: Sequence[object],
    listeners: Sequence[CheckpointSaverListener],
    max_steps: int | None,
) -> None:
    """Trains as the chief or a worker of a cluster with parameter servers.

    Args:
        engine: What is trained; its own variables are left as they are.
        input_fn: Gives this process's features and labels.
        hooks: The caller's.
        listeners: The caller's; the chief's are told about checkpoints.
        max_steps: The global step to end at; None ends when the input does.

    Raises:
        ConfigError: something cannot be done this way.
        TrainingError: as of `TrainingRun`; or servers were lost (`retryable`), or the chief failed.
    """
    config = engine.config
    check(config)
    # Only the chief writes to the directory.
    owned: contextlib.AbstractContextManager[Lease | None] = (
        Lease(engine.model_dir) if config.is_chief else contextlib.nullcontext()
    )
    with owned as lease:
        try:
            crew = _join(engine, lease)
        except tf.errors.OpError as error:
            raise servers.lost() from error
        if crew is not None:
            _train(crew, lease, input_fn, hooks, listeners, max_steps)


def _join(engine: Engine, lease: Lease | None) -> _Member | None:
    """Connects to the servers; returns None where training has finished already."""
    config = engine.config
    timeout_s = config.session_creation_timeout_secs
    addresses, own = config.cluster["cluster"]["ps"], config.master.removeprefix("grpc://")
    devices = servers.devices_of(addresses)
    if lease is None:
        servers.wait_for_chief(engine.model_dir, timeout_s)
        servers.connect(addresses, own, timeout_s)
        return _Worker.of(engine, devices)
    servers.connect(addresses, own, timeout_s)
    chief = _Chief.of(engine, devices)
    servers.let_workers_connect(engine.model_dir, lease.token)
    return chief


def _train(
    crew: _Member,
    lease: Lease | None,
    input_fn: InputFn,
    hooks: Sequence[object],
    listeners: Sequence[CheckpointSaverListener],
    max_steps: int | None,
) -> None:
    with crew.board.living(crew.client):
        try:
            TrainingRun(
                engine=crew.engine(max_steps),
                lease=lease,
                input_fn=input_fn,
                hooks=hooks,
                listeners=listeners,
                steps=None,
                max_steps=max_steps,
                crew=crew,
            ).run()
            crew.end(Order.FINISHED)
        except tf.errors.OpError as error:
            if not crew.board.is_served():
                raise servers.lost() from error
            crew.end(Order.FAILED)
            raise
        except BaseException as error:
            # Whoever asked the chief to end will start it again, and finds the others at work.
            if not (isinstance(error, EstimatorLibError) and error.retryable):
                crew.end(Order.FAILED)
            raise


def check(config: RunConfig) -> None:
    """Refuses what has no meaning where each worker trains for itself.

    Raises:
        ConfigError: there is something of this kind.
    """
    for name in ("moving_average_decay", "jit_compile"):
        if getattr(config, name):
            raise ConfigError(
                f"RunConfig.{name} is not supported with parameter servers: expected "
                f"{None}, got {getattr(config, name)!r}. Leave it out.",
                reason=Reason.UNSUPPORTED,
            )


class _Member(abc.ABC):
    """One process among those that train together.

    Attributes:
        board: What all read and write.
        client: The process's number on it.
        restores: Whether it gives the variables their values.
        over: Whether the chief has said that training has ended.
    """

    restores = False

    def __init__(self, engine: Engine, devices: Sequence[str], run: str, client: int) -> None:
        config = engine.config
        self.board = Board(devices, run, config.num_worker_replicas)
        self.client = client
        self.over = False
        self._share = tf.distribute.InputContext(
            num_input_pipelines=config.num_worker_replicas,
            input_pipeline_id=client,
            num_replicas_in_sync=config.num_worker_replicas,
        )
        self._given = engine
        self._place = variables.Place(
            devices=tuple(devices), run=run, assigns=self.restores, partitioner=config.partitioner
        )

    def engine(self, max_steps: int | None) -> Engine:
        """Returns the engine whose variables are on the servers."""
        self._store = variables.RemoteStore(self._place)
        self._claims = Claims(self.board.steps, max_steps or servers.NO_LAST_STEP)
        made = self._given.with_store(self._store, self._claims, self._share)
        self._step = made.model.global_step()
        if not self.restores:
            self._count()
        return made

    def join(self) -> None:
        """Takes part from now on: all variables have been made.

        Raises:
            ConfigError: the servers hold another model.
        """
        missing = self._store.missing()
        if missing:
            raise ConfigError(
                f"The parameter servers hold another model: there is no variable {missing[0]!r}. "
                "Run the same program in all tasks, or start them all anew.",
                reason=Reason.CONFLICT,
            )

    @abc.abstractmethod
    def enter(self) -> bool:
        """Waits where it must, and returns whether there is a step to make; else see `over`."""

    def leave(self) -> None:
        """Gives back what was not used of a call's claims."""
        self._claims.release()
        self._count()

    @abc.abstractmethod
    def cut(self) -> contextlib.AbstractContextManager[None]:
        """Nobody changes variables in the block."""

    @abc.abstractmethod
    def settle(self) -> None:
        """Lets those finish who still make steps."""

    @abc.abstractmethod
    def finish(self, *, others_go_on: bool) -> None:
        """Says that no more steps will be made here, and lets others end."""

    @abc.abstractmethod
    def end(self, outcome: Order) -> None:
        """Leaves for good."""

    def _count(self) -> None:
        self._step.assign(self._claims.count())


class _Chief(_Member):
    """Gives the variables their values and writes checkpoints."""

    @classmethod
    def of(cls, engine: Engine, devices: Sequence[str]) -> _Chief:
        """Returns the chief of a new run, or of the one that an earlier chief has left."""
        run, ended = servers.served(devices)
        return cls(engine, devices, run if run and ended is None else "")

    def __init__(self, engine: Engine, devices: Sequence[str], run: str) -> None:
        self.restores = not run
        self._opened = bool(run)
        self._finished = False
        self._pauses = engine.config.consistent_checkpoints
        super().__init__(engine, devices, run or uuid.uuid4().hex, 0)
        if self.restores:
            self.board.prepare()

    def join(self) -> None:
        super().join()
        if self.restores:
            self.board.open(int(self._step.numpy()))
            self._opened = True
        self.board.order(Order.TRAIN)

    def enter(self) -> bool:
        return self._claims.begin()

    @contextlib.contextmanager
    def cut(self) -> Iterator[None]:
        if not self._pauses or self._finished:
            self._count()
            yield
            return
        self.board.order(Order.PAUSE)
        try:
            self.board.wait([Doing.TRAINING], _PAUSE_S, _SILENT_S)
            self._count()
            yield
        finally:
            self.board.order(Order.TRAIN)

    def settle(self) -> None:
        if not self._finished:
            self.board.wait([Doing.TRAINING], _PAUSE_S, _SILENT_S)
            self._count()

    def finish(self, *, others_go_on: bool) -> None:
        if self._finished:
            return
        if not others_go_on:
            self.board.order(Order.FINISHED)
            self._finished = True
        here = [Doing.TRAINING, Doing.BETWEEN_CALLS]
        self.board.wait(here, float("inf") if others_go_on else _PAUSE_S, _SILENT_S)
        self._finished = True
        self._count()

    def end(self, outcome: Order) -> None:
        with contextlib.suppress(tf.errors.OpError):
            if not self._opened:
                self.board.open(0)
            self.board.order(outcome)
            here = [Doing.TRAINING, Doing.BETWEEN_CALLS]
            self.board.wait(here, _PAUSE_S, _SILENT_S)
            self.board.close(outcome)


class _Worker(_Member):
    """Trains along."""

    @classmethod
    def of(cls, engine: Engine, devices: Sequence[str]) -> _Worker | None:
        """Returns a worker of the chief's run; None if that has finished already.

        Raises:
            TrainingError: there is no chief in time (`retryable`), or it has failed.
        """
        run, ended = servers.wait_for_run(devices, engine.config.session_creation_timeout_secs)
        if ended is Order.FAILED:
            raise _chief_failed()
        if ended is not None:
            return None
        return cls(engine, devices, run, 1 + engine.config.task_id)

    def enter(self) -> bool:
        board = self.board
        chief = board.watch(_SILENT_S)
        while True:
            order = board.ordered()
            self._obey(order)
            if self.over:
                return False
            if order is Order.PAUSE and 0 not in chief.silent():
                time.sleep(0.02)
                continue
            # Said before asking again: either the chief sees this, or this process the pause.
            board.note(self.client, Doing.TRAINING)
            if board.ordered() is order:
                break
            board.note(self.client, Doing.BETWEEN_CALLS)
        if self._claims.begin():
            return True
        board.note(self.client, Doing.BETWEEN_CALLS)
        return False

    def leave(self) -> None:
        super().leave()
        self.board.note(self.client, Doing.BETWEEN_CALLS)

    def _obey(self, order: Order) -> None:
        if order is Order.FAILED:
            raise _chief_failed()
        self.over = order is Order.FINISHED

    def cut(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def settle(self) -> None:
        self._count()

    def finish(self, *, others_go_on: bool) -> None:
        del others_go_on
        self._count()

    def end(self, outcome: Order) -> None:
        del outcome
        with contextlib.suppress(tf.errors.OpError):
            self.board.note(self.client, Doing.NOTHING)


def _chief_failed() -> TrainingError:
    return TrainingError("Training failed: the chief's own message says why.")
