import contextlib
import gzip
import io
import json
import tarfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xmanager.errors import PackagingError
from xmanager.images.archive import layers_of, read_archive
from xmanager.images.layout import write_layout
from xmanager.images.streams import docker_stream, oci_stream
from xmanager.images.values import (
    OCI_LAYER_GZIP,
    OCI_LAYER_TAR,
    Descriptor,
    Image,
    Layer,
    canonical_json,
    digest_of,
)

TAR = b'the tar of a layer'
DIFF_ID = digest_of(TAR)


def config_of(*diff_ids):
    return canonical_json(
        {
            'architecture': 'amd64',
            'os': 'linux',
            'rootfs': {'type': 'layers', 'diff_ids': list(diff_ids)},
        }
    )


@pytest.fixture
def image(tmp_path):
    path = tmp_path / 'layer.tar'
    path.write_bytes(TAR)
    layer = Layer(Descriptor(OCI_LAYER_TAR, DIFF_ID, len(TAR)), DIFF_ID, path)
    return Image(config_of(DIFF_ID), (layer,))


def tar(path, files):
    with tarfile.open(path, 'w') as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize('stream', [docker_stream, oci_stream])
def test_what_is_written_for_an_engine_reads_back(stream, image, tmp_path):
    saved = tmp_path / 'saved.tar'
    saved.write_bytes(b''.join(stream(image, 'xmanager/a:1')))
    read = read_archive(saved)
    assert read.id == image.id
    assert read.config.diff_ids == (DIFF_ID,)
    assert len(read.layers) == 1
    assert read.names == (('xmanager/a:1',) if stream is docker_stream else ())


@pytest.mark.parametrize('stream', [docker_stream, oci_stream])
def test_the_layers_of_an_exported_image_are_unpacked_and_checked(stream, image, tmp_path):
    (layer,) = layers_of(stream(image, 'a:1'), tmp_path)
    assert layer.diff_id == DIFF_ID
    assert layer.path is not None
    assert layer.path.read_bytes() == TAR


def test_a_compressed_layer_of_an_exported_image_is_unpacked(image, tmp_path):
    path = tmp_path / 'layer.gz'
    path.write_bytes(gzip.compress(TAR))
    blob = path.read_bytes()
    layer = Layer(Descriptor(OCI_LAYER_GZIP, digest_of(blob), len(blob)), DIFF_ID, path)
    (unpacked,) = layers_of(oci_stream(Image(config_of(DIFF_ID), (layer,)), 'a:1'), tmp_path)
    assert unpacked.path is not None
    assert unpacked.path.read_bytes() == TAR


def test_an_exported_layer_that_is_another_one_is_refused(image, tmp_path):
    image.layers[0].path.write_bytes(b'another tar......')
    with pytest.raises(PackagingError, match='exported another layer than sha256:'):
        layers_of(docker_stream(image, 'a:1'), tmp_path)


def test_a_thin_stream_names_layers_that_it_does_not_hold(image, tmp_path):
    below = digest_of(b'below')
    thin = Image(config_of(below, DIFF_ID), (Layer(None, below), *image.layers))
    for stream in (docker_stream, oci_stream):
        data = b''.join(stream(thin, 'a:1'))
        assert below.removeprefix('sha256:').encode() in data
        assert data.count(TAR) == 1
        saved = tmp_path / 'thin.tar'
        saved.write_bytes(data)
        with pytest.raises(PackagingError, match='which is no file in it'):
            read_archive(saved)


def test_compressed_archives_are_read(image, tmp_path):
    saved = tmp_path / 'saved.tar.gz'
    saved.write_bytes(gzip.compress(b''.join(docker_stream(image, 'a:1'))))
    assert read_archive(saved).id == image.id


def test_a_layer_that_stands_twice_is_a_link_to_the_first(tmp_path):
    config = config_of(DIFF_ID, DIFF_ID)
    described = [{'Config': 'c.json', 'Layers': ['a/layer.tar', 'b/layer.tar']}]
    saved = tar(tmp_path / 'saved.tar', {
        'c.json': config, 'manifest.json': canonical_json(described), 'a/layer.tar': TAR,
    })  # fmt: skip
    with tarfile.open(saved, 'a') as archive:
        link = tarfile.TarInfo('b/layer.tar')
        link.type, link.linkname = tarfile.SYMTYPE, '../a/layer.tar'
        archive.addfile(link)
    assert len(read_archive(saved).layers) == 2


DESCRIBED = {'Config': 'c.json', 'Layers': ['l.tar'], 'RepoTags': ['a:1']}


