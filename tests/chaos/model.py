"""From a seed to a small workload and a plan of deaths. Pure: the same seed makes the same plan for ever."""

from __future__ import annotations

import random
from typing import Any

import attrs

POINTS = (
    *('commit.before', 'commit.after', 'spawn.before', 'spawn.after'),
    *('ledger.before', 'ledger.after', 'adopt', 'stop.sent'),
)
COMMITS = POINTS[:2]
_ENDLESS = 600


@attrs.frozen
class Behaviour:
    """What a job does in one attempt: it takes some seconds, then exits with `code` or kills itself by that signal.

    Kinds: `exit`, `kill`; `ignore` ignores TERM and exits; `leave` leaves a process behind and exits; `hang` runs
    until its time is up.
    """

    kind: str
    code: int
    seconds: float

    def __str__(self) -> str:
        return f'{self.kind}:{self.code}:{self.seconds:g}'

    @property
    def is_good(self) -> bool:
        return self.kind != 'hang' and self.code == 0


@attrs.frozen
class PlannedJob:
    """One job: its behaviour in each attempt (the last one holds for all further ones)."""

    name: str
    behaviours: tuple[Behaviour, ...]
    options: dict[str, Any]
    gpus: float = 0


@attrs.frozen
class PlannedUnit:
    """Jobs that start together."""

    jobs: tuple[PlannedJob, ...]
    importance: str

    @property
    def retries_any_failure(self) -> bool:
        return self.max_restarts > 0 and all(
            not job.options.get('timeout') and not job.options.get('restart_on')
            for job in self.jobs
        )

    @property
    def max_restarts(self) -> int:
        """Automatic restarts: the supervisor grants a unit as many as the job that went wrong has."""
        return max(int(job.options.get('max_restarts', 0)) for job in self.jobs)


@attrs.frozen
class Launch:
    """One launcher with its units. `faults` are for the supervisors that it starts, or for itself."""

    title: str
    units: tuple[PlannedUnit, ...]
    detach: bool
    faults: str
    strikes_launcher: bool


@attrs.frozen
class Step:
    """Something that happens once the jobs have told the oracle so many lines, and some seconds later.

    `launch` starts the next launcher; `command` runs `xmanager` with `words` (killed after `dies_after` seconds, or
    by `faults`, if these aren't for the supervisors that it starts); `kill-supervisors`, `kill-launchers`,
    `kill-commands`, `kill-all` and `kill-runner` are SIGKILL; `interrupt` is Ctrl-C at the launchers; `freeze` stops
    the supervisors for a moment; after `reboot` no process is left, of jobs neither.
    """

    lines: int
    delay: float
    act: str
    words: tuple[str, ...] = ()
    dies_after: float | None = None
    faults: str = ''
    strikes_command: bool = False


@attrs.frozen
class Plan:
    """All that is decided before anything runs."""

    seed: int
    cpus: int
    gpus: int
    launches: tuple[Launch, ...]
    steps: tuple[Step, ...]


def make_plan(seed: int) -> Plan:
    """The plan of a seed."""
    rng = random.Random(seed)
    cpus = rng.choice((2, 3, 4))
    gpus = rng.choice((0, 0, 1, 2))
    launches = tuple(
        _launch(rng, f'chaos-{number}', cpus, gpus) for number in range(rng.choice((1, 1, 1, 2)))
    )
    jobs = sum(len(unit.jobs) for launch in launches for unit in launch.units)
    times = sorted(rng.randint(0, round(1.5 * jobs)) for _ in range(rng.randint(1, 5)))
    steps = [_step(rng, lines, launches) for lines in times]
    for _ in launches[1:]:
        steps.insert(rng.randint(0, len(steps)), Step(0, rng.uniform(0, 0.3), 'launch'))
    return Plan(seed, cpus, gpus, launches, tuple(steps))


def _launch(rng: random.Random, title: str, cpus: int, gpus: int) -> Launch:
    units = tuple(_unit(rng, cpus, gpus) for _ in range(rng.randint(2, 7)))
    strikes_launcher = rng.random() < 0.15
    own = f'{rng.choice(COMMITS)}:{rng.randint(1, 4)}'
    faults = own if strikes_launcher else _faults(rng)
    return Launch(title, units, rng.random() < 0.3, faults, strikes_launcher)


