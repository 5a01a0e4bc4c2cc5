import pytest

from xmanager.store import wording


@pytest.mark.parametrize(
    ('seconds', 'said'),
    [
        (None, ''),
        (-3, '0.0s'),
        (0.44, '0.4s'),
        (9.94, '9.9s'),
        (9.96, '10s'),
        (59.4, '59s'),
        (59.6, '1m 00s'),
        (123, '2m 03s'),
        (3599.7, '1h 00m'),
        (3900, '1h 05m'),
        (100_000, '1d 3h'),
    ],
)
def test_a_duration_has_two_units_at_most(seconds, said):
    assert wording.duration(seconds) == said


@pytest.mark.parametrize(('number', 'said'), [(9, 'SIGKILL'), (15, 'SIGTERM'), (99, 'signal 99')])
def test_a_signal_has_its_name(number, said):
    assert wording.signal_name(number) == said


@pytest.mark.parametrize(
    ('args', 'said'),
    [
        ({}, ''),
        ({'args': {'lr': 0.1, 'width': 64}}, 'lr=0.1 width=64'),
        ({'args': {'lr': 0.1}, 'env_vars': {'SEED': '1'}}, 'lr=0.1 SEED=1'),
        (
            {'learner': {'args': {'lr': 0.1}}, 'actor': {'args': {'id': 2}}},
            'learner.lr=0.1 actor.id=2',
        ),
        ({'lr': 0.1, 'nested': {'a': [1, 2]}}, 'lr=0.1 nested.a=[1, 2]'),
        ({'args': ['fast', '--lr=1']}, 'fast --lr=1'),
        ({'args': 3}, 'args=3'),
        (
            {'args': {'api_key': 'hush', 'list': ['--token', 'hush', 1]}},
            "api_key=*** list=['--token', '***', 1]",
        ),
    ],
)
def test_arguments_fit_in_a_line(args, said):
    assert wording.arguments(args) == said


@pytest.mark.parametrize(
    ('amount', 'said'),
    [(None, ''), (0, '0 B'), (1023, '1023 B'), (1536, '1.5 KiB'), (12 << 30, '12 GiB')],
)
def test_a_size_has_a_unit(amount, said):
    assert wording.size(amount) == said
