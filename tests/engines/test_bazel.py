"""Programs and images that a real Bazel builds."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import attrs
import pytest
from tests.acceptance.polling import until
from tests.engines.bazel_workspace import Bazel

from xmanager import xm, xm_local
from xmanager.errors import PackagingError
from xmanager.packaging.bazel import package_bazel
from xmanager.packaging.loading import local_name
from xmanager.packaging.workshop import Workshop

SPEC = xm_local.Local.Spec()

BUILD = r"""
genrule(name = "program", outs = ["program.sh"], executable = 1,
        cmd = "printf '#!/bin/sh\necho built\n' > $@")
sh_binary(name = "shell", srcs = ["shell.sh"])
alias(name = "other_name", actual = ":program")
genrule(name = "fails", outs = ["fails.out"], cmd = "echo the compiler is unhappy >&2; exit 3")
genrule(name = "waits", outs = ["waits.out"], cmd = "touch $(location :begun); sleep 600", tools = [":begun"])
genrule(name = "image", srcs = ["image.file"], outs = ["image.tar"], cmd = "cp $< $@")
filegroup(name = "begun", srcs = ["begun.txt"])
"""


@pytest.fixture(scope='module')
def workspace(bazel: Bazel) -> Path:
    files = {
        'a+b/BUILD': BUILD,
        'a+b/shell.sh': '#!/bin/sh\necho shell\n',
        'a+b/begun.txt': '',
        'a+b/image.file': '',
    }
    return bazel.workspace('programs', files)


@pytest.fixture
def workshop(bazel: Bazel, workspace: Path, tmp_path: Path) -> Workshop:
    environ = {
        **os.environ,
        'XM_BAZEL_COMMAND': bazel.command,
        'BUILD_WORKSPACE_DIRECTORY': str(workspace),
    }
    return Workshop(tmp_path / 'home', environ)


def test_programs_are_built_and_run(bazel, workshop):
    labels = ['//a+b:program', '//a+b:shell', '//a+b:other_name']
    asked = [xm.bazel_binary(SPEC, label, bazel_args=bazel.args) for label in labels]
    said = []
    for packaged in package_bazel(asked, workshop):
        assert packaged.facts['kind'] == 'binary'
        said.append(subprocess.check_output(packaged.command, text=True))
    assert said == ['built\n', 'shell\n', 'built\n']


def test_the_errors_of_bazel_are_shown(bazel, workshop):
    with pytest.raises(PackagingError) as caught:
        package_bazel([xm.bazel_binary(SPEC, '//a+b:fails', bazel_args=bazel.args)], workshop)
    said = str(caught.value)
    assert 'ERROR: ' in said
    assert 'genrule //a+b:fails failed: (Exit 3)' in said
    assert 'the compiler is unhappy' in said
    assert 'linux-sandbox' not in said.splitlines()[-1]


def test_a_target_that_is_not_there_is_told_once(bazel, workshop):
    with pytest.raises(PackagingError) as caught:
        package_bazel([xm.bazel_binary(SPEC, '//a+b:nope', bazel_args=bazel.args)], workshop)
    assert str(caught.value).count('no such target') == 1


def test_an_image_is_loaded_into_the_engine(bazel, workspace, workshop, docker, base_image):
    with open(workspace / 'a+b' / 'image.file', 'wb') as file:
        file.writelines(docker.export(base_image))
    workshop = attrs.evolve(workshop, environ={**workshop.environ, 'DOCKER_HOST': docker.url})
    asked = xm.bazel_container(SPEC, '//a+b:image', bazel_args=bazel.args)
    (packaged,) = package_bazel([asked], workshop)
    assert packaged.name == 'a_b_image'
    assert packaged.facts['kind'] == 'image'
    assert packaged.facts['image'] == base_image
    assert packaged.facts['engine'] == docker.url
    docker.request('DELETE', f'/images/{local_name(packaged.name, base_image)}')


def test_ctrl_c_ends_the_client_and_the_action(bazel, workshop, tmp_path):
    script = tmp_path / 'script.py'
    script.write_text(
        'from xmanager.packaging import bazel_build\n'
        'def tell(step): print(step, flush=True)\n'
        f'bazel_build.build(["//a+b:waits"], {list(bazel.args)!r}, {dict(workshop.environ)!r}, tell)\n'
    )
    with subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as launcher:
        assert launcher.stdout is not None
        launcher.stdout.readline()  # Bazel is at work.
        (client,) = until(lambda: children_of(launcher.pid))
        launcher.send_signal(signal.SIGINT)
        launcher.wait(60)
    with pytest.raises(ProcessLookupError):
        os.kill(client, 0)


def children_of(pid: int) -> list[int]:
    return [int(text) for text in Path(f'/proc/{pid}/task/{pid}/children').read_text().split()]
