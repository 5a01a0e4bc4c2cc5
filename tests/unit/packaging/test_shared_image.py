import gzip
import io
import json
import os
import tarfile
import time

import attrs
import pytest
from tests.unit.images import faulty_registry
from tests.unit.packaging.pictures import image

from xmanager import xm, xm_local
from xmanager.errors import PackagingError
from xmanager.images.streams import docker_stream
from xmanager.images.values import (
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
    Image,
    Layer,
    canonical_json,
    digest_of,
)
from xmanager.packaging.container import package_container
from xmanager.packaging.plan import Plan
from xmanager.packaging.python_container import package_python_container
from xmanager.packaging.shared_image import find_shared, gc_images, share
from xmanager.packaging.workshop import Workshop

SPEC = xm_local.Slurm.Spec()
NO_ENGINE = {'DOCKER_HOST': 'unix:///nowhere/docker.sock', 'HOME': '/nowhere', 'PATH': '/nowhere'}
DAY = 86400.0
MONTH = 30 * DAY


@pytest.fixture
def workshop(tmp_path):
    return Workshop(tmp_path / 'home', NO_ENGINE)


@pytest.fixture
def registry():
    with faulty_registry.running() as running:
        yield running


def blobs(workshop):
    return {path.name for path in (workshop.images / 'blobs' / 'sha256').iterdir()}


def grow_old(workshop, image_id, seconds=2 * MONTH):
    old = time.time() - seconds
    os.utime(workshop.images / image_id.removeprefix('sha256:') / 'environment', (old, old))
    for path in (workshop.images / 'blobs' / 'sha256').iterdir():
        os.utime(path, (old, old))


def layer_of(text):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode='w') as tar:
        info = tarfile.TarInfo('text')
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


def put_base(registry, name='team/base', env=('PYTHON_VERSION=3.11.2',)):
    """An image with one layer in the registry; the digest of its configuration."""
    tar = layer_of(name)
    blob = gzip.compress(tar, mtime=0)
    config = canonical_json(
        {
            'architecture': 'amd64',
            'os': 'linux',
            'config': {'Env': list(env), 'Entrypoint': ['/run'], 'Cmd': ['a'], 'WorkingDir': '/w'},
            'rootfs': {'type': 'layers', 'diff_ids': [digest_of(tar)]},
        }
    )
    layers = [
        {'mediaType': OCI_LAYER_GZIP, 'digest': registry.put_blob(name, blob), 'size': len(blob)}
    ]
    described = {
        'mediaType': 'application/vnd.oci.image.config.v1+json',
        'digest': registry.put_blob(name, config),
        'size': len(config),
    }
    manifest = {
        'schemaVersion': 2, 'mediaType': OCI_MANIFEST, 'config': described, 'layers': layers
    }  # fmt: skip
    registry.put_manifest(name, '1', manifest, OCI_MANIFEST)
    return digest_of(config)


def archive(path, text):
    """A file as `docker save` writes it; the id of the image."""
    tar = layer_of(text)
    layer_file = path.with_suffix('.layer')
    layer_file.write_bytes(tar)
    config = canonical_json(
        {
            'architecture': 'amd64',
            'os': 'linux',
            'config': {'Cmd': ['/say', text]},
            'rootfs': {'type': 'layers', 'diff_ids': [digest_of(tar)]},
        }
    )
    saved = Image(config, (Layer(None, digest_of(tar), layer_file),))
    path.write_bytes(b''.join(docker_stream(saved, 'saved:1')))
    return saved.id


def test_an_image_of_a_registry_becomes_a_layout_without_any_engine(registry, workshop):
    config = put_base(registry)
    packaged = package_container(
        xm.container(SPEC, f'{registry.host}/team/base:1', args={'a': 1}), workshop
    )
    facts = packaged.facts
    assert facts['image'] == config
    assert facts['layout'] == str(workshop.images / config.removeprefix('sha256:'))
    assert (facts['entrypoint'], facts['command'], facts['working_dir']) == (['/run'], ['a'], '/w')
    assert json.loads(json.dumps(facts)) == facts
    assert len(blobs(workshop)) == 3
    assert packaged.args


def test_blobs_that_a_layout_has_are_not_fetched_again(registry, workshop):
    put_base(registry)
    packageable = xm.container(SPEC, f'{registry.host}/team/base:1')
    for _ in range(2):
        package_container(packageable, workshop)
    assert registry.count('GET', 'blobs/') == 3  # The configuration twice.


def test_an_image_that_is_nowhere_is_an_error_that_names_what_was_asked_for(registry, workshop):
    with pytest.raises(PackagingError, match=r"xm\.container\(image_path='.*team/none:1'\)"):
        package_container(xm.container(SPEC, f'{registry.host}/team/none:1'), workshop)
    with pytest.raises(PackagingError, match='no container engine'):
        package_container(xm.container(SPEC, f'sha256:{"0" * 64}'), workshop)


