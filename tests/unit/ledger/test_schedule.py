"""Who starts: order, gangs, reservations, backfill, and days of simulated time on a host of 8 GPUs."""

import pytest
from tests.unit.ledger.simulation import (
    GPUS,
    HOST,
    Arrival,
    Ran,
    greedy,
    ours,
    random_arrivals,
    run,
)

from xmanager.ledger import Hold, Space, Want, schedule

NOW = 1000.0


def want(id: int, *gpus: float, importance: int = 0, limit: float | None = None, cpu: float = 1.0):
    demand = {f'job{n}': {'cpu': cpu, 'local_gpu': amount} for n, amount in enumerate(gpus)}
    return Want('me', id, str(id), importance, float(id), demand or {'job': {'cpu': cpu}}, limit)


def hold(*devices: str, ends_by: float | None = None, cpu: float = 1.0) -> Hold:
    demand = {'job': {'cpu': cpu, 'local_gpu': float(len(devices))}}
    return Hold('key', '9', demand, {'job': {'local_gpu': devices}}, 0.0, ends_by)


def started(wants: list[Want], *holds: Hold) -> list[int]:
    space = Space(HOST)
    for one in holds:
        space.take(one.demand, one.grant)
    return [start.want.id for start in schedule(space, holds, wants, NOW)]


def test_units_start_in_the_order_in_which_they_came():
    assert started([want(3, 3), want(1, 3), want(2, 3)]) == [1, 2]


def test_the_more_important_goes_first():
    assert started([want(1, 8), want(2, 8, importance=1), want(3, 8, importance=-1)]) == [2]


def test_a_gang_starts_whole_or_not_at_all():
    assert started([want(1, 4, 4, 1)]) == []
    assert started([want(1, 4, 3, 1)]) == [1]


def test_who_asks_for_no_gpu_passes_a_gang_that_waits_for_gpus():
    assert started([want(1, 8), want(2)], hold('0')) == [2]


def test_who_asks_for_a_gpu_does_not_pass_a_gang_whose_turn_nobody_knows():
    assert started([want(1, 8), want(2, 1)], hold('0')) == []
    assert started([want(1, 8), want(2, 1, limit=5.0)], hold('0')) == []


def test_who_will_have_ended_by_then_passes_a_gang():
    first = hold('0', ends_by=NOW + 60)
    assert started([want(1, 8), want(2, 1, limit=60.0), want(3, 1, limit=61.0)], first) == [2]


def test_who_runs_longer_passes_a_gang_on_what_the_gang_leaves_over():
    first = hold('0', '1', '2', '3', '4', '5', ends_by=NOW + 60)
    # At the turn of the gang of 6, two devices are left over; the third one would delay it.
    assert started([want(1, 6), want(2, 1), want(3, 1), want(4, 1)], first) == [2, 3]


def test_what_should_have_ended_long_ago_opens_no_gap():
    late = hold('0', ends_by=NOW - 100)
    assert started([want(1, 8), want(2, 1, limit=5.0)], late) == []


def test_an_endless_stream_of_small_units_does_not_starve_a_gang():
    one = {'job': {'cpu': 1.0, 'local_gpu': 1.0}}
    stream = [
        Arrival(n * 50.0, 400.0, Want('me', n, str(n), 0, n * 50.0, one, 500.0)) for n in range(500)
    ]
    gang = Arrival(
        5000.5, 100.0, Want('you', 1, '1', 0, 5000.5, {'job': {'cpu': 1.0, 'local_gpu': 8.0}})
    )
    ran = {one.arrival.want.owner: one for one in run([*stream, gang], ours) if one.arrival is gang}
    ahead = [a for a in stream if a.at < gang.at]
    assert ran['you'].start <= ahead[-1].at + 500.0


def test_two_parts_of_a_gpu_share_one_and_a_third_part_does_not_fit():
    demand = {'job': {'local_gpu': 0.5}}
    space = Space(HOST, {'local_gpu': GPUS[1:]})
    wants = [Want('me', id, str(id), 0, 0.0, demand) for id in (1, 2, 3)]
    starts = schedule(space, [], wants, NOW)
    assert [(start.want.id, start.grant) for start in starts] == [
        (1, {'job': {'local_gpu': ('0',)}}),
        (2, {'job': {'local_gpu': ('0',)}}),
    ]


