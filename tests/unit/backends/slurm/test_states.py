"""How a task fares, by what Slurm says and what its element recorded."""

import attrs
import pytest

from xmanager.backend import Task
from xmanager.backends.slurm.commands import Row
from xmanager.backends.slurm.node.element import Begun, End
from xmanager.backends.slurm.states import Facts, Need, judge

TASK = Task('train', '1_train', ('/bin/true',), '/', options={'timeout': 60.0, 'warn_before': 5.0})
BEGUN = {0: Begun('4711', 'n1', 1000.0)}
FACTS = Facts(TASK, '/shared/1/slurm/b', is_alone=True, begun=BEGUN, noticed_at=2000.0)
TERMINATED = {0: End(signal=15, at=1010.0, terminated=True)}


def seen(**changes):
    return judge(attrs.evolve(FACTS, **changes)).observation


def need(**changes):
    return judge(attrs.evolve(FACTS, **changes)).need


# --- records


def test_a_program_that_ended_by_itself_needs_no_word_of_slurm():
    judged = judge(attrs.evolve(FACTS, ends={0: End(exit_code=3, at=1010.0, user_seconds=1.5)}))
    assert judged.is_over
    assert judged.need is Need.NOTHING
    observation = judged.observation
    assert (observation.state, observation.exit_code, observation.reason) == ('exited', 3, '')
    assert (observation.started_at, observation.ended_at) == (1000.0, 1010.0)
    assert (observation.user_seconds, observation.where) == (1.5, 'n1')


def test_a_task_past_its_timeout_says_so():
    observation = seen(ends={0: End(signal=15, at=1060.0, timed_out=True)})
    assert (observation.reason, observation.cause) == ('timed out after 60.0 s', 'timeout')


def test_a_warning_that_kills_is_told():
    observation = seen(ends={0: End(signal=10, at=1055.0, warned=True)})
    assert (
        observation.reason
        == 'was killed by SIGUSR1, our warning 5.0 s before its timeout, which it must handle'
    )


def test_why_an_element_refused_to_run_is_told():
    observation = seen(begun={}, ends={0: End(exit_code=126, at=1001.0, refused='no such folder')})
    assert (observation.state, observation.exit_code) == ('exited', 126)
    assert observation.reason == 'no such folder'


def test_an_end_that_slurm_did_not_believe_in_counts():
    ends = {0: End(exit_code=0, at=1005.0), 1: End(exit_code=126, refused='has ended already')}
    observation = seen(ends=ends)
    assert (observation.exit_code, observation.reason, observation.restarts) == (0, '', 0)


def test_the_clock_of_a_node_may_be_wrong_but_not_how_long_it_took():
    ends = {0: End(exit_code=0, at=99_010.0)}
    observation = seen(begun={0: Begun('1', 'n1', 99_000.0)}, ends=ends)
    assert observation.ended_at == 2000.0
    late = seen(begun={0: Begun('1', 'n1', 10.0)}, ends={0: End(at=15.0)}, submitted_at=1900.0)
    assert (late.started_at, late.ended_at) == (1900.0, 1905.0)


# --- Slurm's word


@pytest.mark.parametrize('state', ['PENDING', 'CONFIGURING', 'REQUEUE_HOLD', 'SPECIAL_EXIT'])
def test_what_is_in_the_queue_waits(state):
    assert seen(begun={}, row=Row(state, reason='Priority')).state == 'waiting'
    assert seen(begun={}, row=Row(state, reason='Priority')).reason == 'Priority'


@pytest.mark.parametrize('state', ['RUNNING', 'COMPLETING', 'SUSPENDED', 'STAGE_OUT', 'SIGNALING'])
def test_what_has_begun_and_not_ended_runs(state):
    observation = seen(row=Row(state, nodes='n[1-2]'))
    assert (observation.state, observation.where) == ('running', 'n[1-2]')


def test_what_had_begun_and_waits_again_was_requeued():
    observation = seen(ends=TERMINATED, row=Row('PENDING', reason='BeginTime'))
    assert (observation.state, observation.restarts) == ('waiting', 1)
    told = seen(ends=TERMINATED, row=Row('PENDING', reason='BeginTime', restarts=1))
    assert told.restarts == 1


def test_why_a_terminated_program_ended_is_asked_of_slurm():
    assert need(ends=TERMINATED) is Need.DETAILS
    assert seen(ends=TERMINATED).state == 'running'
    assert seen(ends=TERMINATED, row=Row('COMPLETING')).state == 'running'


def test_a_program_that_was_killed_may_have_run_out_of_memory():
    killed = {0: End(signal=9, at=1010.0)}
    assert need(ends=killed) is Need.DETAILS
    observation = seen(ends=killed, row=Row('OUT_OF_MEMORY', 'n1', status=125))
    assert (observation.signal, observation.reason) == (
        9,
        'ran out of memory (Slurm: OUT_OF_MEMORY)',
    )
    assert seen(ends=killed, row=Row('FAILED', 'n1')).reason == ''


