"""The table of legal moves."""

import pytest

from xmanager.store import ACTIVE_STATES, FINAL_STATES, LEGAL_MOVES, RESTARTING, STATES


def test_the_table_speaks_of_every_state_and_of_no_other():
    assert set(LEGAL_MOVES) == set(STATES) == ACTIVE_STATES | FINAL_STATES
    assert set().union(*LEGAL_MOVES.values()) <= set(STATES)


@pytest.mark.parametrize('state', sorted(FINAL_STATES))
def test_what_has_ended_can_only_be_restarted(state):
    assert LEGAL_MOVES[state] == {RESTARTING}


@pytest.mark.parametrize('state', sorted(ACTIVE_STATES))
def test_what_is_active_can_be_stopped(state):
    assert 'stopped' in LEGAL_MOVES[state]
