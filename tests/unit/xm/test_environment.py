"""Environment variables of jobs and packageables."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmanager import xm
from xmanager.xm.environment import checked_env_vars, env_strings


@pytest.mark.parametrize('name', ['', '1A', 'A-B', 'A B', 'A\n', 'é', 'A=', 5, None])
def test_a_name_that_no_shell_could_set_is_refused(name):
    with pytest.raises(ValueError, match='a name must match'):
        checked_env_vars({name: 'x'})


@given(st.from_regex(r'\A[a-zA-Z_][a-zA-Z0-9_]*\Z'), st.integers() | st.text() | st.none())
def test_a_value_goes_through_str(name, value):
    assert checked_env_vars({name: value}) == {name: value}
    assert env_strings({name: value}) == {name: str(value)}


def test_a_secret_stays_a_secret():
    assert env_strings({'A': xm.Secret('B')}) == {'A': xm.Secret('B')}


def test_a_shell_safe_argument_is_no_value_as_no_shell_expands_it():
    with pytest.raises(RuntimeError, match='ShellSafeArg'):
        env_strings({'A': xm.ShellSafeArg('$B')})


def test_a_secret_shows_its_name_and_has_no_text():
    assert repr(xm.Secret('TOKEN')) == "Secret('TOKEN')"
    for convert in (str, '{}'.format):
        with pytest.raises(RuntimeError, match='TOKEN'):
            convert(xm.Secret('TOKEN'))


def test_a_secret_is_named_like_an_environment_variable():
    with pytest.raises(ValueError, match='a name must match'):
        xm.Secret('hf-token')


def test_secrets_are_frozen_values():
    assert xm.Secret('A') == xm.Secret('A') != xm.Secret('B')
    assert len({xm.Secret('A'), xm.Secret('A')}) == 1
    secret: Any = xm.Secret('A')
    with pytest.raises(AttributeError):
        secret.name = 'B'
