"""Why somebody waits, in sentences."""

from datetime import datetime

import attrs
import pytest

from xmanager.backend import Capacity
from xmanager.ledger import Entry, Hold, Want, explain
from xmanager.ledger.explain import Waiting, Who
from xmanager.ledger.sentences import Speaker, amount, devices_in_words, holds_in_words

GIB = 1024.0**3
HOST = Capacity(
    {'cpu': 8.0, 'ram': 64 * GIB, 'local_gpu': 4.0}, {'local_gpu': ('0', '1', '2', '3')}
)
NOW = datetime(2026, 3, 5, 14, 30).timestamp()
SINCE = datetime(2026, 3, 5, 14, 2).timestamp()


def entry(experiment_id=12, user='ada', home='/home', holds=(), wants=(), **facts):
    """An experiment that holds and wants these."""
    owner = f'{user}{home}-{experiment_id}'
    return Entry(
        owner=owner,
        user=user,
        home=home,
        experiment_id=experiment_id,
        pid=1,
        wake_pipe='',
        holds=tuple(holds),
        wants=tuple(want(owner, n, **one) for n, one in enumerate(wants, 1)),
        **{'capacity': HOST, **facts},
    )


def want(owner, number, *jobs, importance=0, limit=None, count=1, since=SINCE, **demand):
    demands = {f'job{n}': job for n, job in enumerate(jobs or [demand])}
    return Want(owner, number, str(number), importance, since, demands, limit, count)


def hold(*devices, ends_by=None, since=SINCE, share=1.0, **demand):
    whole = len(devices) if share == 1.0 else share
    if devices:
        demand['local_gpu'] = float(whole)
    grant = {'job': {'local_gpu': devices}} if devices else {}
    return Hold('key', '1', {'job': demand}, grant, since, ends_by)


def sentences(*entries, user='ada', home='/home'):
    speaker = Speaker(user, home, NOW)
    return [speaker.sentence(one) for one in explain.explain(entries, NOW)]


GPUS = {'local_gpu': 4.0}
NINE = {'experiment_id': 9}


@pytest.mark.parametrize(
    ('entries', 'sentence'),
    [
        (
            [entry(wants=[GPUS]), entry(**NINE, holds=[hold('0', '1')])],
            'for 4 GPUs; 2 are free, experiment 9 holds 2 since 14:02',
        ),
        (
            [entry(wants=[GPUS]), entry(**NINE, holds=[hold('0', '1', '2')])],
            'for 4 GPUs; 1 is free, experiment 9 holds 3 since 14:02',
        ),
        (
            [entry(wants=[{'local_gpu': 1.0}], holds=[hold('0', '1', '2', '3')])],
            'for 1 GPU; none is free, other units of it hold 4 since 14:02',
        ),
        (
            [entry(wants=[GPUS]), entry(4, 'bo', '/bo', holds=[hold('0')])],
            "for 4 GPUs; 3 are free, user bo's experiment 4 holds 1 since 14:02",
        ),
        (
            [entry(wants=[GPUS]), entry(4, 'ada', '/other', holds=[hold('0')])],
            'for 4 GPUs; 3 are free, experiment 4 of /other holds 1 since 14:02',
        ),
        (
            [entry(wants=[GPUS]), entry(**NINE, holds=[hold('0', ends_by=NOW + 600)])],
            'for 4 GPUs; 3 are free, experiment 9 holds 1 since 14:02 till 14:40 at the latest',
        ),
        (
            [entry(wants=[GPUS]), entry(**NINE, holds=[hold('0', since=SINCE - 86400)])],
            'for 4 GPUs; 3 are free, experiment 9 holds 1 since 2026-03-04 14:02',
        ),
        (
            [
                entry(wants=[GPUS]),
                *(entry(number, holds=[hold(str(number))]) for number in (0, 1, 2, 3)),
            ],
            'for 4 GPUs; none is free, experiment 0 holds 1 since 14:02, experiment 1 holds 1 since 14:02, '
            'experiment 2 holds 1 since 14:02, another one holds 1',
        ),
        (
            [entry(wants=[GPUS], strangers={'local_gpu': ('3',)})],
            'for 4 GPUs; 3 are free, a process that is none of ours uses GPU 3',
        ),
        (
            [entry(wants=[GPUS], strangers={'local_gpu': ('1', '3')})],
            'for 4 GPUs; 2 are free, processes that are none of ours use GPUs 1 and 3',
        ),
        (
            [entry(wants=[{'cpu': 4.0}]), entry(**NINE, holds=[hold(cpu=6.5)])],
            'for 4 CPUs; 1.5 are free, experiment 9 holds 6.5 since 14:02',
        ),
        (
            [entry(wants=[{'ram': 16 * GIB}]), entry(**NINE, holds=[hold(ram=60 * GIB)])],
            'for 16 GiB of memory; 4 GiB is free, experiment 9 holds 60 GiB since 14:02',
        ),
        (
            [
                entry(wants=[{'cpu': 1.0, 'ram': 16 * GIB}]),
                entry(**NINE, holds=[hold(cpu=8.0, ram=60 * GIB)]),
            ],
            'for 1 CPU and 16 GiB of memory; no CPU is free, experiment 9 holds 8 since 14:02; '
            '4 GiB of memory is free, experiment 9 holds 60 GiB since 14:02',
        ),
        (
            [
                entry(wants=[{'local_gpu': 0.6}]),
                entry(**NINE, holds=[hold('0', '1', '2'), hold('3', share=0.5)]),
            ],
            'for 0.6 of a GPU; 0.5 is free of one, experiment 9 holds 3.5 since 14:02',
        ),
        (
            [
                entry(wants=[{'local_gpu': 1.0}]),
                entry(**NINE, holds=[hold('0', '1', '2'), hold('3', share=0.5)]),
            ],
            'for 1 GPU; none is free, experiment 9 holds 3.5 since 14:02',
        ),
    ],
)
def test_who_waits_is_told_what_is_short_and_who_has_it(entries, sentence):
    assert sentences(*entries) == [f'experiment 12 unit 1 waits since 14:02 {sentence}']


