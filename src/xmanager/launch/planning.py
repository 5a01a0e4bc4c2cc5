"""Whether this process only plans or packages what a launch script asks for, and what came of it."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from xmanager import packaging
from xmanager.errors import PackagingError, UsageError
from xmanager.launch import settings
from xmanager.packaging import Packaged, Workshop
from xmanager.xm.executables import ExecutableSpec
from xmanager.xm.packageables import Packageable

if TYPE_CHECKING:
    from xmanager.launch.planned import PlannedExperiment


@attrs.define
class Planning:
    """What a script has packaged and added while nothing is launched.

    In a `dry_run` nothing is made either; else executables are packaged, into `output` or to `push` where they are
    images. `shows` says that each experiment prints at its end what it would have run.
    """

    dry_run: bool = True
    output: Path | None = None
    push: str = ''
    shows: bool = False
    executables: list[Packaged] = attrs.field(factory=list)
    experiments: list[PlannedExperiment] = attrs.field(factory=list)
    _specs: dict[str, ExecutableSpec] = attrs.field(factory=dict)

    def package(self, packageables: Sequence[Packageable], workshop: Workshop) -> list[Packaged]:
        """Packages all of them in this manner, and keeps them in mind: what is shared by several, once."""
        self._refuse_same_places(packageables)
        workshop = attrs.evolve(workshop, dry_run=self.dry_run, output=self.output, push=self.push)
        executables = [_startable(one) for one in packaging.package(packageables, workshop)]
        self.executables += _new(executables, self.executables)
        return executables

    def _refuse_same_places(self, packageables: Sequence[Packageable]) -> None:
        """Raises PackagingError if two images would be written or pushed to the same place, which has their name."""
        if self.output is None and not self.push:
            return
        for spec in (one.executable_spec for one in packageables):
            other = self._specs.setdefault(spec.name, spec)
            if other != spec:
                raise PackagingError(
                    f'two executables are called {spec.name!r}, so one would take the place of the other: {other} '
                    f'and {spec}. Package them by scripts of their own, or rename what one is made of.'
                )

    def taken(self, experiment: PlannedExperiment) -> Planning:
        """One experiment and what was packaged until now, which are out of mind then."""
        taken = attrs.evolve(self, experiments=[experiment])
        self.executables = []
        self.experiments.remove(experiment)
        return taken


def _startable(executable: Packaged) -> Packaged:
    """With a word for a program whose path is not known before it is built."""
    facts = executable.facts
    if executable.command or facts.get('kind') == 'image':
        return executable
    word = f'<{facts.get("label") or executable.name}>'
    return attrs.evolve(executable, command=(word,))


def _new(executables: Sequence[Packaged], known: Sequence[Packaged]) -> list[Packaged]:
    """Those that differ from what is known, and from one another, in more than their arguments."""
    found: list[Packaged] = []
    for one in executables:
        alike = ((other.command, other.facts) for other in (*known, *found))
        if (one.command, one.facts) not in alike:
            found.append(one)
    return found


_begun: Final[list[Planning]] = []  # The last one counts.


def current() -> Planning | None:
    """How this process plans; None if it launches."""
    dry_run = settings.get('dry_run')
    if not _begun:
        return _by_flag() if dry_run else None
    _begun[-1].dry_run |= dry_run
    return _begun[-1]


@functools.cache
def _by_flag() -> Planning:
    return Planning(shows=True)


@contextlib.contextmanager
def instead_of_launching(planning: Planning) -> Iterator[Planning]:
    """Scripts that run inside this context launch nothing."""
    _begun.append(planning)
    try:
        yield planning
    finally:
        _begun.pop()


def refuse(what: str) -> None:
    """Raises UsageError if this process launches nothing, so it can't do `what` to an experiment that is recorded."""
    plan = current()
    if plan is not None:
        how = 'a dry run' if plan.dry_run else '`xmanager package`'
        raise UsageError(f"{how} changes nothing that is recorded, so it can't {what}.")