def docker_files(**changes):
    return {
        'c.json': config_of(DIFF_ID),
        'l.tar': TAR,
        'manifest.json': json.dumps([{**DESCRIBED, **changes}]).encode(),
    }


@pytest.mark.parametrize(
    ('files', 'said'),
    [
        ({'x': b''}, 'is no image'),
        ({'manifest.json': b'{'}, 'manifest.json that is no JSON'),
        ({'manifest.json': b'{}'}, 'no list of images'),
        ({'manifest.json': b'[]'}, 'holds 0 images; one is expected'),
        (docker_files(Config='../../etc/passwd'), 'no file in it'),
        (docker_files(Config=3), 'names no Config'),
        (docker_files(Layers='l.tar'), 'Layers is no list'),
        (docker_files(Layers=[]), 'names 0 layers'),
        (docker_files(Layers=['/etc/passwd']), 'no file in it'),
        ({**docker_files(), 'c.json': b'[]'}, 'not an object'),
        ({**docker_files(), 'c.json': bytes(9 * 2**20)}, 'at most'),
        ({'index.json': b'{"schemaVersion": 2, "manifests": []}'}, 'holds 0 images|no image for'),
    ],
)
def test_an_archive_with_a_fault_is_refused_with_a_sentence(files, said, tmp_path):
    saved = tar(tmp_path / 'saved.tar', files)
    with pytest.raises(PackagingError, match=said) as caught:
        read_archive(saved)
    assert str(saved) in str(caught.value)


def test_an_oci_archive_whose_blob_is_not_what_it_is_called_is_refused(image, tmp_path):
    data = b''.join(oci_stream(image, 'a:1')).replace(b'"amd64"', b'"arm64"')
    saved = tmp_path / 'saved.tar'
    saved.write_bytes(data)
    with pytest.raises(PackagingError, match='is not what was asked for'):
        read_archive(saved)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=600), st.integers(0, 8000), st.booleans())
def test_damaged_archives_are_read_or_refused(image, tmp_path, noise, at, docker):
    data = b''.join((docker_stream if docker else oci_stream)(image, 'a:1'))
    saved = tmp_path / 'noise.tar'
    saved.write_bytes(data[:at] + noise + data[at + len(noise) :])
    with contextlib.suppress(PackagingError):
        read_archive(saved)


def test_what_is_no_archive_or_not_there_is_refused(tmp_path):
    (tmp_path / 'text').write_text('hello')
    with pytest.raises(PackagingError, match='is no tar archive'):
        read_archive(tmp_path / 'text')
    with pytest.raises(PackagingError, match="can't be read as an archive: No such file"):
        read_archive(tmp_path / 'nowhere')


def test_a_layout_holds_all_blobs_under_their_digests_and_replaces_the_one_before(image, tmp_path):
    folder = tmp_path / 'out' / 'app'
    for _ in range(2):
        digest = write_layout(image, folder, name='app:latest')
    index = json.loads((folder / 'index.json').read_bytes())
    assert index['manifests'][0]['digest'] == digest
    blobs = {path.name: path.read_bytes() for path in (folder / 'blobs' / 'sha256').iterdir()}
    assert all(digest_of(data) == f'sha256:{name}' for name, data in blobs.items())
    assert len(blobs) == 3
    assert [path.name for path in folder.parent.iterdir()] == ['app']
    assert json.loads((folder / 'oci-layout').read_bytes()) == {'imageLayoutVersion': '1.0.0'}


def test_layers_elsewhere_are_fetched_into_a_layout_and_checked(image, tmp_path):
    below = Layer(Descriptor(OCI_LAYER_TAR, digest_of(b'below'), 5), digest_of(b'below'))
    whole = Image(config_of(below.diff_id, DIFF_ID), (below, *image.layers))
    folder = tmp_path / 'app'
    write_layout(whole, folder, name='a', fetch=lambda layer: [b'bel', b'ow'])
    assert (folder / 'blobs' / 'sha256' / digest_of(b'below')[7:]).read_bytes() == b'below'
    with pytest.raises(PackagingError, match='5 bytes were expected'):
        write_layout(whole, folder, name='a', fetch=lambda layer: [b'other'])
    write_layout(whole, folder, name='a')
    assert not (folder / 'blobs' / 'sha256' / digest_of(b'below')[7:]).exists()


def test_a_folder_with_something_else_in_it_is_not_overwritten(image, tmp_path):
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'thesis.tex').write_text('')
    with pytest.raises(PackagingError, match='holds something else than an image'):
        write_layout(image, tmp_path / 'mine', name='a')
    with pytest.raises(PackagingError, match='expected a folder or nothing'):
        write_layout(image, tmp_path / 'mine' / 'thesis.tex', name='a')
