import pytest

LAUNCHER = """
from xmanager import xm, xm_local
with xm_local.create_experiment('a title') as experiment:
    print('hello from', experiment.experiment_id)
    [sh] = experiment.package([xm.binary(xm_local.Local.Spec(), '/bin/sh')])
    for n in range(5):
        experiment.add(xm.Job(sh, xm_local.Local()), args={'args': {'n': n}})
"""

INSTRUCTED = """
from xmanager import xm, xm_local
with xm_local.create_experiment('a title') as experiment:
    experiment.package([
        xm.python_container(
            xm_local.Local.Spec(), xm.ModuleName('train'), 'code', base_image='base:1',
            docker_instructions=['RUN pip install -i https://me:hush@host.test/simple alpha'],
        )
    ])
"""


@pytest.fixture
def launcher(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('XM_DRY_RUN', 'false')  # Put back, whatever a script's flags make of it.
    path = tmp_path / 'launcher.py'
    path.write_text(LAUNCHER)
    return path


def test_each_executable_takes_a_line_and_what_the_script_prints_is_not_among_them(run, launcher):
    result = run('package', launcher)
    assert (result.code, result.out) == (0, 'sh  binary  /bin/sh\n')
    assert 'hello from 0\n' in result.err


def test_nothing_is_recorded(run, launcher, home):
    run('package', launcher)
    run('package', launcher, '--dry-run')
    assert not home.database.exists()


def test_a_dry_run_tells_what_would_run(run, launcher):
    result = run('package', launcher, '--dry-run')
    assert result.code == 0
    assert 'a title  5 work units\n' in result.out
    assert '  unit 2  n=1\n    command  /bin/sh --n=1\n' in result.out
    assert '… and 2 more' in result.out
    assert 'hello' not in result.out
    assert '… and 2 more' not in run('package', '-v', '--dry-run', launcher).out


def test_the_script_may_ask_for_a_dry_run_itself(run, launcher):
    assert 'a title  5 work units\n' in run('package', launcher, '--', '--xm_dry_run').out


def test_flags_after_the_dashes_are_the_scripts(run, launcher):
    launcher.write_text('import sys\nprint(sys.argv[1:])')
    result = run('package', launcher, '--json', '--', '--json', '--', '-v')
    assert "['--json', '--', '-v']\n" in result.err
    assert result.json == {'schema': 'xmanager/1', 'executables': []}


def test_a_script_that_packages_nothing_is_told_of(run, launcher):
    launcher.write_text('')
    result = run('package', launcher)
    assert (result.code, result.out) == (0, '')
    assert result.err == 'xmanager: the script packages nothing\n'


@pytest.mark.parametrize('flags', [[], ['--dry-run'], ['--json'], ['--dry-run', '--json']])
def test_a_script_that_fails_fails_the_command(run, launcher, flags):
    launcher.write_text(f'{LAUNCHER}\n1 / 0')
    result = run('package', launcher, *flags)
    assert (result.code, result.out) == (1, '')
    assert 'launcher.py:9: ZeroDivisionError' in result.err


def test_a_unit_that_could_never_run_fails_a_dry_run_and_not_the_packaging(run, launcher):
    launcher.write_text(LAUNCHER.replace('Local()', 'Local(xm.JobRequirements(cpu=10000))'))
    assert run('package', launcher).code == 0
    result = run('package', launcher, '--dry-run')
    assert result.code == 1
    assert 'launcher.py:7: ' in result.err
    assert '10000' in result.err


@pytest.mark.parametrize(
    ('flags', 'said'),
    [
        (['--dryrun'], 'there is no option --dryrun. Flags of the script come after --'),
        (['--output', 'a', '--push', 'b/c'], '--output and --push exclude each other'),
        (['--output', ''], '--output and --push need a value'),
        (['-v'], 'add --dry-run'),
        (['--output', 'here'], '--output: the script packages no image. Leave it out.'),
        (['--push', 'localhost/x'], '--push: the script packages no image.'),
    ],
)
def test_misuse_is_told(run, launcher, flags, said):
    result = run('package', launcher, *flags)
    assert result.code == 2
    assert said in result.err


def test_a_file_that_is_not_there_is_told(run, launcher):
    result = run('package', 'nothing.py')
    assert result.code == 2
    assert 'nothing.py does not exist' in result.err


def test_a_dry_run_shows_no_secrets_of_instructions(run, launcher, tmp_path):
    (tmp_path / 'code').mkdir()
    (tmp_path / 'code' / 'train.py').touch()
    launcher.write_text(INSTRUCTED)
    for flags in ((), ('--json',)):
        said = run('package', launcher, '--dry-run', *flags).out
        assert 'pip install -i https://***@host.test/simple alpha' in said
        assert 'hush' not in said
