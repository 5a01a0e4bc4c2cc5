import importlib
import sys

import pytest

from xmanager.errors import UsageError
from xmanager.launch import settings
from xmanager.launch.settings import SETTINGS, take_flags


@pytest.fixture
def no_absl():
    """As in a script that has not imported absl; what the test imports of it is forgotten."""

    def forget():
        names = [name for name in sys.modules if name.partition('.')[0] == 'absl']
        return {name: sys.modules.pop(name) for name in names}

    before = forget()
    yield
    forget()
    sys.modules.update(before)


@pytest.fixture
def absl_flags(no_absl):
    """As in a script that has just imported absl."""
    return importlib.import_module('absl.flags')


@pytest.mark.parametrize(
    ('argv', 'ours'),
    [
        (['--xm_detach'], {'XM_DETACH': 'true'}),
        (['-xm_detach'], {'XM_DETACH': 'true'}),
        (['--noxm_detach'], {'XM_DETACH': 'false'}),
        (['--xm_detach=1'], {'XM_DETACH': '1'}),
        (['--xm_detach=False'], {'XM_DETACH': 'False'}),
        (['--xm_local_resources=cpu=8,ram=1GiB'], {'XM_LOCAL_RESOURCES': 'cpu=8,ram=1GiB'}),
        (['--xm_local_resources', 'cpu=8'], {'XM_LOCAL_RESOURCES': 'cpu=8'}),
        (['--xm_local_resources='], {'XM_LOCAL_RESOURCES': ''}),
        (['--xm_cloud_build_timeout_seconds', '5'], {'XM_CLOUD_BUILD_TIMEOUT_SECONDS': '5'}),
        (['--xm_detach', '--noxm_detach'], {'XM_DETACH': 'false'}),
        (
            ['--xm_bazel_command', 'bazelisk', '--xm_upgrade_db'],
            {'XM_BAZEL_COMMAND': 'bazelisk', 'XM_UPGRADE_DB': 'true'},
        ),
    ],
)
def test_our_flags_are_understood_in_every_form(argv, ours):
    assert take_flags(argv) == (ours, [])


@pytest.mark.parametrize(
    'argument',
    [
        '--lr=1', '--xm_unknown=1', '--noxm_unknown', '--detach', '--nodetach', '--xm-detach', 'xm_detach', '-v',
        '-', '', '---', '--=x', '--my_xm_detach', '--no_xm_detach', '--use_kaniko', '--xm_', '--noxm_',
    ],
)  # fmt: skip
def test_what_is_no_flag_of_ours_is_left_to_the_script(argument):
    assert take_flags([argument, 'next']) == ({}, [argument, 'next'])


def test_a_switch_does_not_take_the_argument_that_follows():
    assert take_flags(['--xm_detach', 'false']) == ({'XM_DETACH': 'true'}, ['false'])


def test_the_flags_of_the_script_keep_their_order():
    argv = ['--b=1', '--xm_detach', 'x', '--xm_gcs_path', '/gcs', '--a', '2']
    assert take_flags(argv)[1] == ['--b=1', 'x', '--a', '2']


def test_what_stands_after_two_dashes_is_left_alone():
    argv = ['--xm_detach', '--', '--xm_upgrade_db', '--', '--noxm_detach']
    assert take_flags(argv) == ({'XM_DETACH': 'true'}, argv[1:])


