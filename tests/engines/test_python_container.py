"""Images of Python code in real engines and a real registry."""

import json
import os
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from tests.engines.containers import make_base_image
from tests.engines.registry import RealRegistry
from tests.unit.packaging.wheels import environ_for, make_wheel

from xmanager import xm, xm_local
from xmanager.containers import Engine, find_engine
from xmanager.errors import EngineError, PackagingError
from xmanager.images.archive import read_archive
from xmanager.packaging.packaged import Packaged
from xmanager.packaging.plan import Plan
from xmanager.packaging.python_container import package_python_container
from xmanager.packaging.workshop import Workshop

MAIN = xm.ModuleName('main')
SHOW = (
    'import json, os, sys\n'
    'name = getattr(sys.modules["__main__"].__spec__, "name", "main")\n'
    'print(json.dumps([sys.argv[1:], os.getcwd(), os.environ["LANG"], name]))\n'
)


@pytest.fixture(params=['docker', 'podman'])
def engine(request: pytest.FixtureRequest) -> Engine:
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


_made: set[tuple[str, str]] = set()


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    """Removes the images that a test has brought into its engines."""
    yield
    for url, image in _made:
        engine = find_engine({'DOCKER_HOST': url})
        if engine.inspect_image(image) is not None:
            engine.request('DELETE', f'/images/{image}', query={'force': '1'})
    _made.clear()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / 'project' / 'App'
    (folder / 'pkg').mkdir(parents=True)
    (folder / 'main.py').write_text(SHOW)
    (folder / 'pkg' / 'deep.py').write_text(SHOW)
    # Workers share an engine: what one removes would be another's image if they had the same content.
    (folder / 'whose').write_text(str(tmp_path))
    return folder


@pytest.fixture
def workshop(engine: Engine, tmp_path: Path) -> Workshop:
    return workshop_of(engine, tmp_path)


def workshop_of(engine: Engine, folder: Path, **environ: str) -> Workshop:
    # A folder of its own for logins and settings: those of who runs the tests are none of theirs.
    own = {'DOCKER_HOST': engine.url, 'DOCKER_CONFIG': str(folder), 'XM_HOME': str(folder / 'home')}
    return Workshop(folder / 'home', {**os.environ, **own, **environ})


def package(
    project: Path,
    workshop: Workshop,
    base: str,
    entrypoint: xm.ModuleName | xm.CommandList = MAIN,
    **more: Any,
) -> Packaged:
    spec = xm_local.Local.Spec()
    packageable = xm.python_container(spec, entrypoint, str(project), base, **more)
    packaged = package_python_container(packageable, workshop)
    if 'engine' in packaged.facts:
        _made.add((packaged.facts['engine'], packaged.facts['image']))
    return packaged


def run(engine: Engine, image: str, *arguments: str) -> str:
    """What a container of the image prints."""
    limits = [{'Name': name, 'Soft': 1024, 'Hard': 4096} for name in ('nofile', 'nproc')]
    host = {'NetworkMode': 'none', 'Ulimits': limits}
    body = {'Image': image, 'Cmd': list(arguments), 'Tty': True, 'HostConfig': host}
    created = engine.request('POST', '/containers/create', body=body).json()
    assert isinstance(created, dict)
    path = f'/containers/{created["Id"]}'
    try:
        engine.request('POST', f'{path}/start')
        engine.request('POST', f'{path}/wait').read()
        return (
            engine.request('GET', f'{path}/logs', query={'stdout': '1', 'stderr': '1'})
            .read()
            .decode()
        )
    finally:
        engine.request('DELETE', path, query={'force': '1'})


def test_a_module_runs_in_its_folder_with_the_arguments_as_they_are(
    engine: Engine, project: Path, workshop: Workshop
) -> None:
    packaged = package(project, workshop, make_base_image(engine))
    said = json.loads(run(engine, packaged.facts['image'], 'a b', '$HOME', '--x="1"'))
    assert said == [['a b', '$HOME', '--x="1"'], '/App', 'C.UTF-8', 'main']
    assert packaged.facts['kind'] == 'image'
    assert packaged.facts['engine'] == engine.url
    assert [layer['what'] for layer in packaged.facts['layers']] == ['code']


def test_a_deep_module_runs_beside_its_folder(
    engine: Engine, project: Path, workshop: Workshop
) -> None:
    base = make_base_image(engine)
    packaged = package(project, workshop, base, xm.ModuleName('App.pkg.deep'), use_deep_module=True)
    said = json.loads(run(engine, packaged.facts['image'], 'x'))
    assert said == [['x'], '/workdir', 'C.UTF-8', 'App.pkg.deep']


