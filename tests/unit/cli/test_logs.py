import os

import pytest


@pytest.fixture
def unit(lab):
    record = lab.experiment('running')
    return lab.store.units(record.id)[0]


def raw(start, *arguments):
    process = start('logs', *arguments)
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err.decode()


def test_the_log_of_one_job_is_printed_byte_for_byte(start, lab, unit):
    content = os.urandom(300_000) + b'\r\n\x00\xff\x1b no end'
    lab.log(unit, content)
    for where in ('1', '1.1', '1.1.train'):
        assert raw(start, where) == (0, content, '')


def test_logs_of_several_jobs_have_a_prefix_on_each_line(run, lab):
    jobs = [lab.task('learner'), lab.task('actor')]
    for unit in lab.add(lab.experiment().id, 'completed', 'completed', tasks=jobs):
        lab.log(unit, f'one\ntwo of {unit.label}'.encode(), job=0)
        lab.log(unit, b'only\n', job=1)
    assert run('logs', 1).out == (
        '[1 learner] one\n[1 learner] two of 1\n[1 actor] only\n'
        '[2 learner] one\n[2 learner] two of 2\n[2 actor] only\n'
    )
    assert run('logs', '1.2').lines == ['[2 learner] one', '[2 learner] two of 2', '[2 actor] only']
    assert run('logs', '1.2.actor').out == 'only\n'
    assert run('logs', 1, '--tail', 1).lines == [
        '[1 learner] two of 1', '[1 actor] only', '[2 learner] two of 2', '[2 actor] only',
    ]  # fmt: skip


def test_the_tail_is_the_last_lines(run, lab, unit):
    lab.log(unit, b'1\n2\n3\n4')
    assert run('logs', '1.1', '--tail', 2).out == '3\n4'
    assert run('logs', '1.1', '--tail', 0).out == ''


def test_earlier_attempts_keep_their_logs(run, lab, unit):
    lab.log(unit, b'first\n', name='output.1.log')
    lab.log(unit, b'second\n')
    for state in ('restarting', 'queued', 'starting', 'running'):
        lab.move(unit, state)
    assert run('logs', '1.1', '--attempt', 1).out == 'first\n'
    assert run('logs', '1.1', '--attempt', 2).out == run('logs', '1.1').out == 'second\n'
    code, _, err = run('logs', '1.1', '--attempt', 3)
    assert (code, err) == (1, 'xmanager: unit 1.1 has no attempt 3: its last one is 2\n')


def test_an_unknown_job_is_answered_by_those_there_are(run, lab):
    lab.add(lab.experiment().id, 'queued', tasks=[lab.task('learner'), lab.task('actor')])
    code, out, err = run('logs', '1.1.trian')
    assert (code, out) == (1, '')
    assert err == 'xmanager: unit 1.1 has no job trian: it has learner, actor\n'


def test_what_has_not_started_has_no_log_and_that_is_no_error(run, lab):
    lab.experiment('queued')
    note = 'xmanager: 1.1 is queued: nothing has started, so there is no log\n'
    assert run('logs', '1.1') == (0, '', note)


def test_a_log_that_is_gone_is_an_error(run, lab, unit):
    code, out, err = run('logs', '1.1')
    assert (code, out) == (1, '')
    path = unit.tasks[0].folder / 'output.log'
    assert err == f'xmanager: the log of 1.1 is gone: there is no {path}\n'


def test_following_prints_what_comes_until_the_unit_has_ended(start, lab, unit):
    process = start('logs', '1.1', '-f')
    lab.log(unit, b'one\n')
    assert process.stdout.readline() == b'one\n'
    with (unit.tasks[0].folder / 'output.log').open('ab') as log:
        log.write(b'two\n')
        log.flush()
        assert process.stdout.readline() == b'two\n'
        log.write(b'last words')
    lab.move(unit, 'completed')
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (0, b'last words', b'')


def test_following_survives_truncation_and_deletion(start, lab, unit):
    lab.log(unit, b'a first line\n')
    process = start('logs', '1.1', '-f')
    assert process.stdout.readline() == b'a first line\n'
    lab.log(unit, b'cut\n')
    assert process.stdout.readline() == b'cut\n'
    (unit.tasks[0].folder / 'output.log').unlink()
    lab.log(unit, b'a new file\n')
    assert process.stdout.readline() == b'a new file\n'
    lab.move(unit, 'failed')
    assert process.wait(timeout=10) == 0


def test_following_goes_on_through_a_restart_that_was_asked_for(start, lab):
    unit = lab.store.units(lab.experiment('failed').id)[0]
    lab.log(unit, b'first try\n')
    lab.store.request(1, [unit.id], 'restart', actor='somebody')
    process = start('logs', '1.1', '-f')
    assert process.stdout.readline() == b'first try\n'
    for state in ('restarting', 'queued', 'starting', 'running'):
        lab.move(unit, state)
    folder = unit.tasks[0].folder
    (folder / 'output.log').rename(folder / 'output.1.log')
    lab.log(unit, b'second try\n')
    lab.store.finish_requests([lab.store.requests(1)[0].id])
    assert process.stdout.readline() == b'second try\n'
    lab.move(unit, 'completed')
    out, _ = process.communicate(timeout=10)
    assert (process.returncode, out) == (0, b'')


def test_following_an_experiment_takes_up_units_that_are_added(start, lab):
    first, second = lab.add(lab.experiment().id, 'running', 'running')
    lab.log(first, b'half a li')
    lab.log(second, b'two\n')
    process = start('logs', 1, '-f')
    assert process.stdout.readline() == b'[2 train] two\n'
    (third,) = lab.add(1, 'running')
    lab.log(third, b'three\n')
    assert process.stdout.readline() == b'[3 train] three\n'
    lab.log(first, b'half a line')
    for unit in (first, second, third):
        lab.move(unit, 'completed')
    out, _ = process.communicate(timeout=10)
    assert out == b'[1 train] half a line\n'


def test_following_ends_when_nobody_reads_any_more(start, lab, unit):
    lab.log(unit, b'one\n')
    process = start('logs', '1.1', '-f')
    assert process.stdout.readline() == b'one\n'
    process.stdout.close()
    assert process.wait(timeout=10) == 1
    assert process.stderr.read() == b''


def test_following_what_has_ended_prints_and_returns(start, lab):
    record = lab.experiment('completed')
    lab.log(lab.store.units(record.id)[0], b'all\n')
    assert raw(start, '1', '-f') == (0, b'all\n', '')
    lab.experiment()
    assert raw(start, '2', '-f') == (0, b'', '')
