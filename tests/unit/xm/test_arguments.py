"""How arguments are written, merged and handed to a program."""

import enum
import logging
import shlex
import subprocess
import sys

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmanager import xm
from xmanager.xm.arguments import plain_text


class Colour(enum.Enum):
    RED = 1


def argv(args):
    return xm.merge_args(args).to_argv()


@pytest.mark.parametrize(
    ('args', 'expected'),
    [
        ({'k': 'v'}, ['--k=v']),
        ({'k': 1.5}, ['--k=1.5']),
        ({'k': True}, ['--k']),
        ({'k': False}, ['--nok']),
        ({'k': ''}, ['--k=']),
        ({'k': [1, 'x', None, True]}, ['--k=1', '--k=x', '--k=None', '--k=True']),
        ({'k': (1, 2)}, ['--k=1', '--k=2']),
        ({'k': []}, []),
        ({'k': [[1], 2]}, ['--k=[[1], 2]']),
        ({'k': ((),)}, ['--k=((),)']),
        ({'k': [1, {2}]}, ['--k=1', '--k={2}']),
        ({'k': {'a': 1}}, ["--k={'a': 1}"]),
        ({'k': {1}}, ['--k={1}']),
        ({'k': Colour.RED}, ['--k=RED']),
        ({'k': [Colour.RED]}, ['--k=RED']),
        ({5: 6, Colour.RED: 1}, ['--5=6', '--Colour.RED=1']),
        ([1, True, None, Colour.RED, [1, 2]], ['1', 'True', 'None', 'RED', '[1, 2]']),
        (('a b',), ['a b']),
        (range(2), ['0', '1']),
        (None, []),
    ],
)
def test_a_collection_becomes_these_arguments(args, expected):
    assert argv(args) == expected


def test_none_leaves_the_flag_out_and_warns_once_for_each_key(caplog):
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert argv({'left_out_one': None, 'left_out_two': None, 'k': 1}) == ['--k=1']
    assert ['left_out_one' in r.getMessage() for r in caplog.records] == [True, False]


def test_a_bare_string_is_refused_with_the_list_to_write_instead():
    with pytest.raises(ValueError, match=r"\['--x'\]"):
        xm.SequentialArgs.from_collection('--x')


@pytest.mark.parametrize('args', [5, {1, 2}, b'ab', {'a': 1}.keys(), iter([1])])
def test_what_is_neither_mapping_nor_sequence_is_a_type_error(args):
    with pytest.raises(TypeError, match='Expected a mapping'):
        xm.merge_args(args)


def test_a_later_keyword_overrides_the_value_and_keeps_the_first_place():
    merged = xm.merge_args({'a': 1}, ['x'], {'b': 2, 'a': 3}, ['y'])
    assert merged.to_list() == ['--a=3', 'x', '--b=2', 'y']


def test_keywords_are_the_same_when_their_text_is():
    assert argv(xm.merge_args({1: 'x'}, {'1': 'y'})) == ['--1=y']


def test_to_dict_shows_positional_arguments_as_flags_that_are_set():
    merged = xm.merge_args({'a': [1]}, ['x', xm.ShellSafeArg('$Y'), None])
    assert merged.to_dict() == {'a': [1], 'x': True, '$Y': True, 'None': True}
    assert merged.to_dict(kwargs_only=True) == {'a': [1]}


def test_rewrite_args_changes_strings_only():
    args = xm.merge_args({'a': 'x', 'b': 1, 'c': ['x']}, ['x', True, xm.ShellSafeArg('x')])
    expected = xm.merge_args({'a': 'X', 'b': 1, 'c': ['x']}, ['X', True, xm.ShellSafeArg('x')])
    assert args.rewrite_args(str.upper) == expected


def test_remove_args_takes_away_the_keyword_and_the_positional_string():
    args = xm.merge_args({'a': 1, 'ab': 2}, ['a', 'b', 1])
    assert args.remove_args('a') == xm.merge_args({'ab': 2}, ['b', 1])
    assert args.remove_args('1') == args


