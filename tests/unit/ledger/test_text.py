"""What an entry's file may hold: what we wrote, or whatever another user likes."""

import attrs
import pytest

from xmanager.backend import Capacity
from xmanager.ledger import Entry
from xmanager.ledger.text import decode, encode

BARE = Entry('a', 'ada', '/home', 9, 1, '/wake')


def test_what_an_owner_sees_of_the_host_is_read_as_it_was_written():
    capacity = Capacity({'cpu': 4.0, 'local_gpu': 2.0}, {'local_gpu': ('0', '1')})
    entry = attrs.evolve(BARE, capacity=capacity, strangers={'local_gpu': ('1',)})
    assert decode(encode(entry)) == entry


def test_an_entry_that_says_nothing_of_the_host_is_one_too():
    text = encode(BARE).replace(b',"capacity":null,"strangers":{}', b'')
    assert b'capacity' not in text
    assert decode(text) == BARE


@pytest.mark.parametrize(
    ('old', 'new'),
    [
        (b'"pid":1', b'"pid":1e999'),
        (b'"experiment":9', b'"experiment":"nine"'),
        (b'"capacity":null', b'"capacity":[1]'),
        (b'"strangers":{}', b'"strangers":{"local_gpu":7}'),
        (b'"wants":[]', b'"wants":' + b'[' * 100_000),
        (b'"holds":[]', b'"holds":[{}]'),
    ],
)
def test_what_makes_no_sense_is_a_value_error_and_nothing_else(old, new):
    text = encode(BARE)
    assert old in text
    with pytest.raises(ValueError):  # noqa: PT011  # What it says depends on what is wrong.
        decode(text.replace(old, new))
