"""The contract between the supervisor and the engines that run units: the one page a back end's author reads.

A back end turns a `Unit` (1..n tasks that start and stop together) into something that runs, says how it fares, and
stops it. It keeps no state that matters: whatever it must know after a crash it finds again by the unit's `key`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import attrs

KEY_VARIABLE = 'XM_KEY'
"""Environment variable that marks every process of a unit with the unit's key."""

WITHIN_VARIABLE = 'XM_WITHIN'
"""Environment variable with the keys of the units inside which an experiment was launched, separated by commas."""

SHARED_VARIABLE = 'XM_SHARED'
"""Environment variable with the folder that the machines of a cluster see; unset, it is the home."""

DEFAULT_GRACE = 10.0
"""Seconds from TERM to KILL for a task that states none."""


@attrs.frozen
class Task:
    """One job of a unit, ready to run.

    `env` holds what the user set, by value; `secrets` maps a variable to the name under which the supervisor's own
    environment has its value. `requirements` are amounts by lower-case resource name (`cpu` in cores, `ram` in bytes,
    `local_gpu` in devices, less than 1 for a share of one), empty when nothing was stated. `options` are the
    executor's settings as JSON values, `executable` what packaging has fixed. The back end keeps to `timeout` (how
    long the task may run), `grace` (from TERM to KILL) and `warn_before` (so long before its timeout the task is sent
    `warn_signal`, by name, once), all in seconds; the supervisor to `max_restarts`, `restart_on` and `backoff`.
    """

    name: str
    full_name: str
    argv: tuple[str, ...]
    cwd: str
    env: Mapping[str, str] = attrs.field(factory=dict)
    secrets: Mapping[str, str] = attrs.field(factory=dict)
    requirements: Mapping[str, float] = attrs.field(factory=dict)
    options: Mapping[str, Any] = attrs.field(factory=dict)
    executable: Mapping[str, Any] = attrs.field(factory=dict)

    @property
    def image(self) -> str:
        """The image in which it runs, by the name that fixes its content; '' for a process of the machine itself.

        Then `argv` are the arguments of the image's entry point, and `cwd` is '' for the image's own.
        """
        return str(self.executable.get('image', ''))


@attrs.frozen
class Unit:
    """What is submitted: tasks that start and stop together.

    `label` names the unit in its experiment: `'3'` for work unit 3, `'a1'` for auxiliary unit 1. `key` is unique for
    each attempt over all experiments of all homes. `folder` belongs to the unit alone. `importance` is 0 for most, more
    for what shall go first, less for what can wait.
    """

    experiment_id: int
    label: str
    attempt: int
    key: str
    folder: Path
    tasks: tuple[Task, ...]
    importance: int = 0

    def task_folder(self, task: Task) -> Path:
        """The folder of one task: `output.log`, `out/` and what the back end adds."""
        return self.folder / task.name


@attrs.frozen
class Capacity:
    """What a back end can hold at once; amounts by resource name, in the units of `Task.requirements`.

    `devices` lists the identities behind a countable resource, e.g. `{'local_gpu': ('0', '1')}`. `ledger` is the folder
    in which all who share this capacity keep account of it (`xmanager.ledger`); None if it is this process's alone.
    """

    amounts: Mapping[str, float]
    devices: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)
    ledger: Path | None = None


Grant = Mapping[str, Mapping[str, tuple[str, ...]]]
"""Devices given to each task of a unit: `{'train': {'local_gpu': ('0', '1')}}`."""


@attrs.frozen
class Submitted:
    """The engine took the unit; `ref` is what the engine calls it."""

    ref: str


@attrs.frozen
class Deferred:
    """The engine can't take the unit now: it is busy, full or out of reach. `reason` says so in a few words.

    The unit stays in the queue and is submitted again later; `delay` is how many seconds later.
    """

    reason: str
    delay: float = 10.0


@attrs.frozen
class Rejected:
    """The engine will never run this unit; `reason` is one sentence for the user, `task` the job at fault."""

    reason: str
    task: str = ''