def test_a_program_that_failed_soon_says_so_unless_it_lacked_memory():
    failed = {0: End(exit_code=1, at=1010.0)}
    for row in (None, Row('COMPLETING')):
        assert need(ends=failed, age=0.5, row=row) is Need.DETAILS
    assert seen(ends=failed, age=2.5).exit_code == 1
    told = seen(ends=failed, age=0.5, row=Row('FAILED', 'n1'))
    assert (told.exit_code, told.reason) == (1, '')
    told = seen(ends=failed, age=0.5, row=Row('OUT_OF_MEMORY', 'n1'))
    assert (told.exit_code, told.reason) == (1, 'ran out of memory (Slurm: OUT_OF_MEMORY)')
    assert seen(ends=failed, age=0.5, missing=Need.DETAILS).exit_code == 1
    succeeded = seen(ends={0: End(exit_code=0, at=1010.0)}, age=0.5)
    assert (succeeded.exit_code, succeeded.reason) == (0, '')


def test_of_several_tasks_a_killed_one_has_ended_while_the_others_run():
    assert seen(ends={0: End(signal=9, at=1010.0)}, is_alone=False).state == 'exited'


@pytest.mark.parametrize(
    ('row', 'reason', 'cause'),
    [
        (Row('PREEMPTED'), 'was preempted by Slurm', 'preempted'),
        (Row('TIMEOUT', limit='1:00'), "timed out after 1:00 (Slurm's time limit)", 'timeout'),
        (Row('DEADLINE'), 'was ended at its deadline (Slurm: DEADLINE)', 'timeout'),
        (Row('CANCELLED', by='0'), 'was cancelled by root outside xmanager', ''),
        (Row('SOMETHING_NEW'), 'was ended by Slurm (SOMETHING_NEW)', ''),
    ],
)
def test_why_slurm_ended_a_task_is_told(row, reason, cause):
    observation = seen(ends=TERMINATED, row=row, user='root' if row.by else '')
    assert (observation.state, observation.signal) == ('exited', 15)
    assert (observation.reason, observation.cause) == (reason, cause)


@pytest.mark.parametrize(
    ('state', 'reason'),
    [('NODE_FAIL', 'node n3 failed'), ('BOOT_FAIL', 'node n3 did not boot')],
)
def test_with_a_node_all_knowledge_of_the_end_is_lost(state, reason):
    observation = seen(row=Row(state, 'n3', status=0), waited=9.0)
    assert (observation.state, observation.reason) == ('vanished', reason)
    assert (observation.exit_code, observation.signal) == (None, None)


def test_a_record_may_be_seen_later_than_slurms_word():
    row = Row('FAILED', 'n1', status=3 << 8)
    assert seen(row=row, waited=1.0).state == 'running'
    assert need(row=row, waited=1.0) is not Need.NOTHING
    late = seen(row=row, waited=9.0)
    assert (late.state, late.exit_code) == ('exited', 3)


def test_a_node_that_does_not_see_the_folder_is_named():
    observation = seen(begun={}, row=Row('FAILED', 'n3', status=97 << 8), waited=9.0)
    assert observation.exit_code == 97
    assert observation.reason == (
        'node n3 does not see /shared/1/slurm/b: set XM_SHARED to a folder that all nodes see'
    )


def test_who_cancelled_is_asked_where_it_may_be_known():
    row = Row('CANCELLED', 'n1')
    assert need(ends=TERMINATED, row=row) is Need.HISTORY
    for known in ({'tells_who': False}, {'missing': Need.HISTORY}, {'waited': 9.0}):
        assert seen(ends=TERMINATED, row=row, **known).reason == 'was cancelled outside xmanager'


# --- stopping


def test_a_unit_that_was_taken_out_of_the_queue_ends_by_term():
    for facts in ({'row': Row('CANCELLED')}, {'missing': Need.DETAILS}):
        observation = seen(begun={}, stopping=True, **facts)
        assert (observation.state, observation.signal, observation.reason) == ('exited', 15, '')


def test_the_end_of_what_was_stopped_needs_no_reason_of_slurm():
    observation = seen(ends=TERMINATED, stopping=True)
    assert (observation.state, observation.signal, observation.reason) == ('exited', 15, '')


def test_what_was_killed_leaves_no_record():
    observation = seen(row=Row('CANCELLED', 'n1', status=15), stopping=True, killing=True)
    assert (observation.state, observation.signal) == ('exited', 9)


# --- nobody knows


def test_more_and_more_is_asked_for_what_is_missing():
    asked = [Need.NOTHING, Need.QUEUE, Need.DETAILS, Need.HISTORY]
    assert [need(missing=missing) for missing in asked] == [
        *(Need.QUEUE, Need.DETAILS, Need.HISTORY, Need.HISTORY)
    ]


def test_what_slurm_has_forgotten_is_told_by_its_record():
    observation = seen(ends=TERMINATED, missing=Need.HISTORY)
    assert (observation.state, observation.signal) == ('exited', 15)


def test_what_nobody_knows_of_has_vanished():
    assert seen(missing=Need.HISTORY, waited=1.0).state == 'running'
    assert seen(missing=Need.HISTORY, waited=60.0).state == 'vanished'
    never = seen(begun={}, missing=Need.HISTORY, waited=60.0)
    assert never.state == 'vanished'
    assert 'before it began' in never.reason
