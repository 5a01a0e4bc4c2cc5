import pytest


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
        'python', 'cpus', 'memory', 'gpus', 'docker', 'podman', 'slurm', 'kubernetes', 'home', 'database',
    ]  # fmt: skip
    assert 'missing  slurm       sbatch is not on PATH' in out
    assert '→ only if you need it: run xmanager on a login node' in out


def test_engines_are_found_on_path(run, bare_path):
    bare_path('sbatch')
    bare_path('kubectl')
    found = checks(run)
    assert found['slurm']['status'] == 'ok'
    assert found['slurm']['detail'].endswith('/bin/sbatch')
    assert found['docker']['status'] == 'missing'
    assert found['kubernetes']['status'] == 'warn'
    assert 'KUBECONFIG' in found['kubernetes']['advice']


def test_gpus_are_told_by_name(run, bare_path, monkeypatch):
    bare_path('nvidia-smi', 'echo NVIDIA A100; echo NVIDIA A100')
    monkeypatch.setenv('XM_LOCAL_RESOURCES', 'local_gpu=2,cpu=64,ram=1GiB')
    found = checks(run)
    assert found['gpus']['detail'] == '2: NVIDIA A100, NVIDIA A100'
    assert found['memory']['detail'] == '1.0 GiB'
    assert found['cpus']['facts']['usable'] == 64


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
