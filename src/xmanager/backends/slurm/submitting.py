"""Hands batches to `sbatch`, each unit once: what was submitted before is known by the manifests on the cluster."""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from xmanager import faults
from xmanager.backend import Deferred, Rejected, Submitted, Unit
from xmanager.backends.slurm import commands
from xmanager.backends.slurm.arrays import Bounds, batches
from xmanager.backends.slurm.batch import Batch, Manifest, Request, read_manifest
from xmanager.backends.slurm.node.element import read_begun
from xmanager.backends.slurm.site import NoProgramError, Site
from xmanager.errors import UnreachableError

Answer = Submitted | Deferred | Rejected

_LONGEST = 14.0  # Seconds for all that is asked at once: the supervisor has other things to do.
_PATIENCE = 10.0  # Seconds for one call; sbatch itself gives up after 9 when nobody answers.
_SHORTEST = 0.5  # Even if there is no time left.
_SOON = 0.1
_LATER = 10.0
_WHEN_FULL = 30.0


@attrs.frozen
class Origin:
    """From which batch a unit's submission came: `job` and `at` (seconds since the epoch) are of its submission."""

    folder: str
    job: int
    at: float


class _UnsureError(UnreachableError):
    """Nobody can tell now whether Slurm has made a job of a batch."""


class Submissions:
    """All that was submitted from one site for the experiments asked about. `clock` counts seconds."""

    def __init__(
        self,
        site: Site,
        environ: Mapping[str, str],
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._site = site
        self._environ = environ
        self._clock = clock
        self._now = now
        self._latest = math.inf  # When what is asked now must be answered.
        self._bounds: Bounds | None = None
        self._read: set[str] = set()  # Folders of experiments whose manifests are known.
        self._known: dict[str, str] = {}  # References by key.
        self.origins: dict[str, Origin] = {}  # By id of the batch.

    # --- finding

    def find(self, units: Sequence[Unit]) -> Mapping[str, str]:
        """References by key of those that were submitted. Raises UnreachableError if Slurm must be asked in vain."""
        self._latest = self._clock() + _LONGEST
        return self._find(units)

    def _find(self, units: Sequence[Unit]) -> Mapping[str, str]:
        for unit in units:
            folder = os.path.dirname(self._site.folder(unit))
            if folder not in self._read:
                with self._lock(unit):
                    self._read_manifests(folder)
        return {unit.key: self._known[unit.key] for unit in units if unit.key in self._known}

    def place(self, unit: Unit, batch: str) -> str | None:
        """The reference of the unit in this batch, which may be of another supervisor; None if it is not in there."""
        folder = f'{os.path.dirname(self._site.folder(unit))}/slurm/{batch}'
        contents = self._site.read([f'{folder}/batch.json', f'{folder}/job'])
        told, job = contents.get(f'{folder}/batch.json'), contents.get(f'{folder}/job', b'').split()
        number = int(job[0]) if job else self._begun_by(folder)
        if told is None or not number:
            return None
        manifest = _manifest(told, folder)
        self.origins.setdefault(batch, Origin(folder, number, _time(job)))
        return _references(manifest, number).get(unit.key)

    def _read_manifests(self, folder: str) -> None:
        root = f'{folder}/slurm'
        _, names = self._site.list([root]).get(root, (0, ()))
        places = [f'{root}/{name}' for name in names if '.' not in name]
        contents = self._site.read(
            [f'{place}/{file}' for place in places for file in ('batch.json', 'job')]
        )
        unsure = {}
        for place in places:
            told = contents.get(f'{place}/batch.json')
            if told is None:
                continue
            manifest, job = _manifest(told, place), contents.get(f'{place}/job', b'').split()
            if job:
                self._remember(place, manifest, int(job[0]), _time(job))
            else:
                unsure[place] = manifest
        if unsure:
            self._ask_for(unsure)
        self._read.add(folder)

    def _ask_for(self, unsure: Mapping[str, Manifest]) -> None:
        """Whether batches were submitted whose job nobody wrote down. What was not, is removed."""
        names = {manifest.name for manifest in unsure.values()}
        quiet = {**commands.QUIET}
        jobs = commands.read_named(
            self._site.run(commands.named(names), env=quiet, timeout=self._patience())
        )
        if names - jobs.keys():
            answer = self._site.run(
                commands.accounts_named(names), env=quiet, timeout=self._patience()
            )
            jobs = {**commands.read_accounts_named(answer), **jobs}
        for place, manifest in unsure.items():
            job = jobs.get(manifest.name) or self._begun_by(place)
            if job:
                self._note(place, manifest, job, 0.0)  # Nobody knows when it was submitted.
            else:
                self._site.remove([place])

    def _begun_by(self, place: str) -> int:
        """The job that began an element of a batch which Slurm has forgotten; 0 if none did."""
        _, names = self._site.list([f'{place}/begun']).get(f'{place}/begun', (0, ()))
        for content in self._site.read([f'{place}/begun/{n}' for n in names[:3]]).values():
            begun = read_begun(content)
            if begun is not None and begun.job.isdecimal():
                return int(begun.job)
        return 0

    def _note(self, place: str, manifest: Manifest, job: int, at: float) -> None:
        with contextlib.suppress(UnreachableError):  # It is found again by its name.
            self._site.write({f'{place}/job': f'{job}\n{at:.3f}\n'.encode()})
        self._remember(place, manifest, job, at)

    def _remember(self, place: str, manifest: Manifest, job: int, at: float) -> None:
        self.origins[manifest.id] = Origin(place, job, at)
        self._known.update(_references(manifest, job))

    @contextlib.contextmanager
    def _lock(self, unit: Unit) -> Iterator[int]:
        """Held by whoever reads or writes manifests, and by each sbatch until it has ended, whoever dies meanwhile."""
        path = Path(unit.folder).parent / 'slurm.lock'
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UnreachableError(f'{path} could not be made: {error.strerror}.') from error
        try:
            latest = self._clock() + self._patience()
            while not _try_lock(descriptor):
                if self._clock() > latest:
                    raise UnreachableError(
                        f'{path} is locked: an sbatch of an earlier supervisor has not ended yet.'
                    )
                time.sleep(0.02)
            yield descriptor
        finally:
            os.close(descriptor)

    def _patience(self) -> float:
        """Seconds for the next call."""
        return max(_SHORTEST, min(_PATIENCE, self._latest - self._clock()))

    # --- submitting

    def submit(self, requests: Sequence[Request]) -> list[Answer]:
        """One answer for each request, in order. Raises UnreachableError if what was sent may have arrived or not."""
        answers: dict[str, Answer] = {}
        self._latest = self._clock() + _LONGEST
        try:
            known = self._find([request.unit for request in requests])
            bounds = self._limits()
            answers.update((key, Submitted(ref)) for key, ref in known.items())
            fresh = [request for request in requests if request.unit.key not in known]
            answers.update(self._without_secrets(fresh))
            fresh = [request for request in fresh if request.unit.key not in answers]
            answers.update(self._site.prepare([request.unit for request in fresh]))
            fresh = [request for request in fresh if request.unit.key not in answers]
            for batch in self._go_through(batches(fresh, bounds, _new_id), answers):
                answers.update(self._submit(batch))
        except _UnsureError:
            raise
        except UnreachableError as error:
            self._put_off(requests, answers, Deferred(str(error).rstrip('.'), _LATER))
        return [answers[request.unit.key] for request in requests]

    def _put_off(
        self, requests: Sequence[Request], answers: dict[str, Answer], answer: Answer
    ) -> None:
        for request in requests:
            answers.setdefault(request.unit.key, answer)

    def _go_through(self, todo: Sequence[Batch], answers: dict[str, Answer]) -> Iterator[Batch]:
        """The batches, as long as there is time; afterwards what is left is put off."""
        for number, batch in enumerate(todo):
            if self._patience() < (_PATIENCE if number else _PATIENCE / 2):
                for left in todo[number:]:
                    reason = 'sbatch is slow; it will be called again'
                    self._put_off(left.requests, answers, Deferred(reason, _SOON))
                return
            yield batch

    def _without_secrets(self, requests: Sequence[Request]) -> Mapping[str, Rejected]:
        found = {}
        for request in requests:
            for step in request.steps:
                for name in step.secrets.values():
                    if name not in self._environ:
                        why = f'needs the secret {name}, which is not set where its supervisor runs'
                        found[request.unit.key] = Rejected(f'{why}. Export it.', step.task)
        return found

    def _submit(self, batch: Batch) -> dict[str, Answer]:
        """Submits a batch; of an array that is too much at once, the largest half that is not."""
        with self._lock(batch.requests[0].unit) as lock:
            faults.pass_by('slurm.submit.before')
            job, said = self._call(batch, lock)
            faults.pass_by('slurm.submit.after')
            if job is not None:
                told = read_manifest(batch.files[f'{batch.folder}/batch.json'])
                self._note(batch.folder, told, job, self._now())
            else:
                self._site.remove([batch.folder])
        if job is None:
            return self._refused(batch, said)
        keys = [request.unit.key for request in batch.requests]
        return {key: Submitted(self._known[key]) for key in keys}

    def _call(self, batch: Batch, lock: int) -> tuple[int | None, str]:
        """The job that sbatch made, or what it said against it. Raises _UnsureError if it may have made one or not."""
        env = {name: self._environ[name] for name in batch.secrets}
        try:
            answer = self._site.submit(
                batch.files, batch.argv, env=env, timeout=self._patience(), lock=lock
            )
        except NoProgramError:
            self._site.remove([batch.folder])
            raise
        except UnreachableError as error:
            self._forget(batch)
            raise _UnsureError(str(error)) from error
        job, said = commands.read_job(answer), commands.words(answer)
        if job is None and commands.is_out_of_reach(said):
            self._forget(batch)
            raise _UnsureError(f'sbatch: {said}')
        return job, said

    def _forget(self, batch: Batch) -> None:
        """Nobody knows whether it was submitted: before the next call Slurm is asked for it by its name."""
        self._read.discard(batch.requests[0].experiment_folder)

    def _refused(self, batch: Batch, said: str) -> dict[str, Answer]:
        requests = batch.requests
        if not commands.is_full(said):
            return {
                request.unit.key: Rejected(f'Slurm refused it: {said}.') for request in requests
            }
        answers: dict[str, Answer] = {}
        deferred = Deferred(f'Slurm takes no more jobs now ({said})', _WHEN_FULL)
        if len(requests) > 1:
            half = (len(requests) + 1) // 2
            for part in (requests[:half], requests[half:]):
                for smaller in batches(part, self._limits(), _new_id):
                    answers.update(self._submit(smaller))
                if any(isinstance(answer, Deferred) for answer in answers.values()):
                    break
        self._put_off(requests, answers, deferred)
        return answers

    def _limits(self) -> Bounds:
        """What the site allows, asked once."""
        if self._bounds is None:
            answer = self._site.run(commands.CONFIG, timeout=self._patience())
            size = commands.read_config(answer).get('MaxArraySize', '')
            self._bounds = Bounds(max(1, int(size))) if size.isdecimal() else Bounds()
        return self._bounds


def _manifest(told: bytes, place: str) -> Manifest:
    try:
        return read_manifest(told)
    except ValueError as error:
        raise UnreachableError(f'{place}/batch.json can not be read: {error}.') from error


def _time(job: Sequence[bytes]) -> float:
    """When it was submitted, by the words of the file that names it."""
    return float(job[1]) if len(job) > 1 else 0.0


def _references(manifest: Manifest, job: int) -> dict[str, str]:
    """By key."""
    return {
        element.key: f'{job}_{number}@{manifest.id}'
        if manifest.is_array
        else f'{job}@{manifest.id}'
        for number, element in enumerate(manifest.elements)
    }


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _new_id() -> str:
    return f'{int(time.time()):x}{secrets.token_hex(4)}'
