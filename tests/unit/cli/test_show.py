import shlex
import subprocess

import pytest

from xmanager.store import AUXILIARY
from xmanager.store.command_lines import quoted
from xmanager.store.presence import Presence


def fields(lines):
    return dict(line.strip().split('  ', 1) for line in lines if '  ' in line.strip())


def test_an_experiment_is_shown_with_its_units(run, lab):
    record = lab.experiment(
        title='digits', script='/code/launch.py', argv=('--lr', '0.1', '--api_key=hush')
    )
    lab.add(record.id, 'completed', args={'args': {'lr': 0.1, 'width': 64, 'token': 'hush'}})
    (failing,) = lab.add(record.id, 'running', args={'args': {'lr': 10}})
    lab.move(failing, 'failed', 'train exited with code 1', exit_code=1)
    lab.add(record.id, 'running', kind=AUXILIARY)
    supervisor = Presence(record.folder).supervise()
    code, out, err = run('show', record.id)
    assert supervisor is not None
    supervisor.release()
    assert (code, err) == (0, '')
    header, units = out.split('\n\n')
    assert header.splitlines()[0] == '1  digits  running'
    shown = {name: value.strip() for name, value in fields(header.splitlines()[1:]).items()}
    assert shown['units'] == '3: 1 completed, 1 failed, 1 running'
    assert shown['user'] == 'ada@gpu-box'
    assert shown['created'] == '2026-02-02T02:40:00.000Z'
    assert shown['script'] == "/code/launch.py --lr 0.1 '--api_key=***'"
    assert shown['folder'] == str(record.folder)
    titles, first, second, auxiliary = units.splitlines()
    assert titles.split() == ['UNIT', 'STATUS', 'ARGS', 'STARTED', 'DURATION', 'MESSAGE']
    assert first.split() == [
        '1', 'completed', 'lr=0.1', 'width=64', 'token=***', '2026-02-02T02:40:02.000Z', '1.0s',
    ]  # fmt: skip
    assert second.endswith('1.0s  train exited with code 1')
    assert auxiliary.split()[:2] == ['a1', 'running']


def test_a_paused_experiment_says_so_and_since_when(run, lab):
    record = lab.experiment('completed')
    assert run('show', record.id).lines[0] == '1  cifar10  completed'
    lab.store.set_paused(record.id, True, actor='test')
    first, *more = run('show', record.id).lines
    assert first == '1  cifar10  completed  paused'
    shown = {name: value.strip() for name, value in fields(more).items()}
    assert shown['paused'] == '2026-02-02T02:40:03.000Z'


def test_an_active_experiment_that_nobody_supervises_says_so(run, lab):
    record = lab.experiment('running')
    assert f'xmanager supervise {record.id}' in run('show', record.id).err


def test_an_experiment_without_units_is_shown_without_a_table(run, lab):
    assert run('show', lab.experiment().id).lines[0] == '1  cifar10  empty'


def test_a_unit_is_shown_with_its_jobs_and_its_history(run, lab):
    record = lab.experiment()
    job = lab.task(
        'train',
        '/bin/sh',
        '-c',
        "echo it's\n$HOME",
        '--password=hush',
        env={'NOTE': 'a b', 'MY_TOKEN': 'hush'},
        secrets={'WANDB_API_KEY': 'WANDB_API_KEY'},
        requirements={'cpu': 2, 'ram': 4 << 30},
    )
    (unit,) = lab.add(record.id, 'running', tasks=[job])
    lab.move(unit, 'failed', 'train exited with code 3', exit_code=3)
    lab.log(unit, b'x' * 2048)
    code, out, err = run('show', '1.1')
    assert (code, err) == (0, '')
    assert 'hush' not in out
    head, train, history = out.split('\n\n')
    assert head.splitlines()[0] == '1.1  cifar10  failed'
    assert 'train exited with code 3' in head
    assert train.splitlines()[0] == 'train  exit code 3'
    shown = {name: value.strip() for name, value in fields(train.splitlines()[1:]).items()}
    assert shown['command'] == r"""/bin/sh -c $'echo it\'s\n$HOME' '--password=***'"""
    assert shown['cwd'] == '/tmp'
    assert shown['needs'] == 'cpu 2, ram 4.0 GiB'
    assert shown['log'] == f'{unit.tasks[0].folder}/output.log  (2.0 KiB)'
    assert "MY_TOKEN='***'\n" in train
    assert "NOTE='a b'\n" in train
    assert "WANDB_API_KEY='<secret WANDB_API_KEY>'\n" in train
    title, *moves = history.splitlines()
    assert title == 'history'
    assert [move.split()[1] for move in moves] == ['queued', 'starting', 'running', 'failed']
    assert moves[-1].endswith('train exited with code 3, supervisor')