@pytest.mark.parametrize(
    ('argv', 'message'),
    [
        (['--xm_detach=maybe'], '--xm_detach=maybe: expected true or false.'),
        (
            ['--xm_cloud_build_timeout_seconds=2 min'],
            '--xm_cloud_build_timeout_seconds=2 min: expected a whole number.',
        ),
        (
            ['--xm_cloud_build_timeout_seconds', '1.5'],
            '--xm_cloud_build_timeout_seconds=1.5: expected a whole number.',
        ),
        (
            ['--xm_local_resources'],
            '--xm_local_resources: expected a value, --xm_local_resources=VALUE.',
        ),
        (['--noxm_gcs_path', 'x'], '--noxm_gcs_path: expected --xm_gcs_path=VALUE.'),
        (['--noxm_detach=true'], '--noxm_detach=true: expected --xm_detach=VALUE.'),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(argv, message):
    with pytest.raises(UsageError) as caught:
        take_flags(argv)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ('text', 'value'),
    [('1', True), ('TRUE', True), ('yes', True), ('On', True), ('0', False), ('', False)],
)
def test_switches_are_read_from_the_environment(monkeypatch, no_absl, text, value):
    monkeypatch.setenv('XM_DETACH', text)
    assert settings.get('detach') is value


def test_numbers_and_texts_are_read_from_the_environment(monkeypatch, no_absl):
    monkeypatch.setenv('XM_CLOUD_BUILD_TIMEOUT_SECONDS', '30')
    monkeypatch.setenv('XM_LOCAL_RESOURCES', 'cpu=2')
    assert settings.get('cloud_build_timeout_seconds') == 30
    assert settings.get('local_resources') == 'cpu=2'


def test_a_bad_value_in_the_environment_is_refused_when_it_is_asked_for(monkeypatch, no_absl):
    monkeypatch.setenv('XM_DETACH', 'perhaps')
    with pytest.raises(UsageError, match='expected true or false'):
        settings.get('detach')


def test_without_any_word_the_defaults_hold(no_absl):
    for setting in SETTINGS.values():
        assert settings.get(setting.name) == setting.default


def test_only_what_differs_from_the_defaults_is_exported(monkeypatch, no_absl):
    monkeypatch.setenv('XM_LOCAL_RESOURCES', 'cpu=2')
    monkeypatch.setenv('XM_BUILD_IMAGE_LOCALLY', 'no')
    environ = {'PATH': '/bin'}
    settings.export(environ)
    assert environ == {
        'PATH': '/bin',
        'XM_LOCAL_RESOURCES': 'cpu=2',
        'XM_BUILD_IMAGE_LOCALLY': 'False',
    }


def test_what_is_exported_reads_as_the_same_values(monkeypatch, absl_flags):
    settings.define_absl_flags()
    absl_flags.FLAGS(['launcher.py', '--xm_detach', '--xm_cloud_build_timeout_seconds=7'])
    environ: dict[str, str] = {}
    settings.export(environ)
    parsed = {name: SETTINGS[name[3:].lower()].parse(text) for name, text in environ.items()}
    assert parsed == {'XM_DETACH': True, 'XM_CLOUD_BUILD_TIMEOUT_SECONDS': 7}


def test_a_flag_that_restores_the_default_overrides_the_environment(monkeypatch, absl_flags):
    monkeypatch.setenv('XM_LOCAL_RESOURCES', 'cpu=1')
    monkeypatch.setenv('XM_DETACH', '1')
    settings.define_absl_flags()
    absl_flags.FLAGS(['launcher.py', '--xm_local_resources=', '--noxm_detach'])
    environ = {'XM_LOCAL_RESOURCES': 'cpu=1', 'XM_DETACH': '1'}
    settings.export(environ)
    assert environ == {'XM_LOCAL_RESOURCES': '', 'XM_DETACH': 'False'}


def test_absl_is_not_imported_for_a_script_that_does_not_use_it(no_absl):
    settings.define_absl_flags()
    settings.get('detach')
    assert 'absl' not in sys.modules


def test_absl_knows_our_flags_and_what_the_environment_says(monkeypatch, absl_flags):
    monkeypatch.setenv('XM_LOCAL_RESOURCES', 'cpu=2')
    settings.define_absl_flags()
    absl_flags.FLAGS(['launcher.py', '--xm_detach'])
    assert absl_flags.FLAGS.xm_detach is True
    assert absl_flags.FLAGS.xm_local_resources == 'cpu=2'
    assert absl_flags.FLAGS.xm_cloud_build_timeout_seconds == 1200
    assert settings.get('detach') is True


def test_defining_the_flags_again_or_beside_a_strangers_of_that_name_is_harmless(absl_flags):
    absl_flags.DEFINE_string('xm_gcs_path', '/theirs', 'A flag of the script.')
    settings.define_absl_flags()
    settings.define_absl_flags()
    absl_flags.FLAGS(['launcher.py'])
    assert absl_flags.FLAGS.xm_gcs_path == '/theirs'


def test_a_flag_that_absl_was_not_given_is_read_from_the_environment(monkeypatch, absl_flags):
    settings.define_absl_flags()
    absl_flags.FLAGS(['launcher.py'])
    monkeypatch.setenv('XM_DETACH', '1')
    assert settings.get('detach') is True


@pytest.mark.parametrize(
    ('argv', 'recorded'),
    [
        (['--lr=1', '--xm_notify=https://h/hush'], ('--lr=1', '--xm_notify=***')),
        (['-xm_notify', 'https://h/hush', '--lr', '1'], ('-xm_notify', '***', '--lr', '1')),
        (['--xm_detach', 'xm_notify', '--xm_notify'], ('--xm_detach', 'xm_notify', '--xm_notify')),
    ],
)
def test_a_command_line_is_recorded_without_the_values_of_secret_flags(argv, recorded):
    assert settings.without_secrets(argv) == recorded


def test_the_help_of_a_script_does_not_show_a_webhook(monkeypatch, absl_flags):
    monkeypatch.setenv('XM_NOTIFY', 'https://h/hush')
    settings.define_absl_flags()
    absl_flags.FLAGS(['launcher.py'])
    assert 'hush' not in absl_flags.FLAGS.get_help()
    assert settings.get('notify') == 'https://h/hush'


def test_a_path_is_handed_on_as_an_absolute_one(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('HOME', '/home/ada')
    for given, handed_on in [('shared', f'{tmp_path}/shared'), ('~/x', '/home/ada/x'), ('', '')]:
        environ = {'XM_SHARED': given}
        monkeypatch.setenv('XM_SHARED', given)
        settings.export(environ)
        assert environ['XM_SHARED'] == handed_on


def test_a_text_that_is_no_choice_is_refused():
    assert settings.SETTINGS['supervise'].parse('on-demand') == 'on-demand'
    with pytest.raises(UsageError, match='--xm_supervise=never: expected always or on-demand'):
        settings.take_flags(['--xm_supervise=never'])