def test_a_part_goes_where_the_least_is_left_over():
    space = Space(HOST)
    space.take({'a': {'local_gpu': 0.25}}, {'a': {'local_gpu': ('3',)}})
    space.take({'a': {'local_gpu': 0.5}}, {'a': {'local_gpu': ('5',)}})
    assert space.place({'job': {'local_gpu': 0.5}}) == {'job': {'local_gpu': ('5',)}}
    assert space.place({'job': {'local_gpu': 0.6}}) == {'job': {'local_gpu': ('3',)}}


def test_what_a_reservation_needs_of_a_device_in_parts_is_kept():
    part = Hold('k', '9', {'a': {'local_gpu': 0.5}}, {'a': {'local_gpu': ('0',)}}, 0.0, None)
    half = Want('me', 2, '2', 0, 2.0, {'job': {'local_gpu': 0.5}})
    assert started([want(1, 8), half], part) == []


def test_a_device_that_strangers_use_is_given_to_nobody():
    space = Space(HOST, {'local_gpu': {'0', '2'}})
    assert space.place({'job': {'local_gpu': 2.0}}) == {'job': {'local_gpu': ('1', '3')}}
    assert space.free('local_gpu') == 6


def test_one_want_of_many_units_stands_for_each_of_them():
    one = Want('you', 1, '1', 0, 0.0, {'job': {'cpu': 1.0, 'local_gpu': 2.0}}, None, count=3)
    assert started([one, want(5, 4)]) == [1, 1, 1]


def assert_never_too_much(ran: list[Ran]) -> None:
    """At no time is more given than there is."""
    changes: list[tuple[float, int, Ran]] = []
    for one in ran:
        changes += [(one.start, 1, one), (one.end, 0, one)]
    used = dict.fromkeys(GPUS, 0.0)
    cpus = 0.0
    for _, begins, one in sorted(changes, key=lambda change: change[:2]):
        sign = 1 if begins else -1
        for task, amounts in one.arrival.want.demand.items():
            cpus += sign * amounts['cpu']
            for name in one.grant.get(task, {}).get('local_gpu', ()):
                used[name] += sign * min(1.0, amounts['local_gpu'])
                assert used[name] <= 1.0 + 1e-6
        assert cpus <= 64.0 + 1e-6


@pytest.mark.parametrize('limits', [1.0, 0.5, 0.0])
@pytest.mark.parametrize('seed', range(3))
def test_random_arrivals_never_get_more_than_there_is(seed, limits):
    arrivals = random_arrivals(seed, 600, limits=limits)
    ran = run(arrivals, ours)
    assert len(ran) == len(arrivals)
    assert_never_too_much(ran)


@pytest.mark.parametrize('limits', [1.0, 0.0])
@pytest.mark.parametrize('seed', range(3))
def test_no_unit_waits_for_more_than_those_before_it(seed, limits):
    """Each of those before it may cost it the longest of all runs, at most: who comes behind costs it nothing."""
    ran = run(random_arrivals(seed, 300, limits=limits, load=2.0), ours)
    longest = max(one.arrival.want.limit or one.arrival.seconds for one in ran)
    for one in ran:
        came, rank = one.arrival.at, one.arrival.want.rank
        before = sum(other.end > came and other.arrival.want.rank < rank for other in ran)
        running = any(other.start <= came < other.end for other in ran)
        assert one.start - came <= (before + running) * longest


@pytest.mark.parametrize('seed', range(4))
def test_utilisation_is_within_a_tenth_of_a_greedy_bound(seed):
    """Against whoever fits starts, largest first, gangs of nobody's turn: what one could reach without fairness."""
    arrivals = random_arrivals(seed, 1000, limits=1.0)
    work = sum(arrival.gpus * arrival.seconds for arrival in arrivals)
    used, bound = (
        work / (8 * max(one.end for one in run(arrivals, pick))) for pick in (ours, greedy)
    )
    assert used >= 0.9 * bound
