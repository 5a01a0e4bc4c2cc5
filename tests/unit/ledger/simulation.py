"""Days on a simulated host of 8 GPUs: random arrivals, a scheduler, and what came of it."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence

import attrs

from xmanager.backend import Capacity, Grant
from xmanager.ledger import Hold, Space, Want, schedule

GPUS = tuple(str(index) for index in range(8))
HOST = Capacity({'cpu': 64.0, 'local_gpu': 8.0}, {'local_gpu': GPUS})


@attrs.frozen
class Arrival:
    """A unit that comes at a time, runs for so long (seconds), and may say how long it runs at most."""

    at: float
    seconds: float
    want: Want

    @property
    def gpus(self) -> float:
        return sum(task.get('local_gpu', 0.0) for task in self.want.demand.values())


@attrs.define
class Ran:
    """A unit that ran: when it started and ended, and where."""

    arrival: Arrival
    start: float
    grant: Grant

    @property
    def end(self) -> float:
        return self.start + self.arrival.seconds


Pick = Callable[[Space, Sequence[Hold], Sequence[Arrival], float], list[tuple[Arrival, Grant]]]


def ours(
    space: Space, holds: Sequence[Hold], waiting: Sequence[Arrival], now: float
) -> list[tuple[Arrival, Grant]]:
    """The scheduler under test."""
    by_want = {arrival.want.id: arrival for arrival in waiting}
    starts = schedule(space, holds, [arrival.want for arrival in waiting], now)
    return [(by_want[start.want.id], start.grant) for start in starts]


def greedy(
    space: Space, holds: Sequence[Hold], waiting: Sequence[Arrival], now: float
) -> list[tuple[Arrival, Grant]]:
    """Whoever fits starts, the largest first, whoever else waits: no GPU is idle that somebody could use."""
    started = []
    for arrival in sorted(waiting, key=lambda a: (-a.gpus, -a.seconds)):
        grant = space.place(arrival.want.demand)
        if grant is not None:
            space.take(arrival.want.demand, grant)
            started.append((arrival, grant))
    return started


def run(arrivals: Sequence[Arrival], pick: Pick) -> list[Ran]:
    """All arrivals, each run once; in the order of their starts."""
    coming = sorted(arrivals, key=lambda arrival: arrival.at)[::-1]
    waiting: list[Arrival] = []
    running: list[tuple[float, int, Ran]] = []
    ran: list[Ran] = []
    while coming or waiting:
        times = ([coming[-1].at] if coming else []) + ([running[0][0]] if running else [])
        assert times, f'{len(waiting)} units wait on an idle host'
        now = min(times)
        while coming and coming[-1].at <= now:
            waiting.append(coming.pop())
        while running and running[0][0] <= now:
            heapq.heappop(running)
        holds = [_hold(one) for _, _, one in running]
        space = Space(HOST)
        for hold in holds:
            space.take(hold.demand, hold.grant)
        for arrival, grant in pick(space, holds, waiting, now):
            waiting.remove(arrival)
            one = Ran(arrival, now, grant)
            ran.append(one)
            heapq.heappush(running, (one.end, arrival.want.id, one))
    return ran


def _hold(one: Ran) -> Hold:
    want = one.arrival.want
    ends_by = None if want.limit is None else one.start + want.limit
    return Hold(str(want.id), want.unit, want.demand, one.grant, one.start, ends_by)


def random_arrivals(seed: int, count: int, *, limits: float, load: float = 1.1) -> list[Arrival]:
    """Units of 1 GPU, parts of one, and gangs of 2 to 8; `limits` is the share of those that state how long they run.

    `load` is how much work comes in, over what 8 GPUs can do.
    """
    random_ = random.Random(seed)
    kinds = [(0.5, 1), (1.0, 1), (2.0, 1), (4.0, 1), (1.0, 4), (1.0, 8), (0.0, 1)]
    weights = [10, 50, 12, 6, 6, 2, 14]
    arrivals: list[Arrival] = []
    at = 0.0
    for id in range(count):
        gpus, tasks = random_.choices(kinds, weights)[0]
        seconds = min(4 * 3600.0, random_.lognormvariate(6.0, 1.0))
        limit = seconds * random_.uniform(1.0, 3.0) if random_.random() < limits else None
        demand = {f'job{n}': {'cpu': 1.0, 'local_gpu': gpus} for n in range(tasks)}
        importance = random_.choices([1, 0, -1], [1, 8, 1])[0]
        want = Want(f'e{id % 5}', id, str(id), importance, at, demand, limit)
        arrivals.append(Arrival(at, seconds, want))
        at += random_.expovariate(1.0) * seconds * gpus * tasks / (8 * load)
    return arrivals


def main() -> None:
    """What the page docs/how-to/queue.md says of timeouts: `python -m tests.unit.ledger.simulation`."""
    cases: list[tuple[str, Pick, float]] = [
        ('everybody states a limit', ours, 1.0),
        ('every other one', ours, 0.5),
        ('nobody', ours, 0.0),
        ('whoever fits, largest first', greedy, 1.0),
    ]
    for name, pick, limits in cases:
        ran: list[Ran] = []
        busy = []
        for seed in range(4):
            ran += (days := run(random_arrivals(seed, 1000, limits=limits), pick))
            work = sum(one.arrival.gpus * one.arrival.seconds for one in days)
            busy.append(work / (8 * max(one.end for one in days)))
        waits = [(one.arrival.gpus, (one.start - one.arrival.at) / 3600) for one in ran]
        whole = [hours for gpus, hours in waits if gpus == 8]
        mean = sum(hours for _, hours in waits) / len(waits)
        print(
            f'{name:28}  busy {sum(busy) / len(busy):.0%}  mean wait {mean:.1f} h, '
            f'for 8 GPUs {sum(whole) / len(whole):.1f} h'
        )


if __name__ == '__main__':
    main()
