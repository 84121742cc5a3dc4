"""Hooks written for sessions (`before_run`, `after_run`), run around the steps of the loop.

Layer 3. There is no session: what such a hook fetches is found out when a step is traced, and
leaves the loop with every step. So it costs the speed of many steps per call; hooks of
`training.hooks` do not.
"""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import tensorflow as tf

from estimator_lib import variables
from estimator_lib.core.errors import ConfigError, Reason, quote
from estimator_lib.tensorflow_internals import GLOBAL_STEP_READ_KEY
from estimator_lib.training import hooks
from estimator_lib.variables import tracing

Fetch: TypeAlias = str | tf.Tensor | tf.Operation | tf.Variable
Fetches: TypeAlias = Fetch | Sequence["Fetches"] | Mapping[str, "Fetches"]
"""What a session can be asked for."""


_FETCH = "Fetch tensors of the step in before_run, or derive from estimator_lib.Hook."
_FEED = "Give the values by the input_fn."


def is_for_sessions(hook: object) -> bool:
    """Whether a hook waits for what a session called, and not for what the loop calls."""
    kind = type(hook)
    ours = any(
        getattr(kind, name, None) not in (None, getattr(hooks.Hook, name))
        for name in ("before_step", "after_step")
    )
    return hasattr(hook, "before_run") and not ours


def split(given: Sequence[object]) -> tuple[list[hooks.Hook], list[SessionHook]]:
    """Returns the hooks that the loop runs as they are, and those for sessions, adapted.

    Raises:
        ConfigError: one is no hook at all.
    """
    adapted, others = [], []
    for hook in given:
        if is_for_sessions(hook):
            adapted.append(SessionHook(hook))
        elif isinstance(hook, hooks.Hook) and _asks_by_name(hook):
            adapted.append(NamingHook(hook))
        else:
            others.append(hook)
    return [*hooks.check(others)], adapted


def _asks_by_name(hook: hooks.Hook) -> bool:
    """Whether a hook of the loop asks for tensors that only a trace can find."""
    asked = [tensor for tensor in hook.tensors.values() if isinstance(tensor, str)]
    return any(name not in ("loss", variables.GLOBAL_STEP) for name in asked)


def read_step() -> tf.Tensor:
    """Returns the global step as it was when this was called first in the graph of a step.

    It is kept where TensorFlow's own hooks look for it. Of a step that trains it is read before the
    model counts, for a session told its hooks the number of the step that it ran.
    """
    graph = tf.compat.v1.get_default_graph()
    if not graph.get_collection(GLOBAL_STEP_READ_KEY):
        step = tf.identity(variables.global_step(), name="global_step_read")
        graph.add_to_collection(GLOBAL_STEP_READ_KEY, step)
    return graph.get_collection(GLOBAL_STEP_READ_KEY)[0]


class Session:
    """What stands where hooks expect a session: it reads values that the loop knows."""

    def __init__(self, owner: SessionHook) -> None:
        self._owner = owner

    def run(self, fetches: Fetches, feed_dict: object = None, **options: object) -> Any:
        """Returns values of variables, and of tensors that the hook asked for in before_run."""
        if feed_dict or options:
            raise self._owner.refused("it feeds or configures session.run", _FEED)
        return tf.nest.map_structure(self._value, fetches)

    def _value(self, fetch: Fetch) -> Any:
        known = self._owner.evaluate_known(fetch)
        if known is None and hasattr(fetch, "numpy"):  # it was computed at once
            known = fetch.numpy()
        if known is None:
            raise self._owner.refused(f"session.run({quote(getattr(fetch, 'name', fetch))})")
        return known

    def should_stop(self) -> bool:
        """Whether the loop has been asked to end."""
        return self._owner.context is not None and self._owner.context.stop_requested


class RunContext:
    """The `SessionRunContext` of one step."""

    def __init__(self, owner: SessionHook) -> None:
        self._owner = owner
        self.session = Session(owner)
        self.original_args = tf.compat.v1.train.SessionRunArgs(None)

    @property
    def stop_requested(self) -> bool:
        """Whether a hook has asked the loop to end."""
        return bool(self._owner.context and self._owner.context.stop_requested)

    def request_stop(self) -> None:
        """Asks the loop to end after this step."""
        if self._owner.context is not None:
            self._owner.context.request_stop(type(self._owner.hook).__name__)