def test_escaper_and_joiner_are_given_flags_and_values_apart():
    args = xm.merge_args({'a': 1, 'b': True, 'c': [2, 'x y']}, ['z'])
    texts = args.to_list(escaper=lambda v: f'<{v}>', kwargs_joiner=lambda k, v: f'{k} {v}')
    assert texts == ['<--a> <1>', '<--b>', '<--c> <2>', '<--c> <x y>', '<z>']


def test_sequential_args_are_compared_by_content_and_order():
    assert xm.SequentialArgs() == xm.merge_args()
    assert xm.merge_args({'a': 1}) == xm.SequentialArgs.from_collection({'a': 1})
    assert xm.merge_args({'a': 1, 'b': 2}) != xm.merge_args({'b': 2, 'a': 1})
    other: object = {'a': 1}
    assert xm.merge_args({'a': 1}) != other


def test_sequential_args_are_an_attrs_class_whose_repr_can_be_pasted_back():
    args = xm.merge_args({'a': 1}, ['x'])
    assert attrs.has(xm.SequentialArgs)
    assert eval(repr(args), {'SequentialArgs': xm.SequentialArgs}) == args


def test_a_shell_safe_argument_is_raw_for_a_shell_and_plain_without_one():
    args = xm.merge_args([xm.ShellSafeArg('$HOME/x')], {'k': xm.ShellSafeArg('$X'), 'p': '$Y'})
    assert args.to_list() == ['$HOME/x', '--k=$X', "--p='$Y'"]
    assert args.to_argv() == ['$HOME/x', '--k=$X', '--p=$Y']


@pytest.mark.parametrize('convert', [str, '{}'.format, lambda arg: f'{arg}'])
def test_a_shell_safe_argument_never_becomes_a_string_by_accident(convert):
    with pytest.raises(RuntimeError, match='ShellSafeArg'):
        convert(xm.ShellSafeArg('$HOME'))


@pytest.mark.parametrize('args', [{'k': xm.Secret('TOKEN')}, [xm.Secret('TOKEN')]])
def test_a_secret_is_refused_as_an_argument_with_the_way_to_pass_it(args):
    with pytest.raises(TypeError, match=r"env_vars=\{'TOKEN': xm\.Secret\('TOKEN'\)\}"):
        xm.merge_args(args)


texts = st.text(st.characters(blacklist_categories=['Cs'], blacklist_characters='\0'))
values = st.one_of(texts, st.integers(), st.booleans(), st.lists(texts, max_size=3))
keywords = st.dictionaries(texts.filter(bool), values, max_size=5)
collections = st.one_of(keywords, st.lists(values, max_size=5))


@given(collections)
def test_a_shell_gives_the_program_the_very_arguments_that_no_shell_would(args):
    sequential = xm.merge_args(args)
    assert shlex.split(' '.join(sequential.to_list())) == sequential.to_argv()


@given(st.lists(texts, max_size=5))
def test_positional_text_reaches_argv_byte_for_byte(args):
    assert argv(args) == args


@given(collections, collections, collections)
def test_merging_in_steps_is_merging_at_once(a, b, c):
    assert xm.merge_args(xm.merge_args(a, b), c) == xm.merge_args(a, xm.merge_args(b, c))
    assert xm.merge_args(a, b, c) == xm.merge_args(xm.merge_args(a, b), c)


@given(keywords, keywords)
def test_merged_keywords_are_those_of_a_merged_dict(a, b):
    merged = xm.merge_args(a, b)
    assert merged.to_dict() == {**a, **b}
    assert list(merged.to_dict()) == list({**a, **b})


@given(collections)
def test_merging_with_nothing_changes_nothing(args):
    sequential = xm.SequentialArgs.from_collection(args)
    assert xm.merge_args(sequential) == xm.merge_args(None, args, {}, []) == sequential


def test_arguments_pass_through_a_real_program_unharmed():
    args = {'k': 'a b\n"\'$HOME`ls`\\ é'}
    program = 'import sys; sys.stdout.buffer.write(sys.argv[1].encode())'
    written = subprocess.run(
        [sys.executable, '-c', program, *argv(args)], check=True, capture_output=True
    ).stdout
    assert written.decode() == f'--k={args["k"]}' == f'--k={plain_text(args["k"])}'
