import pytest

from xmanager.ledger import Entry, Hold, Ledger, place
from xmanager.testing import nvml


@pytest.fixture
def bare_path(tmp_path, monkeypatch):
    """A PATH on which there is nothing but what a test puts there."""
    folder = tmp_path / 'bin'
    folder.mkdir()
    monkeypatch.setenv('PATH', str(folder))
    monkeypatch.delenv('KUBECONFIG', raising=False)
    monkeypatch.delenv('KUBERNETES_SERVICE_HOST', raising=False)
    monkeypatch.setenv('HOME', str(tmp_path))

    def put(name, script='exit 0'):
        (folder / name).write_text(f'#!/bin/sh\n{script}\n')
        (folder / name).chmod(0o755)

    return put


def checks(run):
    return {check['topic']: check for check in run('doctor', '--json').json['checks']}


def test_each_line_has_a_status_a_topic_and_what_to_do(run, lab, bare_path):
    code, out, err = run('doctor')
    assert (code, err) == (0, '')
    topics = [line.split()[1] for line in out.splitlines() if not line.startswith(' ')]
    assert topics == [
        'python', 'cpus', 'memory', 'gpus', 'ledger', 'containers', 'slurm', 'kubernetes', 'home', 'database',
    ]  # fmt: skip
    assert 'missing  slurm       sbatch is not on PATH' in out
    assert '→ only if you need it: run xmanager on a login node' in out


def test_engines_are_found_on_path(run, bare_path):
    bare_path('kubectl')
    found = checks(run)
    assert found['kubernetes']['status'] == 'warn'
    assert 'KUBECONFIG' in found['kubernetes']['advice']


def test_no_container_engine_is_no_fault(run, bare_path, monkeypatch, tmp_path):
    monkeypatch.setenv('DOCKER_HOST', f'unix://{tmp_path}/none.sock')
    found = checks(run)['containers']
    assert found['status'] == 'missing'
    assert 'no container engine is running' in found['detail']
    assert 'none.sock' in found['detail']


def test_gpus_are_told_by_name(run, bare_path, monkeypatch):
    bare_path('nvidia-smi', 'echo NVIDIA A100; echo NVIDIA A100')
    monkeypatch.setenv('XM_LOCAL_RESOURCES', 'local_gpu=2,cpu=64,ram=1GiB')
    found = checks(run)
    assert found['gpus']['detail'] == '2: NVIDIA A100, NVIDIA A100'
    assert found['memory']['detail'] == '1.0 GiB'
    assert found['cpus']['facts']['usable'] == 64


@pytest.fixture
def play(tmp_path, monkeypatch):
    """GPUs that NVML knows."""
    monkeypatch.setenv('XM_NVML_MODULE', 'xmanager.testing.nvml')
    monkeypatch.setenv(nvml.FILE, str(tmp_path / 'gpus.json'))
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    return lambda *devices, **more: nvml.put(tmp_path / 'gpus.json', devices, **more)


def test_what_runs_on_gpus_is_told(run, bare_path, play):
    busy = {'uuid': 'GPU-b', 'name': 'NVIDIA L4', 'processes': [{'pid': 71, 'memory': 1000}]}
    play({'uuid': 'GPU-a', 'name': 'NVIDIA A100'}, busy)
    found = checks(run)['gpus']
    assert found['status'] == 'ok'
    assert found['detail'] == '2: NVIDIA A100, NVIDIA L4; processes run on 1 (pid 71)'
    assert found['facts']['devices'][1]['processes'] == [{'pid': 71, 'memory': 1000}]


def test_gpus_that_are_lost_or_do_not_tell_are_a_warning(run, bare_path, play):
    play(
        {'uuid': 'GPU-a', 'name': 'NVIDIA A100', 'processes_error': 'NOT_SUPPORTED'},
        {'uuid': 'GPU-b', 'error': 'GPU_IS_LOST'},
    )
    found = checks(run)['gpus']
    assert (found['status'], found['facts']['usable']) == ('warn', 1)
    assert found['detail'] == (
        '1: NVIDIA A100; what runs on 0 can not be seen: its driver does not tell; '
        '1 can not be used: it is lost, the driver no longer reaches it'
    )
    assert found['advice'] == 'see the kernel log for Xid; reboot'