def _faults(rng: random.Random) -> str:
    """The deaths of some supervisors, one after another."""
    return ' '.join(_fault(rng) for _ in range(rng.choice((0, 1, 1, 2, 3))))


def _fault(rng: random.Random) -> str:
    point = rng.choice(('any', *POINTS[:6], *POINTS))
    most = {'any': 20, 'adopt': 1, 'stop.sent': 1, 'spawn.before': 4, 'spawn.after': 4}
    return f'{point}:{rng.randint(1, most.get(point, 8))}'


def _unit(rng: random.Random, cpus: int, gpus: int) -> PlannedUnit:
    count = min(cpus, rng.choice((1, 1, 1, 2, 3)))
    options = _retries(rng) if rng.random() < 0.4 else {}
    devices = [rng.choice((0, 0, 0, 0.5, 1)) if gpus else 0 for _ in range(count)]
    while sum(devices) > gpus:
        devices[devices.index(max(devices))] = 0
    jobs = [_job(rng, f'job{number}', options, devices[number]) for number in range(count)]
    return PlannedUnit(tuple(jobs), rng.choice(('high', 'normal', 'normal', 'low')))


def _retries(rng: random.Random) -> dict[str, Any]:
    options: dict[str, Any] = {'max_restarts': rng.choice((1, 2)), 'backoff': 0.05}
    if rng.random() < 0.3:
        options['restart_on'] = rng.choice((['lost'], [75, 'SIGSEGV'], ['failure']))
    return options


def _job(rng: random.Random, name: str, options: dict[str, Any], gpus: float) -> PlannedJob:
    behaviours = [_behaviour(rng) for _ in range(rng.choice((1, 1, 2)))]
    own = dict(options, grace=rng.choice((0.05, 0.2, 2.0)))
    if any(behaviour.kind == 'hang' for behaviour in behaviours):
        own['timeout'] = 0.3
        behaviours = [b if b.kind == 'hang' else Behaviour('exit', 0, 0.02) for b in behaviours]
    return PlannedJob(name, tuple(behaviours), own, gpus)


def _behaviour(rng: random.Random) -> Behaviour:
    seconds = round(rng.uniform(0.01, rng.choice((0.1, 0.2, 0.8))), 3)
    kind = rng.choices(('exit', 'kill', 'ignore', 'leave', 'hang'), (14, 2, 2, 1, 1))[0]
    if kind == 'hang':
        return Behaviour('hang', 0, _ENDLESS)
    if kind == 'kill':
        return Behaviour('kill', rng.choice((6, 9, 11, 15)), seconds)
    if kind == 'ignore':
        return Behaviour('ignore', 0, 2 * seconds)
    return Behaviour(kind, rng.choice((0, 0, 0, 1, 75)), seconds)


_ACTS = {
    'kill-supervisors': 6,
    'kill-launchers': 3,
    'kill-commands': 1,
    'kill-all': 3,
    'kill-runner': 1,
    'interrupt': 1,
    'freeze': 1,
    'reboot': 2,
    'command': 9,
}


def _step(rng: random.Random, lines: int, launches: tuple[Launch, ...]) -> Step:
    act = rng.choices([*_ACTS], [*_ACTS.values()])[0]
    delay = rng.choice((0.0, rng.uniform(0, 0.05), rng.uniform(0, 0.4)))
    if act != 'command':
        return Step(lines, delay, act)
    dies_after = rng.choice((None, None, None, rng.uniform(0.1, 0.5)))
    words = _command(rng, launches)
    if rng.random() < 0.15:
        return Step(lines, delay, act, words, dies_after, f'{rng.choice(COMMITS)}:1', True)
    return Step(lines, delay, act, words, dies_after, _faults(rng))


def _command(rng: random.Random, launches: tuple[Launch, ...]) -> tuple[str, ...]:
    number = rng.randint(1, len(launches))
    units = range(1, len(launches[number - 1].units) + 1)
    some = tuple(f'{number}.{unit}' for unit in rng.sample(units, rng.choice((1, 2))))
    return rng.choice(
        (
            ('stop', *some),
            ('stop', *some, '--no-wait'),
            ('stop', f'{number}'),
            ('restart', *some),
            ('restart', '--all', *some),
            ('restart', f'{number}'),
            ('move', *some, '--importance', rng.choice(('high', 'low'))),
            ('supervise', f'{number}'),
            ('pause', f'{number}'),
            ('resume', f'{number}'),
            ('wait', *some),
        )
    )