def test_a_group_is_told_by_what_it_needs_in_all():
    jobs = [{'local_gpu': 1.0}, {'local_gpu': 2.0}, {'local_gpu': 0.5}, {'local_gpu': 0.5}]
    group = entry()
    group = attrs.evolve(group, wants=(want(group.owner, 1, *jobs),))
    told = sentences(group, entry(9, holds=[hold('0')]))
    assert told == [
        'experiment 12 unit 1 waits since 14:02 for 3 GPUs and 2 × 0.5 of a GPU; '
        '3 are free, experiment 9 holds 1 since 14:02'
    ]


def test_what_is_held_of_devices_that_one_may_not_use_is_not_told():
    mine = Capacity({'local_gpu': 1.0}, {'local_gpu': ('3',)})
    told = sentences(
        entry(wants=[{'local_gpu': 1.0}], capacity=mine),
        entry(9, holds=[hold('0', '1')]),
        entry(8, holds=[hold('3')]),
    )
    assert told == [
        'experiment 12 unit 1 waits since 14:02 for 1 GPU; none is free, experiment 8 holds 1 since 14:02'
    ]


def test_who_would_fit_is_told_behind_whom_he_is():
    told = sentences(
        entry(wants=[{'local_gpu': 1.0}]),
        entry(9, holds=[hold('0')], wants=[{'since': SINCE - 60, **GPUS}]),
    )
    assert told == [
        'experiment 9 unit 1 waits since 14:01 for 4 GPUs; 3 are free, other units of it hold 1 since 14:02',
        'experiment 12 unit 1 waits since 14:02; its turn is after experiment 9 unit 1, which waits for 4 GPUs',
    ]


def test_the_one_ahead_may_be_of_another_home_or_user():
    one = entry(wants=[{'local_gpu': 1.0}])
    for user, home, name in (
        ('ada', '/other', 'experiment 9 unit 1 of /other'),
        ('bo', '/bo', "user bo's experiment 9 unit 1"),
    ):
        big = entry(9, user, home, holds=[hold('0')], wants=[{'importance': 1, **GPUS}])
        assert f'its turn is after {name}, which waits for 4 GPUs' in sentences(one, big)[1]