def test_an_image_in_a_file_becomes_a_layout_without_any_engine(workshop, tmp_path):
    saved = archive(tmp_path / 'saved.tar', 'hello')
    facts = package_container(xm.container(SPEC, str(tmp_path / 'saved.tar')), workshop).facts
    assert facts['image'] == saved
    assert facts['command'] == ['/say', 'hello']
    layout = workshop.images / saved.removeprefix('sha256:')
    (layer,) = (layout / 'layers').read_text().splitlines()
    data = gzip.decompress((layout / 'blobs' / layer).read_bytes())
    assert data == layer_of('hello')


def test_code_on_a_base_of_a_registry_becomes_a_layout_without_any_engine(
    registry, workshop, tmp_path
):
    put_base(registry)
    (tmp_path / 'app').mkdir()
    (tmp_path / 'app' / 'main.py').write_text('print(1)')
    packageable = xm.python_container(
        SPEC,
        xm.ModuleName('main'),
        str(tmp_path / 'app'),
        base_image=f'{registry.host}/team/base:1',
    )
    facts = package_python_container(packageable, workshop).facts
    assert facts['entrypoint'] == ['python3', '-m', 'main']
    assert facts['working_dir'] == '/app'
    assert facts['snapshot']
    environment = workshop.images / facts['image'].removeprefix('sha256:') / 'environment'
    assert environment.read_text() == 'PYTHON_VERSION=3.11.2\nLANG=C.UTF-8\n'
    (tmp_path / 'app' / 'main.py').write_text('print(2)')
    other = package_python_container(packageable, workshop).facts
    assert other['image'] != facts['image']
    # Of the second version, its code, its configuration and its manifest were new.
    assert len(blobs(workshop)) == 4 + 3


def test_layouts_lie_in_the_folder_that_the_cluster_sees(tmp_path):
    shop = Workshop(tmp_path / 'home', {**NO_ENGINE, 'XM_SHARED': str(tmp_path / 'shared')})
    facts = share(image(tmp_path, [10]), 'app', shop)
    assert facts['layout'].startswith(str(tmp_path / 'shared'))


def test_a_dry_run_says_what_would_be_written_and_writes_nothing(registry, workshop, tmp_path):
    dry = attrs.evolve(workshop, dry_run=True)
    packageable = xm.container(SPEC, f'{registry.host}/team/base:1')
    plan = Plan.of(package_container(packageable, dry).facts)
    assert plan.image is not None
    assert plan.image.action == 'write'
    archive(tmp_path / 'saved.tar', 'hello')
    packageable = xm.container(SPEC, str(tmp_path / 'saved.tar'))
    plan = Plan.of(package_container(packageable, dry).facts)
    assert plan.image is not None
    assert plan.image.action == 'write'
    assert not workshop.home.exists()
    package_container(packageable, workshop)
    plan = Plan.of(package_container(packageable, dry).facts)
    assert plan.image is not None
    assert plan.image.action == 'none'


def test_a_layout_that_was_left_half_made_is_made_again(tmp_path, workshop):
    whole = image(tmp_path, [10])
    facts = share(whole, 'app', workshop)
    folder = workshop.images / whole.id.removeprefix('sha256:')
    (folder / 'environment').unlink()
    assert find_shared(whole.id, workshop) is None
    assert share(whole, 'app', workshop) == facts
    assert find_shared(whole.id, workshop) == facts


def test_old_layouts_go_with_what_nodes_made_of_them_and_blobs_that_nobody_names(
    tmp_path, workshop
):
    base = image(tmp_path, [1000])
    old, new = (image(tmp_path, [10], seed, base.layers) for seed in (1, 2))
    share(old, 'app', workshop)
    grow_old(workshop, old.id)
    folder = workshop.images / old.id.removeprefix('sha256:')
    for suffix in ('.sif', '.lock', '.sqsh'):
        folder.with_name(f'{folder.name}{suffix}').touch()
    share(new, 'app', workshop)
    assert gc_images(workshop.images, set(), MONTH, dry_run=True) == [old.id]
    assert folder.exists()
    assert gc_images(workshop.images, set(), MONTH) == [old.id]
    assert sorted(path.name for path in workshop.images.iterdir()) == sorted(
        ['blobs', new.id.removeprefix('sha256:')]
    )
    assert len(blobs(workshop)) == 4  # The base and the three of the new one.
    assert find_shared(new.id, workshop)


def test_a_layout_that_a_recorded_experiment_refers_to_stays(tmp_path, workshop):
    whole = image(tmp_path, [10])
    share(whole, 'app', workshop)
    grow_old(workshop, whole.id)
    assert gc_images(workshop.images, {whole.id}, MONTH) == []
    assert find_shared(whole.id, workshop)