class SessionHook(hooks.Hook):
    """Runs a hook for sessions around every step.

    Args:
        hook: It.
    """

    def __init__(self, hook: tf.compat.v1.train.SessionRunHook) -> None:
        self.hook = hook
        plain = tf.compat.v1.train.SessionRunHook
        runs = [getattr(type(hook), name, None) for name in ("before_run", "after_run")]
        # One that only begins and ends does not stop the loop at every step.
        self.every_steps = None if runs == [plain.before_run, plain.after_run] else 1
        self.context: hooks.StepContext | None = None
        self.tensors: Mapping[str, Any] = {}
        self._label = ""
        self._structure: Any = None
        self._in_step = 0
        self._names: dict[str, str] = {}
        self._begun = False
        self._created = False

    def trace(self, find: Callable[[str], tf.Tensor], *, label: str, probing: bool = False) -> None:
        """Finds out what the hook fetches, in the graph of a step.

        Args:
            find: Returns the tensor of a name that no operation of the graph has.
            label: Of this hook among those of the step, the same in every trace: a model_fn makes
                its hooks anew.
            probing: Whether only the form is wanted; then a copy of the hook is asked.
        """
        self._label = label
        if probing and not self._fetches():
            return  # it begins once
        hook = copy.copy(self.hook) if probing else self.hook
        read_step()
        try:
            hook.begin()
        except KeyError as error:  # of a graph that has no such name
            raise _not_there(self.hook, str(error.args[0])) from error
        self._begun = not probing
        # A copy is asked: the hook itself is once per step, and may count.
        arguments = copy.copy(hook).before_run(RunContext(self))
        flat: list[Fetch] = []
        if arguments is not None:
            if getattr(arguments, "feed_dict", None):
                raise self.refused("it feeds values to the graph", _FEED)
            if getattr(arguments, "options", None):
                raise self.refused("it gives options")
            self._structure = arguments.fetches
            flat += tf.nest.flatten(arguments.fetches)
        self._in_step = len(flat)
        if isinstance(hook, tf.compat.v1.train.FinalOpsHook):
            asked = _Asked()
            copy.copy(hook).end(asked)
            flat += asked.fetches
        self._names = {
            fetch: self._key(at) for at, fetch in enumerate(flat) if isinstance(fetch, str)
        }
        self.tensors = {self._key(at): self._tensor(fetch, find) for at, fetch in enumerate(flat)}

    def _fetches(self) -> bool:
        """Whether the hook may ask for tensors of a step, or of the last one."""
        plain = tf.compat.v1.train.SessionRunHook.before_run
        own = getattr(type(self.hook), "before_run", None) is not plain
        return own or isinstance(self.hook, tf.compat.v1.train.FinalOpsHook)

    def _key(self, at: int) -> str:
        return f"{self._label}/{at}"

    def _tensor(self, fetch: Fetch, find: Callable[[str], tf.Tensor]) -> tf.Tensor:
        if isinstance(fetch, tf.Operation):
            with tf.control_dependencies([fetch]):
                return tf.constant(0)
        if isinstance(fetch, tf.Variable) and fetch.name == f"{variables.GLOBAL_STEP}:0":
            return read_step()
        if not isinstance(fetch, str):
            return tf.convert_to_tensor(fetch)
        try:
            graph = tf.compat.v1.get_default_graph()
            return graph.get_tensor_by_name(fetch if ":" in fetch else f"{fetch}:0")
        except (KeyError, ValueError):
            return find(fetch.removesuffix(":0"))

    def evaluate_known(self, fetch: Fetch) -> Any:
        """Returns the value of a variable or of what was fetched last; None if it is unknown."""
        context = self.context
        if context is None:
            return None
        name = str(getattr(fetch, "name", fetch)).removesuffix(":0")
        if name in context.variables:
            return context.variables[name].numpy()
        if name.rsplit("/", 1)[-1] in ("global_step", "global_step_read"):
            return context.step
        found = [key for key, tensor in self.tensors.items() if tensor is fetch]
        if isinstance(fetch, str) and fetch in self._names:
            found = [self._names[fetch]]
        return context.values.get(found[0]) if found else None

    def refused(self, what: str, fix: str = _FETCH) -> ConfigError:
        """The error for what only a session can do."""
        return ConfigError(
            f"Hook {type(self.hook).__name__} cannot run: {what}, which needs a session. {fix}",
            reason=Reason.UNSUPPORTED,
        )

    def begin(self) -> None:
        if not self._begun:
            self.hook.begin()
        self._begun = False

    def before_step(self, context: hooks.StepContext) -> None:
        self.context = context
        if not self._created:
            self._created = True
            self.hook.after_create_session(Session(self), tf.train.Coordinator())
        self.hook.before_run(RunContext(self))

    def after_step(self, context: hooks.StepContext) -> None:
        self.context = context
        results = None
        if self._structure is not None:
            results = tf.nest.pack_sequence_as(
                self._structure,
                [context.values.get(self._key(at)) for at in range(self._in_step)],
            )
        values = tf.compat.v1.train.SessionRunValues(results, None, None)
        self.hook.after_run(RunContext(self), values)

    def end(self, context: hooks.StepContext) -> None:
        self.context = context
        self._created = False
        self.hook.end(Session(self))


