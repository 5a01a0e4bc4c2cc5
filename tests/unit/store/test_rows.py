"""Values become rows and come back."""

import enum
from pathlib import Path
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmanager.backend import Task
from xmanager.store.rows import from_json, full_name, spec_of, to_json, to_text

_TEXT = st.text(st.characters())  # Lone surrogates and NUL included.


class Optimizer(enum.Enum):
    ADAM = 1


@pytest.mark.parametrize(
    ('value', 'read'),
    [
        ({'a': (1, 2)}, {'a': [1, 2]}),
        ({1: 'a', None: 'b'}, {'1': 'a', 'null': 'b'}),
        ({(1, 2): {Optimizer.ADAM: 1}}, {'(1, 2)': {'Optimizer.ADAM': 1}}),
        (Optimizer.ADAM, 'ADAM'),
        (Path('/data'), '/data'),
        (MappingProxyType({'a': 1}), {'a': 1}),
        ({'a': {1}}, {'a': '{1}'}),
    ],
)
def test_what_json_lacks_becomes_what_a_reader_would_expect(value, read):
    assert from_json(to_json(value)) == read


def test_numbers_of_other_kinds_stay_numbers():
    from decimal import Decimal
    from fractions import Fraction

    assert from_json(to_json([Fraction(1, 2), Decimal('0.5')])) == [0.5, '0.5']


@given(st.lists(_TEXT), _TEXT, st.dictionaries(_TEXT, _TEXT))
def test_a_task_keeps_every_character(argv, cwd, env):
    stated = from_json(spec_of(Task('train', '', tuple(argv), cwd, env)))
    assert (stated['argv'], stated['cwd'], stated['env']) == (argv, cwd, env)


@given(_TEXT)
def test_text_for_a_column_is_unicode_without_nul(text):
    shown = to_text(text)
    assert '\0' not in shown
    assert shown.encode().decode() == shown


@given(st.text(st.characters(exclude_categories=['Cs'], exclude_characters='\0')))
def test_good_text_is_left_as_it_is(text):
    assert to_text(text) == text


def test_full_names_of_work_and_auxiliary_units():
    assert full_name(3, 'work', 2, 'train') == '3_2_train'
    assert full_name(3, 'auxiliary', 2, 'tensorboard') == '3_auxiliary_tensorboard'
