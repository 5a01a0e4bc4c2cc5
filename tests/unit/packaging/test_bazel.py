import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmanager import xm, xm_local
from xmanager.errors import PackagingError
from xmanager.packaging.bazel import package_bazel
from xmanager.packaging.bazel_events import plain_label, read_events
from xmanager.packaging.workshop import Workshop

SPEC = xm_local.Local.Spec()

# Writes down how it was called, prints and writes what it was told to, and exits.
FAKE = """\
#!{python}
import json, os, pathlib, sys
here = pathlib.Path(__file__).parent
with open(here / 'calls', 'a') as calls:
    calls.write(json.dumps([os.getcwd(), *sys.argv[1:]]) + '\\n')
for argument in sys.argv:
    if argument.startswith('--build_event_json_file='):
        pathlib.Path(argument.partition('=')[2]).write_bytes((here / 'events').read_bytes())
print((here / 'stderr').read_text(), file=sys.stderr)
sys.exit(int((here / 'exit').read_text()))
"""


@attrs.frozen
class FakeBazel:
    """A program that plays what a Bazel wrote."""

    folder: Path
    workspace: Path
    workshop: Workshop

    def will(self, *events: Any, stderr: str = '', exit_code: int = 0) -> None:
        lines = [event if isinstance(event, str) else json.dumps(event) for event in events]
        (self.folder / 'events').write_text('\n'.join(lines))
        (self.folder / 'stderr').write_text(stderr)
        (self.folder / 'exit').write_text(str(exit_code))

    @property
    def calls(self) -> list[list[str]]:
        text = (self.folder / 'calls').read_text() if (self.folder / 'calls').exists() else ''
        return [json.loads(line) for line in text.splitlines()]

    def file(self, name: str, mode: int = 0o555) -> Path:
        file = self.folder / 'out' / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text('#!/bin/sh\n')
        file.chmod(mode)
        return file


@pytest.fixture
def bazel(tmp_path: Path) -> FakeBazel:
    folder, workspace = tmp_path / 'bin', tmp_path / 'workspace'
    folder.mkdir()
    (workspace / 'scripts').mkdir(parents=True)
    (workspace / 'MODULE.bazel').touch()
    program = folder / 'bazel'
    program.write_text(FAKE.format(python=sys.executable))
    program.chmod(0o755)
    environ = {'PATH': str(folder), 'BUILD_WORKSPACE_DIRECTORY': str(workspace)}
    fake = FakeBazel(folder, workspace, Workshop(tmp_path / 'home', environ))
    fake.will()
    return fake


def named_set(name: str, files: Sequence[Path], sets: Sequence[str] = ()) -> dict[str, Any]:
    return {
        'id': {'namedSet': {'id': name}},
        'namedSetOfFiles': {
            'files': [{'name': file.name, 'uri': file.as_uri()} for file in files],
            'fileSets': [{'id': inner} for inner in sets],
        },
    }


def completed(label: str, *sets: str) -> dict[str, Any]:
    return {
        'id': {'targetCompleted': {'label': label}},
        'completed': {
            'success': True,
            'outputGroup': [
                {'name': 'default', 'fileSets': [{'id': name} for name in sets]},
                {'name': 'other', 'fileSets': [{'id': 'other'}]},
            ],
        },
    }


def path_of(packaged: Any) -> str:
    return str(packaged.facts['path'])


def test_labels_with_the_same_arguments_are_built_in_one_call_and_the_order_is_kept(bazel):
    files = [bazel.file(name) for name in 'abc']
    sets = [named_set(file.name, [file]) for file in files]
    bazel.will(*sets, *[completed(f'//p:{name}', name) for name in 'abc'])
    packaged = package_bazel(
        [
            xm.bazel_binary(SPEC, '//p:a', bazel_args=['-c', 'opt'], args={'x': 1}),
            xm.bazel_binary(SPEC, '//p:b'),
            xm.bazel_binary(SPEC, '//p:c', bazel_args=['-c', 'opt'], env_vars={'Y': '2'}),
        ],
        bazel.workshop,
    )
    assert [path_of(one) for one in packaged] == [str(file) for file in files]
    assert [one.name for one in packaged] == ['p_a', 'p_b', 'p_c']
    assert packaged[0].args == xm.SequentialArgs.from_collection({'x': 1})
    assert packaged[2].env_vars == {'Y': '2'}
    (first, second) = bazel.calls
    assert first[:4] == [str(bazel.workspace), 'build', '-c', 'opt']
    assert first[-3:] == ['--', '//p:a', '//p:c']
    assert second[-2:] == ['--', '//p:b']


def test_files_in_sets_of_sets_are_found_and_their_names_decoded(bazel):
    program = bazel.file('é 100%/prog')
    bazel.will(
        named_set('0', [program], ['1']),
        named_set('1', [bazel.file('other.txt', 0o444)], ['0', '2']),
        completed('@//p:prog', '1'),
    )
    (packaged,) = package_bazel([xm.bazel_binary(SPEC, '//p:prog')], bazel.workshop)
    assert path_of(packaged) == str(program)