@attrs.frozen
class TaskObservation:
    """How one task fares. Times are seconds since the epoch; `max_rss` is bytes.

    `state` is `waiting` (the engine has it in a queue of its own), `running`, `exited` (then `exit_code`, or `signal`
    if one killed it, is set), or `vanished` when the task has ended and nobody can know how. `reason` adds what the
    numbers don't tell: `'timed out after 2.0 s'`, or why it waits, in the engine's words; `cause` is `timeout` or
    `preempted` if it ended by one of these, for whoever decides on a restart. `where` names the machines that run it;
    `started_at` is known of a task that the engine began some time after it was submitted.

    `restarts` is how often the engine has begun this submission anew by itself, such as after a preemption: then the
    other facts speak of the latest time only, and `XM_ATTEMPT` there is the unit's attempt plus this number.
    """

    state: str
    exit_code: int | None = None
    signal: int | None = None
    ended_at: float | None = None
    max_rss: int | None = None
    user_seconds: float | None = None
    system_seconds: float | None = None
    reason: str = ''
    cause: str = ''
    where: str = ''
    started_at: float | None = None
    restarts: int = 0


Observation = Mapping[str, TaskObservation]
"""What is known of each task of a submitted unit, by task name."""


class Backend(Protocol):
    """The verbs of an engine. All may be called again with the same arguments without harm."""

    @property
    def period(self) -> float:
        """Seconds between two calls of `observe` when nothing else wakes the supervisor."""

    @property
    def busy(self) -> bool:
        """Units whose end was told have left something that is still being cleaned up.

        A supervisor with nothing else to do calls `observe` until this is False before it leaves.
        """

    def check(self, tasks: Sequence[Task]) -> None:
        """Raises ExecutorError with one sentence if these tasks together can never run here. Called at `add`."""

    def capacity(self) -> Capacity | None:
        """What can run at once, or None when the engine queues by itself."""

    def strangers(self) -> Mapping[str, frozenset[str]]:
        """Devices, by resource name, on which processes run that are none of ours or can't be told to be.

        The queue leaves them alone, as it does those that no program can use at present, which are among them. `{}` if
        that can't be seen. May be asked often while units wait for devices.
        """

    def demand(self, tasks: Sequence[Task]) -> Mapping[str, Mapping[str, float]]:
        """What each task (by name) takes out of the capacity while it runs."""

    def render(self, unit: Unit, grant: Grant) -> Any:
        """What `submit` will send, as a value. Pure: touches no file and no engine."""

    def submit(self, requests: Sequence[Any]) -> Sequence[Submitted | Deferred | Rejected]:
        """Hands the units to the engine, one answer for each request, in order.

        A unit that was submitted before (its `key` says so) is not submitted again: the answer is its reference. An
        engine that starts task by task completes one that was submitted in part: a task that runs or ran in this
        attempt is not started again, one that never started is. None is once another task of the unit has gone wrong;
        `observe` then tells of the rest that it was never started.

        Raises UnreachableError if nobody can tell now which of the units it has taken: then `find` is called until it
        can, before any of them is submitted again or counts as stopped. `Deferred` says for certain that it has not.
        """

    def find(self, units: Sequence[Unit]) -> Mapping[str, str]:
        """References of those units, by key, that were submitted at any time: running, ended or vanished.

        Raises UnreachableError if that can't be told now.
        """

    def observe(self, refs: Mapping[str, Unit]) -> Mapping[str, Observation]:
        """What is known of the submitted units, by reference. One call serves all; it never blocks.

        Of a unit of which nothing new is known it may return the very same object as before: then nobody looks into it.
        """

    def stop(self, refs: Mapping[str, Unit], grace: float | None) -> None:
        """Asks the units to end and returns at once; what still runs after the grace time (seconds) is killed.

        `grace` None means each task's own. A unit has stopped when `observe` says so of all its tasks, and then no
        process of it is left.
        """

    def close(self) -> None:
        """Gives back what it holds of this process, such as open files; the units go on."""