def test_gpus_whose_driver_does_not_answer_are_a_warning(run, bare_path, play, monkeypatch):
    play(error='DRIVER_NOT_LOADED')
    found = checks(run)['gpus']
    assert (found['status'], found['advice']) == ('warn', 'sudo modprobe nvidia')
    assert found['detail'] == "none to use: the driver's kernel module is not loaded"
    monkeypatch.setenv('XM_LOCAL_RESOURCES', 'local_gpu=2')
    assert checks(run)['gpus']['detail'] == (
        "2; what runs on them can not be seen: the driver's kernel module is not loaded"
    )


def test_gpus_that_the_environment_hides_are_told(run, bare_path, play, monkeypatch):
    play({'uuid': 'GPU-a', 'name': 'NVIDIA A100'})
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    found = checks(run)['gpus']
    assert found['detail'] == 'none to use, though there are 1: NVIDIA A100'
    assert 'CUDA_VISIBLE_DEVICES' in found['advice']


def test_the_ledger_is_told_with_those_who_keep_account_there(
    run, bare_path, tmp_path, monkeypatch
):
    monkeypatch.setenv('XM_LOCAL_LEDGER', str(tmp_path / 'ledger'))
    (tmp_path / 'ledger').mkdir()
    (tmp_path / 'ledger').chmod(0o1777)
    here = place.prepare(tmp_path / 'ledger')
    ledger = Ledger(here, Entry('a', 'ada', '/home', 1, 1, ''))
    with ledger.turn():
        ledger.write([Hold('key', '1', {'job': {'cpu': 1.0}}, {}, 0.0)], [])
    found = checks(run)['ledger']
    assert (found['status'], found['facts']['shared']) == ('ok', True)
    assert found['detail'] == (
        f'{tmp_path}/ledger, shared by those who may write to it; 1 supervisor, 1 unit holds something'
    )
    ledger.close()
    assert checks(run)['ledger']['facts']['supervisors'] == 0


def test_a_ledger_that_cannot_be_trusted_is_bad_and_told_once(
    run, bare_path, tmp_path, monkeypatch
):
    monkeypatch.setenv('XM_LOCAL_LEDGER', str(tmp_path / 'ledger'))
    (tmp_path / 'ledger').mkdir()
    (tmp_path / 'ledger').chmod(0o777)
    code, out, _ = run('doctor')
    assert code == 1
    assert f'As its owner run: chmod +t {tmp_path}/ledger' in out
    assert out.count('chmod +t') == 1


def test_a_new_home_is_fine_and_is_not_made(run, home, bare_path):
    found = checks(run)
    assert found['home']['status'] == found['database']['status'] == 'ok'
    assert 'made by the first launch' in found['home']['detail']
    assert not home.path.exists()


def test_the_database_is_checked(run, lab, bare_path):
    lab.experiment('completed')
    found = checks(run)['database']
    assert found['status'] == 'ok'
    assert found['facts']['experiments'] == 1


def test_a_damaged_database_is_bad_and_exits_with_1(run, home, bare_path):
    home.path.mkdir()
    home.database.write_bytes(b'this is no database' * 1000)
    code, out, _ = run('doctor')
    assert code == 1
    assert 'bad      database' in out


def test_a_home_that_cannot_be_is_bad(run, home, bare_path):
    home.path.write_text('a file')
    code, out, _ = run('doctor')
    assert code == 1
    assert 'bad      home' in out
    assert '→ set XM_HOME to a folder of yours on a local disk' in out


def test_a_setting_that_cannot_be_read_is_bad(run, home, bare_path, monkeypatch):
    monkeypatch.setenv('XM_LOCAL_RESOURCES', 'bananas=3')
    found = checks(run)['local']
    assert found['status'] == 'bad'
    assert 'bananas' in found['detail']