def test_of_several_programs_the_one_called_like_the_target_is_taken(bazel):
    files = [bazel.file('prog'), bazel.file('prog.py')]
    bazel.will(named_set('0', files), completed('//p:prog', '0'))
    (packaged,) = package_bazel([xm.bazel_binary(SPEC, '//p:prog')], bazel.workshop)
    assert path_of(packaged) == str(files[0])


def test_several_outputs_of_which_none_is_meant_more_are_listed(bazel):
    files = [bazel.file('one'), bazel.file('two')]
    bazel.will(named_set('0', files), completed('//p:prog', '0'))
    with pytest.raises(PackagingError, match=f'{files[0]}, {files[1]}; 2 of them could be meant'):
        package_bazel([xm.bazel_binary(SPEC, '//p:prog')], bazel.workshop)


def test_an_image_needs_a_tar(bazel):
    bazel.will(named_set('0', [bazel.file('prog')]), completed('//p:prog', '0'))
    with pytest.raises(PackagingError, match=r"label='//p:prog'.* none of it is a \.tar file"):
        package_bazel([xm.bazel_container(SPEC, '//p:prog')], bazel.workshop)


def test_a_target_that_gives_nothing_is_named(bazel):
    bazel.will(completed('//p:prog'))
    with pytest.raises(PackagingError, match='the target gives nothing'):
        package_bazel([xm.bazel_binary(SPEC, '//p:prog')], bazel.workshop)


def test_a_pattern_is_no_label(bazel):
    bazel.will(completed('//p:a'), completed('//p:b'))
    with pytest.raises(PackagingError, match=r'Bazel built //p:a, //p:b, which is no single'):
        package_bazel([xm.bazel_binary(SPEC, '//p/...')], bazel.workshop)


def test_a_failure_shows_the_errors_of_bazel_and_what_the_action_printed(bazel, tmp_path):
    (tmp_path / 'stderr-7').write_text('cc: no such file\n')
    action = {
        'id': {'actionCompleted': {'label': '//p:prog'}},
        'action': {'exitCode': 1, 'stderr': {'uri': (tmp_path / 'stderr-7').as_uri()}},
    }
    stderr = 'Loading:\nERROR: /w/p/BUILD:1:8: //p:prog failed: (Exit 1)\nINFO: Elapsed time\n'
    bazel.will(action, stderr=stderr, exit_code=1)
    with pytest.raises(PackagingError) as caught:
        package_bazel([xm.bazel_binary(SPEC, '//p:prog')], bazel.workshop)
    assert str(caught.value) == (
        'Bazel could not build //p:prog:\n'
        '    ERROR: /w/p/BUILD:1:8: //p:prog failed: (Exit 1)\n    cc: no such file'
    )


def test_a_bazel_that_dies_without_an_error_is_quoted(bazel):
    bazel.will('{"id": {"started"', stderr='could not download the release', exit_code=37)
    with pytest.raises(PackagingError, match='\n    could not download the release'):
        package_bazel([xm.bazel_binary(SPEC, '//p:prog')], bazel.workshop)
    bazel.will(exit_code=37)
    with pytest.raises(PackagingError, match=r'nothing of why \(exit code 37\)'):
        package_bazel([xm.bazel_binary(SPEC, '//p:prog')], bazel.workshop)


def test_progress_is_told_for_each_executable(bazel):
    told: list[tuple[str, str]] = []
    workshop = attrs.evolve(bazel.workshop, tell=lambda name, step: told.append((name, step)))
    stderr = '[1 / 1,200] Compiling\n[1 / 1,200] Compiling x.cc; 1s\n[9 / 1,200] Linking'
    bazel.will(named_set('0', [bazel.file('a')]), completed('//p:a', '0'), stderr=stderr)
    package_bazel([xm.bazel_binary(SPEC, '//p:a')], workshop)
    steps = [step for name, step in told if name == 'p_a' and 'actions' in step]
    assert steps == ['building (1 of 1,200 actions)', 'building (9 of 1,200 actions)']


def test_the_command_may_hold_arguments(bazel):
    environ = {**bazel.workshop.environ, 'XM_BAZEL_COMMAND': "bazel '--output_base=/with space'"}
    bazel.will(named_set('0', [bazel.file('a')]), completed('//p:a', '0'))
    package_bazel([xm.bazel_binary(SPEC, '//p:a')], attrs.evolve(bazel.workshop, environ=environ))
    assert bazel.calls[0][1:3] == ['--output_base=/with space', 'build']


@pytest.mark.parametrize(
    ('command', 'said'),
    [
        ('no-bazel', r"no program 'no-bazel'\. Install Bazel or Bazelisk"),
        ("bazel 'x", 'it is no command: No closing quotation'),
    ],
)
def test_a_command_that_cannot_be_run_is_named(bazel, command, said):
    environ = {**bazel.workshop.environ, 'XM_BAZEL_COMMAND': command}
    with pytest.raises(PackagingError, match=said):
        package_bazel(
            [xm.bazel_binary(SPEC, '//p:a')], attrs.evolve(bazel.workshop, environ=environ)
        )


