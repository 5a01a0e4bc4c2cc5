"""What Slurm's commands are asked, and what their answers say."""

import pytest

from xmanager.backends.slurm import commands
from xmanager.backends.slurm.commands import ANY, Row
from xmanager.backends.slurm.site import Answer
from xmanager.errors import UnreachableError


def said(out: str = '', err: str = '', code: int = 0) -> Answer:
    return Answer(code, out, err)


def test_the_queue_tells_of_elements_components_and_single_jobs():
    rows = commands.read_queue(
        said('1_0|RUNNING|n2|None\n3+1|PENDING||Resources\n5|COMPLETING|n1|None\n')
    )
    assert rows == {
        (1, 0, 0): Row('RUNNING', 'n2'),
        (3, 0, 1): Row('PENDING', '', 'Resources'),
        (5, 0, 0): Row('COMPLETING', 'n1'),
    }


@pytest.mark.parametrize(
    ('name', 'elements'),
    [
        ('4711_[2-4%2]', {2, 3, 4}),
        ('4711_[0,3,7-8]', {0, 3, 7, 8}),
        ('4711_[1-7:3]', {1, 4, 7}),
        ('4711_[5]', {5}),
    ],
)
def test_the_pending_elements_of_an_array_share_a_line(name, elements):
    rows = commands.read_queue(said(f'{name}|PENDING||Priority\n'))
    assert {place[1] for place in rows} == elements
    assert set(rows.values()) == {Row('PENDING', '', 'Priority')}


def test_of_a_list_that_was_cut_short_any_element_may_be_pending():
    rows = commands.read_queue(said('4711_[1-2,...]|PENDING||Priority\n4711_0|RUNNING|n1|None\n'))
    assert commands.find(rows, (4711, 0, 0)) == Row('RUNNING', 'n1')
    assert commands.find(rows, (4711, 99, 0)) == Row('PENDING', '', 'Priority')
    assert (4711, ANY, 0) in rows


def test_a_reason_may_hold_anything():
    rows = commands.read_queue(said('7|PENDING||ReqNodeNotAvail, UnavailableNodes:n3|n4\n'))
    assert rows[7, 0, 0].reason == 'ReqNodeNotAvail, UnavailableNodes:n3|n4'


def test_a_single_job_that_slurm_has_forgotten_is_an_empty_answer():
    answer = said(err='slurm_load_jobs error: Invalid job id specified\n', code=1)
    assert commands.read_queue(answer) == {}


def test_slurm_being_down_is_no_answer():
    answer = said(err='slurm_load_jobs error: Unable to contact slurm controller\n', code=1)
    with pytest.raises(UnreachableError, match='Unable to contact slurm controller'):
        commands.read_queue(answer)
    with pytest.raises(UnreachableError):
        commands.read_details(answer)


def test_details_tell_exit_status_restarts_and_limit():
    rows = commands.read_details(said('7|FAILED|n1|24832|2|10:00|NonZeroExitCode|\n'))
    assert rows == {
        (7, 0, 0): Row('FAILED', 'n1', 'NonZeroExitCode', status=97 << 8, restarts=2, limit='10:00')
    }


def test_a_field_that_this_slurm_does_not_know_is_left_open():
    rows = commands.read_details(said('7|FAILED|n1|||10:00|None|\n'))
    assert (rows[7, 0, 0].status, rows[7, 0, 0].restarts) == (None, None)


def test_accounts_tell_who_cancelled_a_job():
    rows = commands.read_accounts(
        said('4711_3|CANCELLED by 1000|0:15|n1|UNLIMITED\n4711_[4-5]|CANCELLED by 0|0:0||\n')
    )
    assert rows[4711, 3, 0] == Row('CANCELLED', 'n1', status=15, limit='UNLIMITED', by='1000')
    assert rows[4711, 5, 0].by == '0'


def test_accounts_that_are_not_kept_tell_nothing():
    answer = said(err='Slurm accounting storage is disabled\n', code=1)
    assert commands.read_accounts(answer) == {}
    assert commands.has_no_accounts(answer)


def test_the_completion_log_tells_of_elements_and_of_the_rest_of_an_array():
    rows = commands.read_completions(
        said(
            'JobId=29 JobState=FAILED TimeLimit=5 NodeList=n1 ArrayJobId=27 ArrayTaskId=1 ExitCode=3:0 \n'
            'JobId=27 JobState=CANCELLED TimeLimit=5 NodeList=(null) ExitCode=0:0 \n'
        )
    )
    assert rows[27, 1, 0].status == 3 << 8
    assert commands.find(rows, (27, 40, 0)) == Row('CANCELLED', status=0, limit='5')


@pytest.mark.parametrize(('out', 'job'), [('4711\n', 4711), ('4711;alps\n', 4711), ('', None)])
def test_sbatch_says_the_number_of_the_job(out, job):
    assert commands.read_job(said(out)) == job


def test_a_failed_sbatch_made_no_job():
    assert commands.read_job(said('4711\n', code=1)) is None


def test_slurms_words_are_told_without_the_names_of_its_commands():
    answer = said(
        err='sbatch: error: invalid partition specified: nope\n'
        'sbatch: error: Batch job submission failed: Invalid partition name specified\n',
        code=1,
    )
    assert commands.words(answer) == (
        'invalid partition specified: nope; Invalid partition name specified'
    )


def test_a_command_that_says_nothing_is_told_by_its_exit_code():
    assert commands.words(said(code=3)) == 'exit code 3'


@pytest.mark.parametrize(
    ('words', 'is_out_of_reach', 'is_full'),
    [
        ('Unable to contact slurm controller (connect failure)', True, False),
        ('Socket timed out on send/recv operation', True, False),
        ('QOSMaxSubmitJobPerUserLimit; Job violates accounting/QOS policy', False, True),
        ('AssocGrpSubmitJobsLimit', False, True),
        ('Slurm job queue full, sleeping and retrying', False, True),
        ('QOSMaxCpuPerUserLimit; Job violates accounting/QOS policy', False, False),
        ('Invalid qos specification', False, False),
    ],
)
def test_refusals_for_now_are_told_from_those_for_good(words, is_out_of_reach, is_full):
    assert commands.is_out_of_reach(words) == is_out_of_reach
    assert commands.is_full(words) == is_full


def test_elements_are_named_by_ranges():
    assert commands.elements(4711, [1, 2, 3, 7, 9, 10]) == '4711_[1-3,7,9-10]'


def test_a_signal_goes_to_all_processes_or_to_steps_only():
    assert '--full' in commands.signal('TERM', ['1'], steps_only=False)
    assert '--full' not in commands.signal('TERM', ['1'], steps_only=True)


def test_jobs_are_found_by_their_names():
    assert commands.read_named(said('4711_[0-9]|1_train.abc\n60+0|1_unit2.def\n')) == {
        '1_train.abc': 4711,
        '1_unit2.def': 60,
    }
