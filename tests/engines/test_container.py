"""Images that exist already, in real engines, registries and files."""

import hashlib
import io
import itertools
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from tests.engines.registry import RealRegistry

from xmanager import xm, xm_local
from xmanager.containers import Engine
from xmanager.errors import PackagingError
from xmanager.packaging import image_file
from xmanager.packaging.container import package_container
from xmanager.packaging.dockerfile import package_dockerfile
from xmanager.packaging.packaged import Packaged
from xmanager.packaging.plan import Plan
from xmanager.packaging.workshop import Workshop

SPEC = xm_local.Local.Spec()
NAME = f'localhost/xm-f-container:{os.getpid()}'


@pytest.fixture(params=['docker', 'podman'])
def engine(request: pytest.FixtureRequest) -> Engine:
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


_made: set[str] = set()


@pytest.fixture(autouse=True)
def _clean(request: pytest.FixtureRequest) -> Iterator[None]:
    """Removes what a test has brought into its engines."""
    names = {'docker', 'podman', 'engine'} & set(request.fixturenames)
    engines: list[Engine] = [request.getfixturevalue(name) for name in names]
    yield
    for engine, image in itertools.product(engines, _made):
        if engine.inspect_image(image) is not None:
            engine.request('DELETE', f'/images/{image}', query={'force': '1'})
    _made.clear()


@pytest.fixture
def workshop(engine: Engine, tmp_path: Path) -> Workshop:
    return workshop_of(engine, tmp_path)


def workshop_of(engine: Engine, folder: Path, **environ: str) -> Workshop:
    return Workshop(folder / 'home', {**os.environ, 'DOCKER_HOST': engine.url, **environ})


def package(name: str, workshop: Workshop) -> Packaged:
    return package_container(xm.container(SPEC, name, args={'a': 1}), workshop)