def test_commands_get_the_arguments(engine: Engine, project: Path, workshop: Workshop) -> None:
    commands = xm.CommandList(['X=y', 'echo $X', 'python3 main.py'])
    packaged = package(project, workshop, make_base_image(engine), commands)
    first, second = run(engine, packaged.facts['image'], 'a b', '*').splitlines()
    assert first == 'y'
    assert '["a b", "*"]' in second


def test_the_same_code_is_the_same_image_and_an_edit_is_another(
    engine: Engine, project: Path, workshop: Workshop, tmp_path: Path
) -> None:
    base = make_base_image(engine)
    first = package(project, workshop, base)
    os.utime(project / 'main.py', (1, 1))
    assert package(project, workshop, base).facts == first.facts
    elsewhere = attrs.evolve(workshop, home=tmp_path / 'another')
    assert package(project, elsewhere, base).facts['image'] == first.facts['image']
    (project / 'main.py').write_text('print("edited")\n')
    second = package(project, workshop, base)
    assert second.facts['image'] != first.facts['image']
    assert run(engine, second.facts['image']) == 'edited\r\n'
    assert 'main' in run(engine, first.facts['image'])


def test_folders_of_the_same_name_never_mix(
    engine: Engine, project: Path, workshop: Workshop, tmp_path: Path
) -> None:
    other = tmp_path / 'other' / 'App'
    other.mkdir(parents=True)
    (other / 'main.py').write_text(f'print("other")  # {tmp_path}\n')
    base = make_base_image(engine)
    images = [package(folder, workshop, base).facts['image'] for folder in (project, other)]
    assert 'main' in run(engine, images[0])
    assert run(engine, images[1]) == 'other\r\n'


