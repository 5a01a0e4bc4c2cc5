"""The verbs of the back end for Slurm: units are elements of job arrays, or jobs of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from xmanager.backend import (
    SHARED_VARIABLE,
    Capacity,
    Deferred,
    Grant,
    Observation,
    Rejected,
    Submitted,
    Task,
    Unit,
)
from xmanager.backends.slurm import options, rendering
from xmanager.backends.slurm.batch import Request
from xmanager.backends.slurm.cluster import Cluster
from xmanager.backends.slurm.local_site import LocalSite
from xmanager.backends.slurm.preferences import Preferences
from xmanager.backends.slurm.site import Site

_IDLE = 1.0

_Value = TypeVar('_Value')


def create(environ: Mapping[str, str]) -> SlurmBackend:
    """The entry point: a back end for the cluster of this machine, and for those that units name by `login`."""
    return SlurmBackend(environ)


class SlurmBackend:
    """Submits through Slurm's own commands. All that it must know again lies in the folders of the batches."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = dict(environ)
        self._preferences = Preferences.of(environ)
        self._clusters: dict[str, Cluster] = {}
        self._logins: dict[str, str] = {}  # By reference.
        self._sound: set[str] = set()  # What was asked for, and can be had.

    @property
    def period(self) -> float:
        """The shortest that one of the clusters in use asks for."""
        return min((one.watch.period for one in self._clusters.values()), default=_IDLE)

    @property
    def busy(self) -> bool:
        """Slurm is still to be told to end something."""
        return any(one.watch.is_busy for one in self._clusters.values())

    def check(self, tasks: Sequence[Task]) -> None:
        """Raises ExecutorError if there is no such thing in Slurm, or in this cluster, or no Slurm here."""
        asked = repr([(task.requirements, task.options) for task in tasks])
        if asked in self._sound:  # As are most units of a sweep.
            return
        options.check(tasks, self._preferences)
        cluster = self._cluster(_login_of(tasks))
        cluster.check(options.options_of_unit(tasks, self._preferences))
        self._sound.add(asked)

    def capacity(self) -> Capacity | None:
        """None: Slurm has a queue of its own."""
        return None

    def strangers(self) -> Mapping[str, frozenset[str]]:
        """None: Slurm keeps account of all devices."""
        return {}

    def demand(self, tasks: Sequence[Task]) -> Mapping[str, Mapping[str, float]]:
        """Nothing: Slurm is told what they need when they are submitted."""
        return {task.name: {} for task in tasks}

    def render(self, unit: Unit, grant: Grant) -> Request:
        """What its nodes are told, and the options of sbatch."""
        site = self._cluster(_login_of(unit.tasks)).site
        return rendering.render(unit, site, self._preferences, self._environ)

    def submit(self, requests: Sequence[Request]) -> Sequence[Submitted | Deferred | Rejected]:
        """One sbatch for all units that are alike, as far as the site's limits allow."""
        answers: dict[int, Submitted | Deferred | Rejected] = {}
        by_login: dict[str, list[int]] = {}
        for number, request in enumerate(requests):
            by_login.setdefault(_login_of(request.unit.tasks), []).append(number)
        for login, numbers in by_login.items():
            cluster = self._cluster(login)
            given = cluster.submissions.submit([requests[number] for number in numbers])
            answers.update(zip(numbers, given, strict=True))
        return [answers[number] for number in range(len(requests))]

    def find(self, units: Sequence[Unit]) -> Mapping[str, str]:
        """By the manifests of the batches; Slurm is asked for those of which nobody wrote down the job."""
        found: dict[str, str] = {}
        for login, mine in _by_login((unit, unit) for unit in units).items():
            found.update(self._cluster(login).submissions.find(mine))
        return found

    def observe(self, refs: Mapping[str, Unit]) -> Mapping[str, Observation]:
        """By the records of the elements, and by what squeue said last."""
        seen: dict[str, Observation] = {}
        for login, mine in self._shared_out(refs).items():
            seen.update(self._cluster(login).watch.observe(mine))
        return seen

    def _shared_out(self, refs: Mapping[str, Unit]) -> Mapping[str, Mapping[str, Unit]]:
        """The units of each cluster in use, be it none. Asked very often: the logins are remembered."""
        self._logins.update(
            {ref: _login_of(refs[ref].tasks) for ref in refs.keys() - self._logins.keys()}
        )
        if len(self._logins) > 2 * len(refs):
            self._logins = {ref: self._logins[ref] for ref in refs}
        in_use = {*self._clusters, *self._logins.values()}
        if len(in_use) == 1:
            return dict.fromkeys(in_use, refs)
        return {
            login: {ref: unit for ref, unit in refs.items() if self._logins[ref] == login}
            for login in in_use
        }

    def stop(self, refs: Mapping[str, Unit], grace: float | None) -> None:
        """Takes them out of the queue, or sends TERM; `observe` goes on with it."""
        for login, mine in _by_login((unit, (ref, unit)) for ref, unit in refs.items()).items():
            self._cluster(login).watch.stop(dict(mine), grace)

    def close(self) -> None:
        """Forgets all units; one that is asked for again is found again."""
        for cluster in self._clusters.values():
            cluster.close()

    def _cluster(self, login: str) -> Cluster:
        if login not in self._clusters:
            self._clusters[login] = Cluster(self._site(login), self._environ, login)
        return self._clusters[login]

    def _site(self, login: str) -> Site:
        if not login:
            shared = self._environ.get(SHARED_VARIABLE, '')
            return LocalSite(rendering.environment(self._environ), shared)
        from xmanager.backends.slurm.remote.ssh import SshSite

        home = Path(self._environ.get('XM_HOME') or '~/.xmanager').expanduser()
        return SshSite(login, self._environ, home)


def _login_of(tasks: Sequence[Task]) -> str:
    return str(tasks[0].options.get('login') or '') if tasks else ''


def _by_login(pairs: Iterable[tuple[Unit, _Value]]) -> dict[str, list[_Value]]:
    found: dict[str, list[_Value]] = {}
    for unit, value in pairs:
        found.setdefault(_login_of(unit.tasks), []).append(value)
    return found
