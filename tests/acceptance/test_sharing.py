"""Experiments of several launchers and homes on one host: nobody gets what another one holds, and all take turns."""

import re
import signal
from collections.abc import Iterator

import pytest
from tests.acceptance.desk import Desk
from tests.acceptance.polling import until

from xmanager.testing import nvml

# A job that runs until a gate is opened: that of all, of its experiment, or its own.
GATED = (
    'echo start $1 $XM_WORK_UNIT_ID $CUDA_VISIBLE_DEVICES >>journal; '
    'while [ ! -e gate ] && [ ! -e gate-$1 ] && [ ! -e gate-$1-$XM_WORK_UNIT_ID ]; do sleep 0.02; done; '
    'echo end $1 $XM_WORK_UNIT_ID $CUDA_VISIBLE_DEVICES >>journal'
)
ONE_CPU = 'cpu=1'


class Host:
    """Two homes with one ledger. Their jobs write into one journal, in which units are called `a.1`."""

    def __init__(self, here: Desk, there: Desk) -> None:
        self.here = here
        self.there = there

    def start(self, name, *requirements, resources, at=None, job=GATED, flags=(), **environment):
        """Launches an experiment of that name, with a unit for each of these requirements, in the background."""
        script = f"""
            from shell_jobs import shell, xm, xm_local
            with xm_local.create_experiment({name!r}) as experiment:
                for requirements in {requirements!r}:
                    needs = xm.JobRequirements(**requirements)
                    command = 'cd {self.here.folder}; ' + {job!r}
                    experiment.add(shell(experiment, command, {name!r}, requirements=needs))
        """
        if resources:
            flags = (f'--xm_local_resources={resources}', *flags)
        return (at or self.here).start(script, *flags, **environment)

    def wait_for(self, *units):
        """Until exactly these run."""
        until(lambda: sorted(self.running) == sorted(units))

    def wait_for_units(self, count, experiment_id=1, at=None):
        """Until the experiment has so many."""
        desk = at or self.here
        words = 'show', str(experiment_id), '--json'

        def found() -> bool:
            result = desk.xmanager(*words)
            return result.code == 0 and len(result.json['experiment']['units']) == count

        until(found)

    def open(self, *gates):
        for gate in gates or ['']:
            (self.here.folder / f'gate{gate and "-" + gate}').touch()

    def moments(self) -> Iterator[dict[str, str]]:
        """What ran at each moment, with its devices."""
        running: dict[str, str] = {}
        for verb, name, unit, *devices in self.here.journal:
            if verb == 'start':
                running[f'{name}.{unit}'] = ''.join(devices)
            else:
                del running[f'{name}.{unit}']
            yield dict(running)

    @property
    def running(self) -> dict[str, str]:
        return [{}, *self.moments()][-1]

    @property
    def started(self) -> list[str]:
        return [f'{words[1]}.{words[2]}' for words in self.here.journal if words[0] == 'start']

    def queue(self, *ids, at=None) -> list[str]:
        """The sentences of `xmanager queue`, without times."""
        result = (at or self.here).xmanager('queue', *ids)
        assert (result.code, result.stderr) == (0, '')
        sentences = result.stdout.partition('\n\n')[0].splitlines()
        return [re.sub(r' since (\d{4}-\d\d-\d\d )?\d\d:\d\d', '', line) for line in sentences]

    def wait_for_queue(self, *sentences, at=None):
        seen: list[str] = []

        def said() -> bool:
            seen[:] = self.queue(at=at)
            return seen == list(sentences)

        try:
            until(said)
        except AssertionError:
            assert seen == list(sentences)
            raise


@pytest.fixture
def host(desk, tmp_path):
    there = Desk(tmp_path / 'desk-there', tmp_path / 'home-there')
    host = Host(desk, there)
    try:
        yield host
        there.may_leave = desk.may_leave
    finally:
        there.tidy(False)


def assert_all_completed(*launchers):
    for launcher in launchers:
        result = launcher.ended()
        assert result.code == 0, result.stderr


def test_nobody_holds_a_gpu_of_another_one_nor_more_cpus_than_there_are(host):
    brief = GATED.replace('while', 'sleep 0.0$XM_WORK_UNIT_ID; while false && ')
    resources = 'cpu=5,local_gpu=4'
    one, two = {'local_gpu': 1, 'cpu': 1}, {'local_gpu': 2, 'cpu': 2}
    launchers = [
        host.start('a', *[one, two] * 4, resources=resources, job=brief),
        host.start('b', *[two, one] * 4, resources=resources, job=brief),
        host.start('c', *[one] * 8, resources=resources, job=brief, at=host.there),
    ]
    assert_all_completed(*launchers)
    assert len(set(host.started)) == len(host.started) == 24
    most = 0
    for running in host.moments():
        devices = ','.join(running.values()).split(',') if running else []
        assert len(set(devices)) == len(devices) <= 4
        most = max(most, len({unit[0] for unit in running}))
    assert most > 1  # They did run side by side.


