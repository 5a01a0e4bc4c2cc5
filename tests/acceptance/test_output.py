"""Whatever a job prints is kept byte for byte, and whoever follows it is not harmed."""

import shutil

import pytest
from tests.acceptance.desk import PROGRAMS
from tests.acceptance.polling import until

PRINTER = """
    from shell_jobs import xm, xm_local
    with xm_local.create_experiment('odd') as experiment:
        [cat] = experiment.package([xm.binary(xm_local.Local.Spec(), path='/bin/cat')])
        experiment.add(xm.Job(cat, xm_local.Local(), name='job', args=['odd.bin']))
"""


@pytest.mark.parametrize(
    'data',
    [
        bytes(range(256)) * 1000,
        b'\xff\xfe\x00\x1b[31m' + 'ünï—🎲'.encode()[:-1],
        b'x' * 10_000_000,
        b'\r\n\r\n\n\n\rprogress 1\rprogress 2',
    ],
    ids=['all bytes', 'no text', 'a line of 10 MB', 'odd line ends'],
)
def test_odd_output_is_kept_byte_for_byte(start, desk, data):
    (desk.folder / 'odd.bin').write_bytes(data)
    launcher = start(PRINTER)
    result = launcher.ended()
    assert result.code == 0
    assert 'Traceback' not in result.stderr
    assert desk.log() == data
    # `xmanager logs` of one job gives the very bytes.
    logs = desk.start_command([PROGRAMS / 'xmanager', 'logs', '1.1.job'])
    assert logs.ended().code == 0
    assert logs.stdout_bytes == data
    # The terminal has seen all of it too, a long line in parts.
    shown = launcher.stdout_bytes.replace(b'[1 job] ', b'')
    assert shown.replace(b'\n', b'') == data.replace(b'\n', b'')


def test_a_job_that_prints_200_mb_is_followed_in_little_memory(start, desk):
    launcher = start(r"""
        import re
        from shell_jobs import shell, xm_local
        with xm_local.create_experiment('long') as experiment:
            experiment.add(shell(experiment, 'yes $(printf %0999d 0) | head -c 100M'))
            experiment.add(shell(experiment, r"head -c 100M /dev/zero | tr '\0' x"))
        # Its own peak: ru_maxrss is that of whoever started it, if that was higher.
        print(int(re.search(r'VmHWM:\s+(\d+)', open('/proc/self/status').read())[1]) // 1024)
    """)
    result = launcher.ended(deadline=300)
    assert result.code == 0, result.stderr
    for unit in ('1', '2'):
        assert (desk.job_folder(unit) / 'output.log').stat().st_size == 100 << 20
    *shown, megabytes = result.stdout.splitlines()
    assert shown.count('[1 job] ' + '0' * 999) == (100 << 20) // 1000
    assert sum(line.count('x') for line in shown) == 100 << 20
    assert int(megabytes) < 120


def test_stdout_and_stderr_keep_their_order(launch, desk):
    launch("""
        from shell_jobs import shell, xm_local
        with xm_local.create_experiment('order') as experiment:
            count = 'i=0; while [ $i -lt 200 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done'
            experiment.add(shell(experiment, count))
    """)
    assert desk.log().decode().splitlines() == [
        f'{stream} {number}' for number in range(200) for stream in ('out', 'err')
    ]


def test_a_log_that_is_deleted_while_it_is_followed_harms_nobody(start, desk):
    launcher = start("""
        from shell_jobs import shell, xm_local
        with xm_local.create_experiment('deleted') as experiment:
            experiment.add(shell(
                experiment, 'echo before; while [ ! -e gate ]; do sleep 0.02; done; echo after; exit 3'
            ))
    """)
    until(lambda: 'before' in launcher.stdout)
    follower = desk.start_command([PROGRAMS / 'xmanager', 'logs', '1.1', '-f'])
    until(lambda: 'before' in follower.stdout)
    (desk.job_folder() / 'output.log').unlink()
    desk.open_gate()
    result = launcher.ended()
    assert result.code == 1
    assert 'unit 1 failed' in result.stderr
    assert desk.units()[0]['message'] == 'job job exited with code 3'
    for told in (result, follower.ended(), desk.xmanager('logs', '1.1')):
        assert 'Traceback' not in told.stderr


def test_a_unit_whose_folder_is_removed_while_it_runs_still_comes_to_an_end(start, desk):
    launcher = start("""
        from shell_jobs import shell, xm_local
        with xm_local.create_experiment('removed') as experiment:
            experiment.add(shell(experiment, 'echo up; while [ ! -e gate ]; do sleep 0.02; done'))
    """)
    until(lambda: 'up' in launcher.stdout)
    shutil.rmtree(desk.job_folder().parent)
    desk.open_gate()
    result = launcher.ended()
    assert 'Traceback' not in result.stderr
    assert desk.states()[0] in ('completed', 'failed', 'lost')


def test_output_of_several_jobs_is_never_mixed_within_a_line(launch):
    result = launch("""
        from shell_jobs import shell, xm, xm_local
        with xm_local.create_experiment('lines') as experiment:
            write = 'for i in $(seq 50); do printf %s $0; printf %s $0; echo; done'
            experiment.add(xm.JobGroup(
                left=shell(experiment, write.replace('$0', 'l'), name=''),
                right=shell(experiment, write.replace('$0', 'r'), name=''),
            ))
    """)
    assert sorted(result.stdout.splitlines()) == ['[1 left] ll'] * 50 + ['[1 right] rr'] * 50
