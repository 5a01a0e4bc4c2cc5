"""Watches the submitted units of one site: what their elements record, and what Slurm says of them."""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

import attrs

from xmanager.backend import Observation, TaskObservation, Unit
from xmanager.backends.slurm import commands, states
from xmanager.backends.slurm.commands import Place
from xmanager.backends.slurm.questions import Questions, Word
from xmanager.backends.slurm.site import RECORDS, Looking, Records, Site
from xmanager.backends.slurm.states import Need
from xmanager.backends.slurm.stopping import Stop, Stops, stop_of
from xmanager.backends.slurm.submitting import Submissions
from xmanager.backends.slurm.watched import TaskWatch, UnitWatch
from xmanager.errors import UnreachableError

_SHORTEST, _WAITING, _USUAL, _IDLE = 0.05, 0.1, 0.5, 1.0  # Seconds between two looks.
_SHARE = 10  # A look that takes long is taken so many times more seldom than it takes.
_SETTLING = 0.5  # Seconds from the record of an end until Slurm has heard of it, too.
_REFERENCE = re.compile(r'(?P<job>\d+)(_(?P<element>\d+))?@(?P<batch>.+)')


class Watch:
    """All units of one site that are asked for. `clock` counts seconds, `now` is the calendar's."""

    def __init__(
        self,
        site: Site,
        submissions: Submissions,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`submissions` know where batches came from, if they are of this site."""
        self._site = site
        self._submissions = submissions
        self._clock = clock
        self._now = now
        self._questions = Questions(site, clock)
        self._stops = Stops(site, clock)
        self._units: dict[str, UnitWatch] = {}
        self._live: dict[str, UnitWatch] = {}
        self._told: dict[str, Observation] = {}
        self._live_units: dict[str, Unit] = {}
        self._batches: Counter[tuple[str, int]] = Counter()  # Live units by folder and job.
        self._by_place: dict[tuple[str, int], str] = {}  # References by batch folder and element.
        self._unsettled: set[str] = set()
        self._ended: dict[str, Observation] = {}  # Not told yet.
        self._stopping: dict[str, Stop] = {}
        self._looking: Looking | None = None
        self._look_at = 0.0
        self._looked_at = 0.0
        self._seen_at = -math.inf  # When the last look began that saw all.
        # References of units of whose records looks have told before.
        self._unread: set[str] = set()
        self._looked: set[str] = set()  # Folders whose records were told of.

    # --- the verbs

    @property
    def period(self) -> float:
        """Short while something is on its way to Slurm or from it; while records are looked for, twice a second."""
        if self._ended or (self._stops.is_busy and not self._live):
            return _SHORTEST
        if not self._live:
            return _IDLE
        is_awaited = self.is_asking or self._stopping
        due = self._stops.due_in(self._stopping.values())
        return min(max(due, _SHORTEST), _WAITING if is_awaited else _USUAL)

    @property
    def is_busy(self) -> bool:
        return self._stops.is_busy

    @property
    def is_asking(self) -> bool:
        """Whether a command of Slurm's runs, whose answer tells more."""
        return self._questions.is_waiting or self._stops.is_telling

    def add(self, refs: Mapping[str, Unit]) -> None:
        """Begins to watch these; the known ones go on."""
        fresh = [ref for ref in refs if ref not in self._units]
        for ref in fresh:
            watch = self._begin(ref, self._watch(ref, refs[ref]))
            self._told[ref] = {name: TaskObservation('waiting') for name in watch.tasks}
        if fresh:
            self._questions.hasten()

    def observe(self, refs: Mapping[str, Unit]) -> Mapping[str, Observation]:
        """How they fare. An observation stays the same object as long as it says the same."""
        self.add(refs)
        for ref in self._units.keys() - refs.keys() - self._live.keys() - self._ended.keys():
            del self._units[ref], self._told[ref]  # It has ended, and is asked for no more.
        self._read_again()
        changed = self._look()
        word = self._questions.turn(
            {job for _, job in self._batches},
            self._asking(Need.DETAILS),
            self._asking(Need.HISTORY),
        )
        if word is not None:
            changed |= self._hear(word)
        self._judge(changed | self._unsettled)
        self._stops.advance(self._stopping.values())
        self._tell_ends()
        if [*refs] == [*self._told]:
            return dict(self._told)
        return {ref: self._told[ref] for ref in refs}

    def stop(self, refs: Mapping[str, Unit], grace: float | None) -> None:
        """Asks them to end."""
        self.add(refs)
        now = self._clock()
        fresh = []
        for ref in refs:
            watch = self._units[ref]
            if watch.is_over:
                continue
            stop = stop_of(watch.unit, watch.job, watch.element, grace, now)
            if watch.stop is not None:
                watch.stop.kill_at = min(watch.stop.kill_at, stop.kill_at)
                continue
            stop.begun_at = None if watch.is_waiting else watch.begun_at
            watch.stop = self._stopping[ref] = stop
            fresh.append(stop)
        if fresh:
            self._stops.begin(fresh)
            self._questions.hasten()

    def close(self) -> None:
        """Forgets all; what was told to Slurm stays told."""
        self._questions.close()
        self._stops.close()
        self._units, self._live, self._live_units, self._by_place = {}, {}, {}, {}
        self._told = {}
        self._batches.clear()
        self._unsettled, self._ended, self._stopping = set(), {}, {}
        self._looking, self._looked, self._unread = None, set(), set()

    # --- beginning and ending to watch

    def _begin(self, ref: str, watch: UnitWatch) -> UnitWatch:
        self._units[ref] = self._live[ref] = watch
        self._live_units[ref] = watch.unit
        self._batches[watch.folder, watch.job] += 1
        self._by_place[watch.folder, watch.element or 0] = ref
        self._unsettled.add(ref)
        if watch.folder in self._looked:
            self._unread.add(ref)
        self._look_at = 0.0
        return watch

    def _watch(self, ref: str, unit: Unit) -> UnitWatch:
        match = _REFERENCE.fullmatch(ref)
        if match is None:
            raise ValueError(f'{ref!r} is no reference of a unit that was submitted to Slurm.')
        job, batch = int(match['job']), match['batch']
        element = None if match['element'] is None else int(match['element'])
        origin = self._submissions.origins.get(batch)
        folder = origin.folder if origin else f'{self._experiment(unit)}/slurm/{batch}'
        tasks = {
            task.name: TaskWatch(task, (job, element or 0, component))
            for component, task in enumerate(unit.tasks)
        }
        submitted_at = origin.at if origin else 0.0
        since = self._clock()
        return UnitWatch(unit, job, element, folder, since, submitted_at, tasks)

    def _experiment(self, unit: Unit) -> str:
        return self._site.folder(unit).rpartition('/')[0]

    def _read_again(self) -> None:
        """What looks have told already of units that were not watched then."""
        try:
            for ref in [*self._unread]:
                watch = self._units.get(ref)
                if watch is not None:
                    self._take({watch.folder: self._records_of(watch)})
                self._unread.discard(ref)
        except UnreachableError:  # Tried again at the next turn.
            return

    def _records_of(self, watch: UnitWatch) -> Mapping[str, bytes]:
        folders = [f'{watch.folder}/{kind}' for kind in RECORDS]
        mine = f'{watch.element or 0}.'
        paths = [
            f'{folder}/{name}'
            for folder, (_, names) in self._site.list(folders).items()
            for name in names
            if name.startswith(mine)
        ]
        cut = len(watch.folder) + 1
        return {path[cut:]: content for path, content in self._site.read(paths).items()}

    # --- looking

    def _look(self) -> set[str]:
        """References of units of which there are new records."""
        now = self._clock()
        if self._looking is None:
            if now < self._look_at or not self._live:
                return set()
            self._looked_at = now
        try:
            self._looking = self._looking or self._begin_to_look()
            records = self._looking.poll()
            has_seen = True
        except UnreachableError:  # The next look sees what this one missed.
            records, has_seen = {}, False
        if records is None:
            return set()
        self._seen_at = self._looked_at if has_seen else self._seen_at
        self._looking = None
        changed = self._take(records)
        now = self._clock()
        self._look_at = now + (now - self._looked_at) * _SHARE
        return changed

    def _begin_to_look(self) -> Looking:
        folders = [*{folder: None for folder, _ in self._batches}]
        self._looked.update(folders)
        return self._site.look(folders)

    def _take(self, records: Records) -> set[str]:
        now, noticed_at = self._clock(), self._now()
        changed = set()
        for folder, files in records.items():
            for path, content in files.items():
                kind, _, name = path.partition('/')
                element, component, restart = (int(number) for number in name.split('.'))
                ref = self._by_place.get((folder, element))
                tasks = [*self._units[ref].tasks.values()] if ref else []
                if ref and component < len(tasks):
                    task = tasks[component]
                    # What is there at the first look was there before.
                    at = -math.inf if task.verdict is None else now
                    task.record(kind, restart, content, at, noticed_at)
                    changed.add(ref)
        return changed

    # --- asking and hearing

    def _asking(self, need: Need) -> dict[Place, str]:
        """Those of which more is to be asked; Slurm itself hears of an end a moment after it was recorded."""
        latest = self._clock() - _SETTLING
        found = {}
        for ref in self._unsettled:
            watch = self._units[ref]
            for task in watch.tasks.values():
                if task.need is need and task.recorded_at <= latest:
                    found[task.place] = watch.name
        return found

    def _hear(self, word: Word) -> set[str]:
        changed = set()
        refs: Iterable[str] = self._live if word.is_news and word.asked is None else self._unsettled
        for ref in refs:
            watch = self._units[ref]
            for task in watch.tasks.values():
                if word.asked is not None and task.place not in word.asked:
                    continue
                if max(task.recorded_at, watch.since) >= word.asked_at:
                    continue
                row = commands.find(word.rows, task.place)
                if row is not None and (word.kind is not Need.HISTORY or states.is_over(row)):
                    if row != task.row or task.need is not Need.NOTHING:
                        changed.add(ref)
                    task.hear(row, word.asked_at)
                else:
                    task.miss(word.kind, word.asked_at)
                    changed.add(ref)
        return changed

    # --- judging

    def _judge(self, refs: Iterable[str]) -> None:
        now = self._clock()
        for ref in [*refs]:
            watch = self._live.get(ref)
            if watch is None:
                continue
            if watch.superseded_by and self._follow(ref, watch):
                continue
            seen = watch.judge(now, self._seen_at, tells_who=self._questions.tells_who)
            if watch.stop is not None and watch.stop.begun_at is None and watch.has_begun:
                watch.stop.begun_at = now
            if watch.is_over:
                if watch.stop is not None and watch.has_begun:
                    self._stops.finish(watch.stop)
                self._ended[ref] = seen
                self._let_go(ref)
                continue
            if seen != self._told[ref]:
                self._told[ref] = seen
            if watch.is_unsettled:
                self._unsettled.add(ref)
            else:
                self._unsettled.discard(ref)

    def _follow(self, ref: str, watch: UnitWatch) -> bool:
        """Whether the batch that has taken this attempt is watched in place of its own from now on."""
        if watch.is_followed:
            return False
        try:
            other = self._submissions.place(watch.unit, watch.superseded_by)
        except UnreachableError:  # Tried again at the next turn.
            self._unsettled.add(ref)
            return True
        if other is None:
            return False
        self._let_go(ref)
        followed = self._begin(ref, self._watch(other, watch.unit))
        followed.is_followed = True
        if watch.stop is not None:
            stop = attrs.evolve(watch.stop, job=followed.job, element=followed.element)
            followed.stop = self._stopping[ref] = stop
            self._stops.begin([stop])
        return True

    def _let_go(self, ref: str) -> None:
        """Its end is known."""
        watch = self._live.pop(ref, None)
        self._unsettled.discard(ref)
        self._stopping.pop(ref, None)
        if watch is None:
            return
        del self._live_units[ref]
        del self._by_place[watch.folder, watch.element or 0]
        batch = watch.folder, watch.job
        self._batches[batch] -= 1
        if not self._batches[batch]:
            del self._batches[batch]

    def _tell_ends(self) -> None:
        """Ends are told once what the units left is here."""
        ended = {ref: self._units[ref].unit for ref in self._ended}
        try:
            here = self._site.mirror(self._live_units, ended)
        except UnreachableError:  # Tried again at the next turn.
            return
        for ref in here:
            if ref in self._ended:
                self._told[ref] = self._ended.pop(ref)