def test_the_first_that_came_goes_first_whichever_experiment_it_is_of(host):
    a = host.start('a', {}, resources=ONE_CPU)
    host.wait_for('a.1')
    b = host.start('b', {}, {}, resources=ONE_CPU, at=host.there)
    host.wait_for_units(2, at=host.there)
    c = host.start('c', {}, {}, resources=ONE_CPU)
    host.wait_for_queue(
        f'experiment 1 unit 1 of {host.there.home} and 1 more like it wait for 1 CPU each; '
        'none is free, experiment 1 holds 1',
        'experiment 2 unit 1 and 1 more like it wait for 1 CPU each; '
        'none is free, experiment 1 holds 1',
    )
    host.open()
    assert_all_completed(a, b, c)
    assert host.started == ['a.1', 'b.1', 'b.2', 'c.1', 'c.2']
    assert max(map(len, host.moments())) == 1


def test_a_gang_is_not_starved_by_small_units_that_come_later(host):
    resources = 'cpu=8,local_gpu=2'
    a = host.start('a', {'local_gpu': 1}, {'local_gpu': 1}, resources=resources)
    host.wait_for('a.1', 'a.2')
    gang = host.start('gang', {'local_gpu': 2}, resources=resources, at=host.there)
    host.wait_for_units(1, at=host.there)
    small = host.start('small', *[{'local_gpu': 1}] * 4, {'local_gpu': 0}, resources=resources)
    host.open('a-1')
    # Who wants no GPU delays nobody; the others would fit, but keep to their turn.
    host.wait_for('a.2', 'small.5')
    host.wait_for_queue(
        f'experiment 1 unit 1 of {host.there.home} waits for 2 GPUs; 1 is free, experiment 1 holds 1',
        'experiment 2 unit 1 and 3 more like it wait; its turn is after '
        f'experiment 1 unit 1 of {host.there.home}, which waits for 2 GPUs',
    )
    host.open()
    assert_all_completed(a, gang, small)
    assert host.started.index('gang.1') == 3


def test_halves_of_two_experiments_sit_on_one_gpu(host):
    half, resources = {'local_gpu': 0.5, 'cpu': 0.5}, 'cpu=4,local_gpu=2'
    a = host.start('a', half, resources=resources)
    host.wait_for('a.1')
    b = host.start('b', half, {'local_gpu': 1}, half, resources=resources, at=host.there)
    host.wait_for('a.1', 'b.1', 'b.2')
    assert host.running == {'a.1': '0', 'b.1': '0', 'b.2': '1'}
    host.wait_for_queue(
        f'experiment 1 unit 3 of {host.there.home} waits for 0.5 of a GPU; none has room, '
        'other units of it hold 1.5, experiment 1 holds 0.5'
    )
    table = host.here.xmanager('queue').stdout
    assert re.search(r'experiment 1 +1 +0\.5 of GPU 0, 0\.5 CPU', table)
    host.open()
    assert_all_completed(a, b)


@pytest.fixture
def gpus(host, monkeypatch):
    """`gpus(71, None)`: two devices, on the first of which the process 71 runs."""
    file = host.here.folder / 'gpus.json'
    for desk in (host.here, host.there):
        desk.environment |= {'XM_NVML_MODULE': 'xmanager.testing.nvml', nvml.FILE: str(file)}
        desk.environment.pop('CUDA_VISIBLE_DEVICES', None)

    def put(*pids):
        processes = [[{'pid': pid}] if pid else [] for pid in pids]
        nvml.put(file, [{'uuid': f'GPU-{i}', 'processes': p} for i, p in enumerate(processes)])

    return put


def test_a_gpu_that_a_stranger_uses_is_left_alone_until_he_is_gone(host, gpus):
    gpus(None, 71)
    one = {'local_gpu': 1, 'cpu': 0}
    a = host.start('a', one, one, resources='')
    host.wait_for_queue(
        'experiment 1 unit 2 waits for 1 GPU; none is free, other units of it hold 1, '
        'a process that is none of ours uses GPU 1'
    )
    assert re.search(r'others +GPU 1', host.here.xmanager('queue').stdout)
    assert host.running == {'a.1': '0'}
    # What runs on a device that is held is no stranger, whatever number it has.
    gpus(72, None)
    host.wait_for('a.1', 'a.2')
    assert host.running == {'a.1': '0', 'a.2': '1'}
    host.open()
    assert_all_completed(a)


def test_a_gpu_that_a_stranger_uses_is_taken_if_one_says_so(host, gpus):
    gpus(71, 72)
    one = {'local_gpu': 1, 'cpu': 0}
    a = host.start('a', one, one, resources='', flags=['--xm_local_gpus_ignore_others'])
    host.wait_for('a.1', 'a.2')
    assert sorted(host.running.values()) == ['0', '1']
    host.open()
    assert_all_completed(a)