def test_who_may_start_is_about_to_and_counts_as_started_for_the_others():
    told = sentences(entry(wants=[GPUS]), entry(13, wants=[{'since': SINCE + 60, **GPUS}]))
    assert told == [
        'experiment 12 unit 1 is about to start',
        'experiment 13 unit 1 waits since 14:03 for 4 GPUs; none is free, experiment 12 holds 4 since 14:30',
    ]


def test_the_order_is_that_of_the_queue():
    told = sentences(
        entry(1, wants=[{'since': SINCE + 60, **GPUS}], holds=[hold('0')]),
        entry(2, wants=[{'importance': 1, 'since': SINCE + 120, **GPUS}]),
        entry(3, wants=[{'importance': -1, **GPUS}]),
        entry(4, wants=[GPUS, {'since': SINCE + 30, **GPUS}]),
    )
    order = [sentence.split(' waits')[0].removeprefix('experiment ') for sentence in told]
    assert order == ['2 unit 1', '4 unit 1', '4 unit 2', '1 unit 1', '3 unit 1']


def test_equal_units_are_told_in_one_sentence():
    [told] = sentences(entry(wants=[{'count': 12, **GPUS}], holds=[hold('0')]))
    assert told.startswith(
        'experiment 12 unit 1 and 11 more like it wait since 14:02 for 4 GPUs each; '
    )


def waiting(reason, **facts):
    return Waiting(Who('ada', '/home', 12), '3', SINCE, SINCE, 0, reason, **facts)


@pytest.mark.parametrize(
    ('one', 'sentence'),
    [
        (waiting(explain.STARTING), 'experiment 12 unit 3 is starting'),
        (
            waiting(explain.STARTING, count=3),
            'experiment 12 unit 3 and 2 more like it are starting',
        ),
        (waiting(explain.BACKOFF, at=NOW + 40), 'experiment 12 unit 3 tries again in 40 s'),
        (waiting(explain.BACKOFF, at=NOW + 600), 'experiment 12 unit 3 tries again in 10 min'),
        (
            waiting(explain.BACKOFF, at=NOW - 5, more=1),
            'experiment 12 unit 3 tries again at once, with 1 more behind it',
        ),
        (
            waiting(explain.PAUSED, at=SINCE + 300, more=9_999),
            'experiment 12 unit 3 waits since 14:02, with 9,999 more behind it; '
            'paused since 14:07: xmanager resume 12',
        ),
        (
            waiting(explain.UNSUPERVISED, note='no supervisor is alive: xmanager supervise 12'),
            'experiment 12 unit 3 waits since 14:02; no supervisor is alive: xmanager supervise 12',
        ),
        (
            waiting(explain.NEXT, count=64, more=100),
            'experiment 12 unit 3 is about to start, with 163 more behind it',
        ),
    ],
)
def test_other_reasons_are_told_too(one, sentence):
    assert Speaker('ada', '/home', NOW).sentence(one) == sentence


def test_what_is_asked_for_and_has_no_word_is_called_by_its_name():
    here = Capacity({'licences': 2.0})
    told = sentences(
        entry(wants=[{'licences': 2.0}], capacity=here), entry(9, holds=[hold(licences=1.0)])
    )
    assert 'for 2 licences; 1 is free, experiment 9 holds 1' in told[0]


def test_amounts_and_devices_in_words():
    assert [amount('cpu', 1.0), amount('cpu', 2.5), amount('cpu', 0.5)] == [
        '1 CPU',
        '2.5 CPUs',
        '0.5 CPU',
    ]
    assert amount('ram', 1.5 * GIB) == '1.5 GiB of memory'
    assert devices_in_words('local_gpu', ['0', '1', '7']) == 'GPUs 0, 1 and 7'


def test_what_is_held_is_told_with_devices_by_name():
    held = [hold('10', '2', cpu=2.0), hold('3', share=0.5, cpu=0.5), hold(ram=GIB, cpu=1.0)]
    assert holds_in_words(held) == 'GPUs 2 and 10, 0.5 of GPU 3, 3.5 CPUs, 1 GiB of memory'


def test_a_ledger_of_hundreds_of_waiting_experiments_is_explained_once_for_all():
    many = [
        entry(number, holds=[hold(cpu=0.0)], wants=[{'local_gpu': 8.0, 'limit': float(number)}] * 8)
        for number in range(1, 200)
    ]
    assert len(explain.explain(many, NOW)) == 199 * 8