class NamingHook(SessionHook):
    """Runs a hook of the loop that asks for tensors by the names of a step's operations.

    Args:
        hook: It.
    """

    def __init__(self, hook: hooks.Hook) -> None:
        super().__init__(tf.compat.v1.train.SessionRunHook())
        self._loops = hook
        self.every_steps = hook.every_steps
        self.wants_save = hook.wants_save
        self.listeners = hook.listeners

    def trace(self, find: Callable[[str], tf.Tensor], *, label: str, probing: bool = False) -> None:
        del label, probing
        self.tensors = {
            label: self._tensor(tensor, find) for label, tensor in self._loops.tensors.items()
        }

    def begin(self) -> None:
        self._loops.begin()

    def next_step(self, step: int) -> int | None:
        return self._loops.next_step(step)

    def before_step(self, context: hooks.StepContext) -> None:
        self._loops.before_step(context)

    def after_step(self, context: hooks.StepContext) -> None:
        self._loops.after_step(context)
        self.wants_save = self._loops.wants_save

    def end(self, context: hooks.StepContext) -> None:
        self._loops.end(context)


class _Asked:
    """Stands for a session, and notes what it is asked for."""

    def __init__(self) -> None:
        self.fetches: list[Fetch] = []

    def run(self, fetches: Fetches, feed_dict: object = None) -> None:
        if not feed_dict:
            self.fetches += tf.nest.flatten(fetches)


def _not_there(hook: object, said: str) -> ConfigError:
    graph = tf.compat.v1.get_default_graph()
    names = [operation.name for operation in graph.get_operations()]
    quoted = re.findall(r"'([^']+)'", said)
    name = quoted[-1] if quoted else said
    near = difflib.get_close_matches(name, names, 1)
    return ConfigError(
        f"Hook {type(hook).__name__} asks for {quote(name)}, which the model does not have."
        + (f" Did you mean {near[0]!r}?" if near else " Name a tensor of it by tf.identity."),
        reason=Reason.UNKNOWN_NAME,
    )


class InitHook(SessionHook):
    """Calls a scaffold's `init_fn` where training begins at step 0, before anything is saved.

    Args:
        scaffold: It.
    """

    def __init__(self, scaffold: tf.compat.v1.train.Scaffold) -> None:
        super().__init__(ScaffoldInit(scaffold))
        self._variables: Mapping[str, tf.Variable] = {}

    def trace(self, find: Callable[[str], tf.Tensor], *, label: str, probing: bool = False) -> None:
        super().trace(find, label=label, probing=probing)
        self._variables = tracing.needed("init_fn").store.variables

    def begin(self) -> None:
        super().begin()
        step = int(self._variables[variables.GLOBAL_STEP].numpy())
        if step == 0:
            context = hooks.StepContext(0, 0, "", self._variables)
            super().before_step(context)
        self._created = True


class ScaffoldInit(tf.compat.v1.train.SessionRunHook):
    """Calls `init_fn` where a session was made."""

    def __init__(self, scaffold: tf.compat.v1.train.Scaffold) -> None:
        self._scaffold = scaffold

    def after_create_session(self, session: Session, coord: tf.train.Coordinator) -> None:
        del coord
        self._scaffold.init_fn(session)