def test_what_a_job_holds_stays_its_own_though_all_who_know_of_it_were_killed(host):
    resources = 'cpu=4,local_gpu=1'
    a = host.start('a', {'local_gpu': 1}, {'local_gpu': 1}, resources=resources)
    host.wait_for('a.1')
    a.send(signal.SIGKILL)
    a.ended()
    host.here.kill_supervisor()
    b = host.start('b', {'local_gpu': 1}, resources=resources, at=host.there)
    host.wait_for_queue(
        f'experiment 1 unit 1 waits for 1 GPU; none is free, experiment 1 of {host.here.home} holds 1',
        at=host.there,
    )
    host.wait_for_queue(
        f'experiment 1 unit 1 of {host.there.home} waits for 1 GPU; none is free, experiment 1 holds 1',
        'experiment 1 unit 2 waits; no supervisor is alive: xmanager supervise 1',
    )
    assert 'experiment 1 (no supervisor)' in host.here.xmanager('queue').stdout
    assert host.running == {'a.1': '0'}
    host.open('a-1')
    host.wait_for('b.1')
    # Who takes over stands in line again.
    assert host.here.xmanager('supervise', '1', XM_LOCAL_RESOURCES=resources).code == 0
    host.wait_for_queue(
        'experiment 1 unit 2 waits for 1 GPU; none is free, '
        f'experiment 1 of {host.there.home} holds 1',
    )
    host.open()
    assert_all_completed(b)
    until(lambda: host.here.states() == ['completed', 'completed'])


def test_a_job_that_launches_an_experiment_does_not_wait_for_its_own_cpu(host):
    inner = host.here.write(
        'inner.py',
        """
        from shell_jobs import shell, xm_local
        with xm_local.create_experiment('inner') as experiment:
            for _ in range(2):
                experiment.add(shell(experiment, 'echo start inner $XM_WORK_UNIT_ID >>journal'))
        """,
    )
    outer = host.start('outer', {}, resources=ONE_CPU, job=f'xmanager launch {inner.name}')
    assert_all_completed(outer)
    assert host.started == ['inner.1', 'inner.2']
    assert host.here.states(1) == ['completed']
    assert host.here.states(2) == ['completed', 'completed']


def test_importance_counts_across_experiments(host):
    a = host.start('a', {}, resources=ONE_CPU)
    host.wait_for('a.1')
    b = host.start('b', {}, {}, resources=ONE_CPU)
    host.wait_for_units(2, experiment_id=2)
    c = host.start('c', {}, {}, resources=ONE_CPU, at=host.there)
    host.wait_for_units(2, at=host.there)
    assert host.there.xmanager('move', '1.2', '--importance', 'high').code == 0
    assert host.here.xmanager('move', '2.1', '--importance', 'low').code == 0
    first = f'experiment 1 unit 2 of {host.there.home}'
    until(lambda: host.queue()[0].startswith(first) and 'unit 1 ' in host.queue('2')[-1])
    host.open()
    assert_all_completed(a, b, c)
    assert host.started == ['a.1', 'c.2', 'b.2', 'c.1', 'b.1']


def test_others_pass_an_experiment_that_is_paused(host):
    a = host.start('a', {}, resources=ONE_CPU)
    host.wait_for('a.1')
    b = host.start('b', {}, {}, resources=ONE_CPU)
    host.wait_for_units(2, experiment_id=2)
    c = host.start('c', {}, resources=ONE_CPU, at=host.there)
    host.wait_for_units(1, at=host.there)
    assert host.here.xmanager('pause', '2').code == 0
    host.wait_for_queue(
        f'experiment 1 unit 1 of {host.there.home} waits for 1 CPU; none is free, experiment 1 holds 1',
        'experiment 2 unit 1 waits, with 1 more behind it; paused: xmanager resume 2',
    )
    host.open('a', 'c')
    assert_all_completed(a, c)
    assert host.started == ['a.1', 'c.1']
    assert host.here.xmanager('resume', '2').code == 0
    host.open()
    assert_all_completed(b)
    assert host.started == ['a.1', 'c.1', 'b.1', 'b.2']


def test_the_queue_says_when_a_unit_is_tried_again(desk, host):
    launcher = desk.start(
        """
        from shell_jobs import shell, xm_local
        with xm_local.create_experiment('stubborn') as experiment:
            experiment.add(shell(experiment, 'exit 3', max_restarts=1, backoff=90))
        """
    )
    host.wait_for_units(1)
    until(lambda: desk.states() == ['restarting'])
    [sentence] = host.queue()
    assert re.fullmatch(r'experiment 1 unit 1 tries again in \d\d s', sentence)
    assert desk.xmanager('stop', '1').code == 0
    assert launcher.ended().code == 1
    assert host.queue() == ['nothing waits']
