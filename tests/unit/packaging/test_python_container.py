import json
import tempfile
from pathlib import Path

import attrs
import pytest

from xmanager import xm, xm_local
from xmanager.errors import PackagingError
from xmanager.images.append import Base
from xmanager.images.registry_session import NotThereError
from xmanager.images.transport import UnreachableError
from xmanager.images.values import ImageConfig, Platform
from xmanager.packaging import image_base, python_container
from xmanager.packaging.image_base import Found
from xmanager.packaging.plan import Plan
from xmanager.packaging.python_container import (
    _link_tree,
    dockerfile_of,
    package_python_container,
)
from xmanager.packaging.python_image import PythonImage
from xmanager.packaging.workshop import Workshop

NO_ENGINE = 'unix:///nowhere/docker.sock'


@pytest.fixture
def workshop(tmp_path):
    return Workshop(tmp_path / 'home', {'DOCKER_HOST': NO_ENGINE}, dry_run=True)


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / 'project'
    folder.mkdir()
    (folder / 'train.py').touch()
    return folder


def package(workshop, path, module='train', **more):
    packageable = xm.python_container(
        xm_local.Local.Spec(), xm.ModuleName(module), str(path), **more
    )
    return package_python_container(packageable, workshop)


def test_a_path_that_is_not_there_or_is_a_file_is_refused(workshop, project):
    with pytest.raises(PackagingError, match='nowhere does not exist'):
        package(workshop, project / 'nowhere')
    with pytest.raises(PackagingError, match='it is a file'):
        package(workshop, project / 'train.py')


@pytest.mark.parametrize('name', ['lib', 'usr', 'tmp'])
def test_code_does_not_take_the_place_of_the_system(workshop, tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / 'train.py').touch()
    with pytest.raises(PackagingError, match=f'would lie in /{name} of the image'):
        package(workshop, tmp_path / name)
    package(workshop, tmp_path / name, f'{name}.train', use_deep_module=True)


@pytest.mark.parametrize('name', ['line\nbreak', 'caf\udce9'])
def test_a_folder_whose_name_no_image_could_have_is_refused(workshop, tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(PackagingError, match='printable name'):
        package(workshop, tmp_path / name)


def test_the_root_of_the_file_system_is_refused(workshop):
    with pytest.raises(PackagingError, match='a folder with a printable name of its own'):
        package(workshop, '/')


def test_a_module_that_is_not_there_is_refused_before_anything_is_made(workshop, project):
    with pytest.raises(PackagingError, match="Did you mean 'train'"):
        package(workshop, project, 'trian')
    with pytest.raises(PackagingError, match="Did you mean 'train'"):
        package(attrs.evolve(workshop, dry_run=False), project, 'trian')


def test_without_an_engine_it_is_said_that_there_is_none(workshop, project):
    with pytest.raises(PackagingError, match=r'/nowhere/docker\.sock'):
        package(attrs.evolve(workshop, dry_run=False), project)


def test_a_dry_run_needs_no_engine_and_writes_nothing(workshop, project):
    (project / 'requirements.txt').write_text('numpy')
    facts = package(workshop, project).facts
    assert json.loads(json.dumps(facts)) == facts
    plan = Plan.of(facts)
    assert plan.image is not None
    assert plan.image.action == 'load'
    assert [layer.what for layer in plan.layers] == ['requirements.txt', 'code']
    assert plan.notes[0] == 'entry point: ["python3", "-m", "train"]'
    assert not workshop.home.exists()


@pytest.mark.parametrize(
    ('destination', 'action'), [({'push': 'host:1/team'}, 'push'), ({'output': 'out'}, 'write')]
)
def test_a_dry_run_says_where_the_image_would_go(workshop, project, destination, action):
    plan = Plan.of(package(attrs.evolve(workshop, **destination), project).facts)
    assert plan.image is not None
    assert plan.image.action == action


def test_a_dry_run_shows_instructions_that_would_be_built(workshop, project):
    facts = package(workshop, project, docker_instructions=['RUN make', 'COPY project /x']).facts
    plan = Plan.of(facts)
    assert plan.image is not None
    assert plan.image.action == 'build'
    assert plan.notes[1:] == ('instruction: RUN make', 'instruction: COPY project /x')


def test_instructions_stand_between_the_base_and_an_entry_point_in_which_nothing_is_expanded():
    spec = xm.PythonContainer(
        xm.CommandList(['echo "$HOME"', 'run']), docker_instructions=['RUN a', 'COPY b c']
    )
    *lines, entrypoint = dockerfile_of(spec, 'base:1').splitlines()
    assert lines == ['FROM base:1', 'ENV LANG=C.UTF-8', 'RUN a', 'COPY b c']
    argv = json.loads(entrypoint.removeprefix('ENTRYPOINT '))
    assert argv[:2] == ['/bin/sh', '-c']
    assert argv[3] == 'echo "$HOME"\nrun "$@"'


class Reached(Exception):
    pass


@pytest.fixture
def pushing(workshop, project, monkeypatch):
    """Pushes an image onto a base whose registry fails in this way; returns what was told, and what was appended to."""
    told, bases = [], []
    here = Found('base:1', Base(ImageConfig(Platform('amd64', 'linux'), (), {}), ()), 'sha256:1')

    def image(self, found, digest, entries, *, compressed):
        bases.append(found)
        raise Reached

    monkeypatch.setattr(python_container, '_base_here', lambda making: here)
    monkeypatch.setattr(PythonImage, 'image', image)

    def push(failure):
        def from_registry(*_):
            raise failure

        monkeypatch.setattr(image_base, 'from_registry', from_registry)
        asked = attrs.evolve(
            workshop, dry_run=False, push='host:1/team', tell=lambda name, step: told.append(step)
        )
        package(asked, project, base_image='base:1')

    return push, told, bases, here


@pytest.mark.parametrize('failure', [NotThereError('no base'), UnreachableError('no base')])
def test_a_base_that_no_registry_has_is_taken_from_the_engine_and_that_is_told(pushing, failure):
    push, told, bases, here = pushing
    with pytest.raises(Reached):
        push(failure)
    assert bases == [here]
    assert told[-1] == 'using the base image of the local engine: no base'


def test_a_registry_that_refuses_or_lies_is_told_of_in_place_of_another_base(pushing):
    push, _, bases, _ = pushing
    with pytest.raises(PackagingError, match='base_image: it wants a login'):
        push(PackagingError('it wants a login'))
    assert bases == []


def test_an_id_of_an_engine_is_asked_of_no_registry(workshop):
    with pytest.raises(NotThereError, match='the id of an image in an engine'):
        image_base.from_registry(f'sha256:{"0" * 64}', workshop, print)


def test_a_build_context_leaves_the_kept_files_as_they_are(tmp_path):
    tree = tmp_path / 'tree'
    (tree / 'sub').mkdir(parents=True)
    kept = tree / 'sub' / 'train.py'
    kept.touch()
    kept.chmod(0o444)
    for folder in (tree / 'sub', tree):
        folder.chmod(0o555)
    with tempfile.TemporaryDirectory(dir=tmp_path) as scratch:
        context = Path(scratch, 'context')
        _link_tree(tree, context)
        assert (context / 'sub' / 'train.py').samefile(kept)
        modes = {path.stat().st_mode & 0o777 for path in (context, context / 'sub')}
        assert modes == {0o755}
    assert kept.stat().st_mode & 0o777 == 0o444
    assert (tree / 'sub').stat().st_mode & 0o777 == 0o555