def tiny(text: str) -> tuple[bytes, bytes, str]:
    """A new image: its layer as a tar, its configuration, its id."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode='w') as tar:
        info = tarfile.TarInfo('text')
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text.encode()))
    layer = buffer.getvalue()
    fields = {
        'architecture': 'amd64',
        'os': 'linux',
        'config': {'Cmd': ['/none']},
        'rootfs': {'type': 'layers', 'diff_ids': [digest_of(layer)]},
    }
    config = json.dumps(fields).encode()
    _made.add(digest_of(config))
    return layer, config, digest_of(config)


def digest_of(data: bytes) -> str:
    return f'sha256:{hashlib.sha256(data).hexdigest()}'


def write_tar(file: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(file, 'w') as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return file


def docker_tar(file: Path, text: str) -> str:
    """As `docker save` writes it, without a name; returns the id."""
    layer, config, image = tiny(text)
    manifest = [{'Config': 'config.json', 'RepoTags': None, 'Layers': ['a/layer.tar']}]
    members = {'config.json': config, 'a/layer.tar': layer}
    write_tar(file, {**members, 'manifest.json': json.dumps(manifest).encode()})
    return image


def oci_tar(file: Path, text: str) -> str:
    """As a layout of the Open Container Initiative; returns the id."""
    layer, config, image = tiny(text)
    kind = 'application/vnd.oci.image'

    def descriptor(media_type: str, data: bytes) -> dict[str, object]:
        return {'mediaType': f'{kind}.{media_type}', 'digest': digest_of(data), 'size': len(data)}

    manifest = json.dumps(
        {
            'schemaVersion': 2,
            'mediaType': f'{kind}.manifest.v1+json',
            'config': descriptor('config.v1+json', config),
            'layers': [descriptor('layer.v1.tar', layer)],
        }
    ).encode()
    index = {'schemaVersion': 2, 'manifests': [descriptor('manifest.v1+json', manifest)]}
    blobs = {f'blobs/{digest_of(b).replace(":", "/")}': b for b in (layer, config, manifest)}
    layout = b'{"imageLayoutVersion": "1.0.0"}'
    write_tar(file, {'oci-layout': layout, 'index.json': json.dumps(index).encode(), **blobs})
    return image


def test_a_local_image_needs_no_registry_and_is_fixed_by_its_id(engine, workshop, tmp_path):
    engine_image = load(engine, tmp_path, 'first')
    engine.tag(engine_image, NAME)
    packaged = package(NAME, workshop)
    assert packaged.facts['kind'] == 'image'
    assert packaged.facts['image'] == engine_image
    assert packaged.facts['engine'] == engine.url
    assert packaged.args == xm.SequentialArgs.from_collection({'a': 1})
    engine.tag(load(engine, tmp_path, 'second'), NAME)
    assert packaged.facts['image'] == engine_image
    assert package(NAME, workshop).facts['image'] != engine_image
    assert package(engine_image, workshop).facts['image'] == engine_image


def load(engine: Engine, folder: Path, text: str) -> str:
    image = docker_tar(folder / 'load.tar', text)
    engine.load([(folder / 'load.tar').read_bytes()])
    return image


@pytest.mark.parametrize('write', [docker_tar, oci_tar])
def test_a_file_is_loaded_once(engine, workshop, tmp_path, write, monkeypatch):
    image = write(tmp_path / 'my image.tar', f'{write.__name__} {os.getpid()} {engine.kind}')
    monkeypatch.setenv('XM_LAUNCH_SCRIPT', str(tmp_path / 'launch.py'))
    told: list[str] = []
    workshop = attrs.evolve(workshop, tell=lambda name, step: told.append(step))
    plan = Plan.of(package('my image.tar', attrs.evolve(workshop, dry_run=True)).facts)
    assert plan.image is not None
    assert (plan.image.action, plan.image.exists) == ('load', False)
    packaged = package('my image.tar', workshop)
    assert packaged.name == 'my_image_tar'
    assert packaged.facts['image'] == image
    assert told == ['loading my image.tar']
    assert package('my image.tar', workshop).facts['image'] == image
    assert told == ['loading my image.tar']
    plan = Plan.of(package('my image.tar', attrs.evolve(workshop, dry_run=True)).facts)
    assert plan.image is not None
    assert (plan.image.action, plan.image.exists) == ('none', True)


def test_a_file_is_read_again_when_it_has_changed(docker, tmp_path, monkeypatch):
    workshop, file = workshop_of(docker, tmp_path), tmp_path / 'image.tar'
    first = docker_tar(file, 'one')
    assert image_file.identify(file, workshop) == first
    monkeypatch.setattr('xmanager.images.archive.read_archive', lambda path: pytest.fail('read'))
    assert image_file.identify(file, workshop) == first
    monkeypatch.undo()
    other = docker_tar(file, 'another')
    assert image_file.identify(file, workshop) == other


@pytest.mark.parametrize(
    ('name', 'said'),
    [
        ('nope.tar', 'does not exist. Paths are relative to the launch script'),
        ('folder.tar', 'is not a regular file'),
        ('text.tar', 'is no tar archive'),
        ('UPPER', 'names are in lower case'),
        ('127.0.0.1:1/nope:1', 'could not pull it: .*refused'),
        (f'sha256:{"0" * 64}', 'has no such image. See `'),
    ],
)
def test_what_is_not_there_is_one_sentence(engine, workshop, tmp_path, name, said):
    (tmp_path / 'folder.tar').mkdir()
    (tmp_path / 'text.tar').write_text('text')
    given = str(tmp_path / name) if name.endswith('.tar') else name
    with pytest.raises(PackagingError, match=said) as caught:
        package(given, workshop)
    assert name in str(caught.value).splitlines()[0]


def test_an_image_of_a_registry_is_pulled_and_pinned(docker, registry, tmp_path):
    workshop = attrs.evolve(workshop_of(docker, tmp_path), push=f'{registry.host}/pulled')
    image, pushed = push(docker, workshop, tmp_path, f'pulled {os.getpid()}')
    told: list[str] = []
    workshop = attrs.evolve(workshop, push='', tell=lambda name, step: told.append(step))
    plan = Plan.of(package(pushed, attrs.evolve(workshop, dry_run=True)).facts)
    assert plan.image is not None
    assert plan.image.action == 'pull'
    assert package(pushed, workshop).facts['image'] == image
    assert told[0] == f'pulling {pushed}'
    assert told[-1].endswith('(1 of 1 layers)')
    assert package(pushed, workshop).facts['image'] == image
    again = package(pushed, attrs.evolve(workshop, push=f'{registry.host}/elsewhere'))
    assert again.facts['made'] == {'reference': pushed}


def push(engine: Engine, workshop: Workshop, folder: Path, text: str) -> tuple[str, str]:
    """A new image that is in the registry and no longer in the engine: its id, its name with digest."""
    image = docker_tar(folder / 'pushed.tar', text)
    pushed = package(str(folder / 'pushed.tar'), workshop).facts['made']['reference']
    engine.request('DELETE', f'/images/{image}', query={'force': '1'})
    return image, pushed


@pytest.mark.parametrize('name', ['nope', 'nope:1', f'nope@sha256:{"0" * 64}'])
def test_what_neither_the_engine_nor_the_registry_has_is_told(docker, registry, tmp_path, name):
    with pytest.raises(PackagingError, match=r'neither in the engine .* nor in the registry'):
        package(f'{registry.host}/{name}', workshop_of(docker, tmp_path))


def test_logins_of_the_user_are_used_and_asked_for(
    docker: Engine, password_registry: RealRegistry, tmp_path: Path
) -> None:
    host = password_registry.host
    stranger = attrs.evolve(
        workshop_of(docker, tmp_path, HOME=str(tmp_path), DOCKER_CONFIG=str(tmp_path)),
        push=f'{host}/team',
    )
    text = f'secret {os.getpid()}'
    with pytest.raises(PackagingError, match=f'docker login {host}'):
        push(docker, stranger, tmp_path, text)
    user = attrs.evolve(stranger, environ={**stranger.environ, **password_registry.environ})
    image, pushed = push(docker, user, tmp_path, text)
    with pytest.raises(PackagingError, match=f'refuses it. Run `docker login {host}`'):
        package(pushed, stranger)
    assert package(pushed, user).facts['image'] == image


def test_a_dockerfile_builds_from_a_private_image_and_is_pushed(
    docker: Engine, password_registry: RealRegistry, tmp_path: Path
) -> None:
    workshop = attrs.evolve(
        workshop_of(docker, tmp_path, **password_registry.environ, XM_USE_DOCKER_COMMAND='false'),
        push=f'{password_registry.host}/team',
    )
    _, base = push(docker, workshop, tmp_path, f'base {os.getpid()}')
    (tmp_path / 'Dockerfile').write_text(f'FROM {base}\nCOPY Dockerfile /\n')
    packaged = package_dockerfile(xm.dockerfile_container(SPEC, str(tmp_path)), workshop)
    assert packaged.facts['made']['reference'].startswith(f'{password_registry.host}/team/')
    docker.request('DELETE', f'/images/{packaged.facts["image"]}', query={'force': '1'})


def test_podman_pushes_too(podman, registry, tmp_path):
    workshop = attrs.evolve(workshop_of(podman, tmp_path), push=f'{registry.host}/from-podman')
    docker_tar(tmp_path / 'image.tar', f'podman {os.getpid()}')
    made = package(str(tmp_path / 'image.tar'), workshop).facts['made']
    assert made['reference'].startswith(f'{registry.host}/from-podman/image_tar@sha256:')


def test_an_image_of_an_engine_is_no_layout(docker, tmp_path):
    workshop = attrs.evolve(workshop_of(docker, tmp_path), output=tmp_path)
    with pytest.raises(PackagingError, match=r'--output .* is not supported'):
        package('some:image', workshop)