def test_two_that_load_the_same_image_at_once_both_have_it(
    engine: Engine, project: Path, tmp_path: Path
) -> None:
    base = make_base_image(engine)
    found: list[str] = []

    def load(number: int) -> None:
        own = workshop_of(engine, tmp_path / str(number))
        found.append(package(project, own, base).facts['image'])

    threads = [threading.Thread(target=load, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1


def test_an_image_has_a_name_by_which_it_is_found_and_that_a_person_can_remove(
    engine: Engine, project: Path, workshop: Workshop
) -> None:
    image = package(project, workshop, make_base_image(engine)).facts['image']
    found = engine.inspect_image(image)
    assert found is not None
    short = image.removeprefix('sha256:')[:12]
    assert [name.removeprefix('localhost/') for name in found['RepoTags']] == [
        f'xmanager/app:{short}'
    ]


def test_packages_are_found_and_their_programs_run(
    engine: Engine, project: Path, tmp_path: Path
) -> None:
    make_wheel(tmp_path / 'wheels', 'alpha')
    (project / 'requirements.txt').write_text('alpha\n')
    (project / 'main.py').write_text('import alpha; print(alpha.__file__)\n')
    environ = environ_for(tmp_path / 'wheels', {})
    workshop = workshop_of(engine, tmp_path, **environ)
    base = make_base_image(engine)
    packaged = package(project, workshop, base)
    assert [one['what'] for one in packaged.facts['layers']] == ['requirements.txt', 'code']
    assert run(engine, packaged.facts['image']) == '/opt/xmanager/packages/alpha.py\r\n'
    (project / 'edit.py').touch()
    again = package(project, workshop, base)
    assert again.facts['layers'][0] == packaged.facts['layers'][0]
    # The base here has no /usr/bin/env, which the program itself would need.
    commands = xm.CommandList(['python3 $(command -v alpha-run) "$@"'])
    image = package(project, workshop, base, commands).facts['image']
    assert run(engine, image) == 'alpha 1.0\r\n'


def test_instructions_are_built_on_the_base(docker: Engine, project: Path, tmp_path: Path) -> None:
    workshop = workshop_of(docker, tmp_path)
    base = docker.inspect_image(make_base_image(docker))
    assert base is not None
    instructions = ['COPY App/ /elsewhere', 'WORKDIR /elsewhere', 'RUN echo made > made.txt']
    packaged = package(
        project, workshop, base['RepoTags'][0], xm.CommandList(['cat made.txt', 'python3 main.py']),
        docker_instructions=instructions,
    )  # fmt: skip
    first, second = run(docker, packaged.facts['image'], '$X').splitlines()
    assert first == 'made'
    assert '"$X"' in second
    assert '/elsewhere' in second
    assert packaged.facts['snapshot']


def test_an_engine_a_registry_and_a_layout_get_the_same_image(
    docker: Engine, registry: RealRegistry, project: Path, tmp_path: Path
) -> None:
    make_wheel(tmp_path / 'wheels', 'alpha')
    (project / 'requirements.txt').write_text('alpha\n')
    base = f'{registry.host}/xm-c/base:{os.getpid()}'
    docker.tag(make_base_image(docker), base)
    _made.add((docker.url, base))
    docker.request(
        'POST', f'/images/{registry.host}/xm-c/base/push',
        query={'tag': str(os.getpid())}, headers={'X-Registry-Auth': 'e30='},
    ).read()  # fmt: skip
    workshop = workshop_of(docker, tmp_path, **environ_for(tmp_path / 'wheels', {}))
    loaded = package(project, workshop, base).facts
    pushed = package(project, attrs.evolve(workshop, push=f'{registry.host}/xm-c'), base).facts
    output = attrs.evolve(workshop, output=tmp_path / 'out')
    written = package(project, output, base).facts
    assert pushed['made']['config'] == written['made']['config'] == loaded['image']
    assert pushed['image'].startswith(f'{registry.host}/xm-c/app@sha256:')
    layout = tmp_path / 'out' / 'App'
    with tarfile.open(tmp_path / 'layout.tar', 'w') as archive:
        archive.add(layout, '.')
    assert read_archive(tmp_path / 'layout.tar').id == loaded['image']
    # An engine that pulls it by its digest has the very image.
    docker.request('DELETE', f'/images/{loaded["image"]}', query={'force': '1'})
    docker.pull(pushed['image'], '', lambda step: None)
    found = docker.inspect_image(pushed['image'])
    assert found is not None
    assert found['Id'] == loaded['image']


def test_layouts_of_folders_of_the_same_name_never_mix(
    docker: Engine, project: Path, tmp_path: Path
) -> None:
    other = tmp_path / 'other' / 'App'
    other.mkdir(parents=True)
    (other / 'main.py').write_text('print("other")')
    workshop = attrs.evolve(workshop_of(docker, tmp_path), output=tmp_path / 'out')
    base = make_base_image(docker)
    layouts = [package(one, workshop, base).facts['made'] for one in (project, other, project)]
    assert layouts[0] == layouts[2]
    assert layouts[0]['layout'] != layouts[1]['layout']
    assert {path.name for path in (tmp_path / 'out').iterdir()} == {
        Path(one['layout']).name for one in layouts
    }


def test_a_base_that_only_the_engine_has_is_pushed_along(
    docker: Engine, registry: RealRegistry, project: Path, tmp_path: Path
) -> None:
    workshop = workshop_of(docker, tmp_path)
    base = make_base_image(docker)
    pushed = package(
        project, attrs.evolve(workshop, push=f'{registry.host}/xm-c/local'), base
    ).facts
    loaded = package(project, workshop, base).facts
    assert pushed['made']['config'] == loaded['image']


def test_a_dry_run_says_what_would_be_done_and_changes_nothing(
    engine: Engine, project: Path, workshop: Workshop, tmp_path: Path
) -> None:
    base = make_base_image(engine)
    dry = attrs.evolve(workshop, dry_run=True)
    plan = Plan.of(package(project, dry, base).facts)
    assert not workshop.home.exists()
    assert plan.snapshot is not None
    assert plan.snapshot.files == 3
    assert plan.image is not None
    assert (plan.image.action, plan.image.engine) == ('load', engine.url)
    assert [(layer.what, layer.exists) for layer in plan.layers] == [('code', False)]
    packaged = package(project, workshop, base)
    plan = Plan.of(package(project, dry, base).facts)
    assert [(layer.what, layer.exists) for layer in plan.layers] == [('code', True)]
    assert plan.layers[0].digest == packaged.facts['layers'][0]['digest']
    assert plan.snapshot is not None
    assert plan.snapshot.digest == packaged.facts['snapshot']
    (project / 'requirements.txt').write_text('alpha\n')
    plan = Plan.of(package(project, dry, base).facts)
    assert [layer.what for layer in plan.layers] == ['requirements.txt', 'code']


def test_a_base_that_is_nowhere_is_an_error(docker: Engine, project: Path, tmp_path: Path) -> None:
    workshop = workshop_of(docker, tmp_path)
    missing = '127.0.0.1:9/xm-c/none:1'
    with pytest.raises((PackagingError, EngineError), match=r'127\.0\.0\.1:9'):
        package(project, workshop, missing)
    with pytest.raises(PackagingError, match='has no image sha256:'):
        package(project, workshop, f'sha256:{"0" * 64}')
    with pytest.raises(PackagingError, match='is no name of an image'):
        package(project, workshop, 'No Name')