def test_a_signal_is_shown_by_name(run, lab):
    from xmanager.backend import TaskObservation
    from xmanager.store import Change

    lab.experiment('running')
    killed = {'train': TaskObservation('exited', signal=9)}
    lab.store.move([Change(1, 'failed', tasks=killed)], actor='supervisor')
    assert 'train  killed by SIGKILL' in run('show', '1.1').lines


@pytest.mark.parametrize(
    'argv', [('a b', "it's", '$HOME', ''), ('line\nline', "\t'\\", 'é\x01'), ('日本', '`x`', '*')]
)
def test_a_command_line_can_be_pasted_into_a_shell(argv):
    shown = quoted(argv)
    assert '\n' not in shown
    said = subprocess.run(
        ['bash', '-c', f'printf "%s\\0" {shown}'], capture_output=True, check=True
    )
    assert said.stdout.decode().split('\0')[:-1] == list(argv)
    if all(argument.isprintable() for argument in argv):
        assert shlex.split(shown) == list(argv)


@pytest.mark.parametrize(
    ('where', 'sentence'),
    [
        ('2', 'there is no experiment 2 in'),
        ('1.7', 'experiment 1 has no unit 7: it has units 1 to 3 and a1'),
        ('1.a2', 'experiment 1 has no unit a2: it has units 1 to 3 and a1'),
    ],
)
def test_what_is_not_there_is_answered_by_what_is(run, lab, where, sentence):
    lab.add(lab.experiment('queued', 'queued', 'queued').id, 'queued', kind=AUXILIARY)
    code, out, err = run('show', where)
    assert (code, out) == (1, '')
    assert err.startswith(f'xmanager: {sentence}')
    assert err.count('\n') == 1


def test_a_unit_of_an_empty_experiment_is_not_there(run, lab):
    lab.experiment()
    assert run('show', '1.1').err == 'xmanager: experiment 1 has no unit 1: it has no units\n'


def test_a_unit_in_the_queue_of_another_engine_is_told_to_wait_and_why(run, lab):
    lab.experiment('starting')
    lab.submitted(1, 'waits: Priority')
    out = run('show', 1).out
    assert ' 2: 1 starting, 1 waiting' in out
    [line] = [line for line in out.splitlines() if line.strip().startswith('2 ')]
    assert line.split() == ['2', 'waiting', 'waits:', 'Priority']
    out = run('show', '1.2').out
    assert out.splitlines()[0].split() == ['1.2', 'cifar10', 'waiting']
    assert 'waits: Priority' in out
    assert 'slurm 4711_2@b' in out
    unit = run('show', '1.2', '--json').json['unit']
    assert (unit['state'], unit['message'], unit['reference']) == (
        'starting',
        'waits: Priority',
        '4711_2@b',
    )


def test_the_machine_on_which_a_unit_runs_is_told(run, lab):
    lab.experiment()
    [unit] = lab.submitted(1, 'waits: Priority')
    lab.move(unit, 'running', message='on n3')
    assert run('show', 1).lines[-1].split()[-2:] == ['on', 'n3']


def test_what_misses_a_supervisor_is_told_as_it_is(lab, run):
    record = lab.experiment('queued')
    assert 'and no unit starts' in run('show', record.id).err
    lab.submitted(record.id, 'waits: Priority')
    assert 'and no other unit is submitted' in run('show', record.id).err
