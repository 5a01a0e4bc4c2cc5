"""Waiting until units have ended, with a line on the terminal that tells how it stands."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Final

from xmanager.cli import terminal, wording

if TYPE_CHECKING:
    from xmanager.cli.address import Address
    from xmanager.store import Store

_PERIOD: Final = 0.05
_GUARD_PERIOD: Final = 2.0  # Seconds between two looks whether somebody supervises.

Tally = Mapping[str, int]


class ProgressLine:
    """A line on stderr that is written over and over and wiped at the end; nothing where stderr is no terminal."""

    def __enter__(self) -> ProgressLine:
        self._shown = ''
        self._visible = terminal.is_terminal(sys.stderr)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._shown:
            self._write('')

    def show(self, text: str) -> None:
        """Replaces the line."""
        text = text[: terminal.width() - 1]
        if self._visible and text != self._shown:
            self._write(text)

    def _write(self, text: str) -> None:
        sys.stderr.write(f'\r\x1b[2K{text}')
        sys.stderr.flush()
        self._shown = text


class Vigil:
    """Sees to it now and then that the experiments which somebody waits for are supervised."""

    def __init__(self, store: Store, addresses: Iterable[Address]) -> None:
        from xmanager.launch import Guard

        self._guards = [Guard(store.home, id) for id in experiments_of(addresses)]
        self._looked_at = time.monotonic()

    def keep(self) -> None:
        """Replaces supervisors that were killed; to be called as often as one likes."""
        if time.monotonic() - self._looked_at > _GUARD_PERIOD:
            self._looked_at = time.monotonic()
            for guard in self._guards:
                guard.look()


def until_ended(store: Store, addresses: Sequence[Address], what: str) -> Mapping[Address, Tally]:
    """Waits until no unit of these is active or about to run again; returns how many ended in which state.

    Units that are added to a whole experiment meanwhile are waited for too.
    """
    from xmanager.store.wording import duration

    started = time.monotonic()
    vigil = Vigil(store, addresses)
    ids = experiments_of(addresses)
    token: list[object] | None = None
    with ProgressLine() as line:
        while True:
            vigil.keep()
            if (now := [store.change_token(id) for id in ids]) != token:
                tallies, token = {where: tally(store, where) for where in addresses}, now
                total = sum((Counter(one) for one in tallies.values()), Counter())
                if not _is_active(total) and not will_restart(store, addresses):
                    return tallies
                shown = sum((Counter(_shown(store, one)) for one in addresses), Counter())
            elapsed = duration(float(int(time.monotonic() - started)))
            line.show(f'{what}: {wording.states(shown)}   {elapsed}')
            time.sleep(_PERIOD)


def _shown(store: Store, where: Address) -> Tally:
    """As `tally`, in words for people."""
    if where.label:
        return {wording.shown_state(store.unit_by_label(where.experiment_id, where.label)): 1}
    counts = store.counts(where.experiment_id)
    waits = store.waits(where.experiment_id) if counts.get('starting') else []
    return wording.shown_counts(counts, waits)


def tally(store: Store, where: Address) -> dict[str, int]:
    """Units of an address by state."""
    if where.label:
        return {store.unit_by_label(where.experiment_id, where.label).state: 1}
    return store.counts(where.experiment_id)


def experiments_of(addresses: Iterable[Address]) -> list[int]:
    """The experiments of these addresses, each once, in their order."""
    return list(dict.fromkeys(where.experiment_id for where in addresses))


def _is_active(total: Tally) -> bool:
    from xmanager.store.values import ACTIVE_STATES

    return bool(total.keys() & ACTIVE_STATES)


def will_restart(store: Store, addresses: Sequence[Address]) -> bool:
    """Whether a restart was asked for that no supervisor has seen to yet: what has ended will run again."""
    return any(
        request.verb == 'restart'
        for experiment_id in experiments_of(addresses)
        for request in store.requests(experiment_id)
    )