def test_the_workspace_is_above_the_launch_script(bazel, monkeypatch):
    environ = {'PATH': bazel.workshop.environ['PATH']}
    workshop = attrs.evolve(bazel.workshop, environ=environ)
    bazel.will(named_set('0', [bazel.file('a')]), completed('//p:a', '0'))
    monkeypatch.setenv('XM_LAUNCH_SCRIPT', str(bazel.workspace / 'scripts' / 'launch.py'))
    package_bazel([xm.bazel_binary(SPEC, '//p:a')], workshop)
    assert bazel.calls[0][0] == str(bazel.workspace)
    monkeypatch.setenv('XM_LAUNCH_SCRIPT', str(bazel.folder / 'launch.py'))
    with pytest.raises(PackagingError, match='No Bazel workspace'):
        package_bazel([xm.bazel_binary(SPEC, '//p:a')], workshop)


def test_a_dry_run_says_the_command_and_builds_nothing(bazel):
    workshop = attrs.evolve(bazel.workshop, dry_run=True)
    asked = [xm.bazel_binary(SPEC, '//p:a'), xm.bazel_container(SPEC, '//p:b')]
    for packaged in package_bazel(asked, workshop):
        (command,) = packaged.facts['plan']['commands']
        assert command[1] == 'build'
        assert command[-3:] == ['--', '//p:a', '//p:b']
    assert not bazel.calls


def test_a_dry_run_needs_no_bazel(bazel):
    workshop = attrs.evolve(
        bazel.workshop, dry_run=True, environ={**bazel.workshop.environ, 'PATH': ''}
    )
    (packaged,) = package_bazel([xm.bazel_binary(SPEC, '//p:a')], workshop)
    (note,) = packaged.facts['plan']['notes']
    assert 'Install Bazel' in note


def test_ctrl_c_leaves_no_bazel(bazel):
    program = bazel.folder / 'bazel'
    program.write_text('#!/bin/sh\necho $$ >&2\nexec sleep 600\n')
    script = (
        'import sys\n'
        'from pathlib import Path\n'
        'from xmanager import xm, xm_local\n'
        'from xmanager.packaging import bazel_build\n'
        'bazel_build._Said.hear = lambda said, line: print(line, flush=True)\n'
        f'environ = {dict(bazel.workshop.environ)!r}\n'
        f'environ["PATH"] += {os.pathsep + os.environ["PATH"]!r}\n'
        'bazel_build.build(["//p:a"], [], environ, print)\n'
    )
    with subprocess.Popen(
        [sys.executable, '-c', script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as launcher:
        assert launcher.stdout is not None
        pid = int(launcher.stdout.readline())
        launcher.send_signal(signal.SIGINT)
        launcher.wait(30)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize(
    ('label', 'plain'),
    [
        ('//a/b', '//a/b:b'),
        ('//a/b:c/d', '//a/b:c/d'),
        ('@//a:b', '//a:b'),
        ('@@//a:b', '//a:b'),
        (':b', '//:b'),
        ('a/b:c', '//a/b:c'),
        ('@@repo//a', 'repo//a:a'),
        ('@repo//a:a', 'repo//a:a'),
    ],
)
def test_a_label_is_written_in_one_way(label, plain):
    assert plain_label(label) == plain


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
_KEYS = ('id', 'label', 'namedSet', 'targetCompleted', 'files', 'fileSets', 'uri', 'outputGroup')
events = st.fixed_dictionaries(
    {
        'id': st.dictionaries(
            st.sampled_from(['namedSet', 'targetCompleted', 'actionCompleted']),
            st.dictionaries(st.sampled_from(_KEYS), json_values) | json_values,
        )
    },
    optional={
        'completed': st.fixed_dictionaries({'success': st.just(True), 'outputGroup': json_values}),
        'namedSetOfFiles': st.dictionaries(st.sampled_from(_KEYS), json_values) | json_values,
        'aborted': json_values,
        'action': st.dictionaries(st.sampled_from(['stdout', 'stderr']), json_values),
    },
)


@given(st.lists(events.map(json.dumps).map(str.encode) | st.binary()))
def test_events_that_make_no_sense_are_passed_over(lines):
    read_events(lines)


@given(st.text())
def test_no_uri_is_read_as_something_that_is_no_path(uri):
    event = named_set('0', [])
    event['namedSetOfFiles']['files'] = [{'uri': uri}, {'uri': f'file://{uri}'}]
    lines = [json.dumps(one).encode() for one in (event, completed('//p:a', '0'))]
    for path in read_events(lines).outputs['//p:a']:
        assert path
        assert '\0' not in path or not path.startswith('/')
