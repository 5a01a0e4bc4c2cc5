import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmanager.errors import PackagingError
from xmanager.images.manifests import (
    MANIFEST_BYTES,
    Index,
    Manifest,
    check_settings,
    read_config,
    read_manifest,
)
from xmanager.images.values import (
    DOCKER_CONFIG,
    DOCKER_INDEX,
    DOCKER_LAYER_GZIP,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
    Descriptor,
    Image,
    ImageConfig,
    Layer,
    Platform,
    digest_of,
)

A, B = digest_of(b'a'), digest_of(b'b')


def descriptor(media_type=OCI_LAYER_GZIP, digest=A, size=1, **more):
    return {'mediaType': media_type, 'digest': digest, 'size': size, **more}


def manifest(**changes):
    value = {
        'schemaVersion': 2,
        'mediaType': OCI_MANIFEST,
        'config': descriptor(OCI_CONFIG),
        'layers': [descriptor(digest=B)],
    }
    return json.dumps({**value, **changes}).encode()


def config(**changes):
    value = {
        'architecture': 'amd64',
        'os': 'linux',
        'config': {'Env': ['PATH=/bin', 'PYTHON_VERSION=3.11.9', 'EMPTY=']},
        'rootfs': {'type': 'layers', 'diff_ids': [A]},
    }
    return json.dumps({**value, **changes}).encode()


def index(*platforms, **changes):
    manifests = [
        descriptor(OCI_MANIFEST, digest_of(str(i).encode()), platform=platform)
        for i, platform in enumerate(platforms)
    ]
    value = {'schemaVersion': 2, 'manifests': manifests}
    return json.dumps({**value, **changes}).encode()


def test_a_manifest_is_read():
    read = read_manifest(manifest(), 'x')
    assert isinstance(read, Manifest)
    assert read.config == Descriptor(OCI_CONFIG, A, 1)
    assert read.layers == (Descriptor(OCI_LAYER_GZIP, B, 1),)
    assert read.digest == digest_of(manifest())


def test_the_kind_of_a_manifest_that_does_not_say_is_what_the_server_says_or_that_of_its_config():
    bare = manifest(mediaType=None, config=descriptor(DOCKER_CONFIG))
    assert read_manifest(bare, 'x').media_type == DOCKER_MANIFEST
    assert read_manifest(bare, 'x', media_type=f'{OCI_MANIFEST}; q=1').media_type == OCI_MANIFEST
    assert read_manifest(manifest(mediaType=None), 'x').media_type == OCI_MANIFEST


def test_an_index_offers_the_image_of_a_platform():
    arm = {'architecture': 'arm64', 'os': 'linux', 'variant': 'v8'}
    read = read_manifest(index({'architecture': 'amd64', 'os': 'linux'}, arm), 'x')
    assert isinstance(read, Index)
    assert read.media_type == OCI_INDEX
    assert read.choose(Platform('amd64'), 'x').digest == digest_of(b'0')
    assert read.choose(Platform('arm64'), 'x').digest == digest_of(b'1')
    assert read.choose(Platform('amd64', variant='v3'), 'x').digest == digest_of(b'0')
    with pytest.raises(
        PackagingError, match='no image for linux/s390x: it has linux/amd64, linux/arm64/v8'
    ):
        read.choose(Platform('s390x'), 'x')


def test_an_index_of_docker_is_known_by_what_is_in_it():
    one = descriptor(DOCKER_MANIFEST)
    read = read_manifest(json.dumps({'schemaVersion': 2, 'manifests': [one]}).encode(), 'x')
    assert read.media_type == DOCKER_INDEX


@pytest.mark.parametrize(
    ('data', 'said'),
    [
        (b'', 'is no JSON'),
        (b'\xff', 'is no JSON'),
        (b'[' * 100_000, 'is no JSON'),
        (b'{"a": NaN}', 'NaN is no value of JSON'),
        (b'{"a": 1, "a": 2}', 'a key stands twice'),
        (b'{"a": "\\ud800"}', 'is no JSON'),
        (b'{"a": ' + b'1' * 5000 + b'}', 'is no JSON'),
        (b'[]', 'not an object'),
        (b' ' * (MANIFEST_BYTES + 1), 'larger than 4 MiB'),
        (manifest(schemaVersion=1), 'has schemaVersion 1; only 2 is read'),
        (
            manifest(mediaType='application/vnd.docker.distribution.manifest.v1+prettyjws'),
            'schema 1',
        ),
        (manifest(mediaType='text/html'), "media type 'text/html', which is no image"),
        (manifest(mediaType=3), 'has 3 as mediaType, not a text'),
        (manifest(manifests=[]), 'both manifests and layers'),
        (manifest(config=None), 'has no config'),
        (manifest(config=[]), 'has [] as config, not a object'),
        (manifest(layers={}), 'has {} as layers, not a list'),
        (manifest(layers=['x']), "has 'x' as layers[0], not an object"),
        (manifest(layers=[descriptor(digest='sha256:12')]), 'no sha256'),
        (manifest(layers=[descriptor(digest='../../etc/passwd')]), 'has the digest'),
        (manifest(layers=[descriptor(size=-1)]), 'has the size -1'),
        (manifest(layers=[descriptor(size=True)]), 'has True as size'),
        (manifest(layers=[descriptor(size=1.5)]), 'has 1.5 as size'),
        (manifest(layers=[descriptor()] * 10_001), 'at most 10000'),
        (index({'architecture': 'amd64'}), 'has no os'),
        (index(mediaType=OCI_MANIFEST), 'but has manifests'),
    ],
)
def test_a_manifest_with_a_fault_is_refused_with_a_sentence(data, said):
    with pytest.raises(PackagingError, match='The manifest of team/x') as caught:
        read_manifest(data, 'team/x')
    said = said.replace('no sha256', 'which is not sha256')
    assert said in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_manifest_that_is_not_what_was_asked_for_is_refused():
    with pytest.raises(PackagingError, match='is not what was asked for: its digest is'):
        read_manifest(manifest(), 'x', digest=A)
    read_manifest(manifest(), 'x', digest=digest_of(manifest()))


def test_a_configuration_is_read():
    read = read_config(config(), 'x')
    assert read == ImageConfig(Platform('amd64', 'linux'), (A,), json.loads(config())['config'])
    assert read.env['PYTHON_VERSION'] == '3.11.9'
    assert read.env['EMPTY'] == ''
    assert read_config(config(config=None), 'x').env == {}


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        ({'architecture': None}, 'has no architecture'),
        ({'os': 3}, 'has 3 as os'),
        ({'rootfs': None}, 'has no rootfs'),
        ({'rootfs': {}}, 'has no diff_ids'),
        ({'rootfs': {'diff_ids': ['x']}}, 'which is no sha256 digest'),
        ({'rootfs': {'diff_ids': [None]}}, 'which is no sha256 digest'),
        ({'config': {'Env': [3]}}, 'has 3 in Env'),
        ({'config': {'Env': 'A=B'}}, "has 'A=B' as Env"),
        ({'config': {'WorkingDir': []}}, 'has [] as WorkingDir'),
        ({'config': {'Labels': []}}, 'has [] as Labels'),
    ],
)
def test_a_configuration_with_a_fault_is_refused_with_a_sentence(changes, said):
    with pytest.raises(PackagingError, match='The configuration of x') as caught:
        read_config(config(**changes), 'x')
    assert said in str(caught.value)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
_fields = st.sampled_from(
    ['schemaVersion', 'mediaType', 'config', 'layers', 'manifests', 'rootfs', 'os', 'architecture']
)


@given(
    st.dictionaries(_fields, _json | st.just(2)), st.sampled_from(['manifest', 'config', 'index'])
)
def test_whatever_stands_in_a_field_is_read_or_refused(changes, kind):
    data = {'manifest': manifest, 'config': config, 'index': index}[kind](**changes)
    for reader in (read_manifest, read_config):
        try:
            reader(data, 'x')
        except PackagingError:
            continue


@given(
    st.binary(max_size=50)
    | st.binary(max_size=3).map(lambda noise: manifest()[:40] + noise + manifest()[40:])
)
def test_any_bytes_are_read_or_refused(data):
    for reader in (read_manifest, read_config):
        try:
            reader(data, 'x')
        except PackagingError:
            continue


def test_settings_from_an_engine_are_checked_too():
    check_settings({'Env': None, 'Cmd': ['a']}, 'x')
    with pytest.raises(PackagingError, match='has 1 in Cmd'):
        check_settings({'Cmd': [1]}, 'x')


def test_the_manifest_of_an_image_reads_back_and_speaks_the_language_of_its_kind():
    layer = Layer(Descriptor(OCI_LAYER_GZIP, B, 5), A)
    for kind, media_type in ((OCI_MANIFEST, OCI_LAYER_GZIP), (DOCKER_MANIFEST, DOCKER_LAYER_GZIP)):
        image = Image(config(), (layer,), kind)
        read = read_manifest(image.manifest(), 'x')
        assert isinstance(read, Manifest)
        assert read.media_type == kind
        assert read.layers == (Descriptor(media_type, B, 5),)
        assert read.config.digest == image.id == digest_of(config())


def test_a_layer_that_only_an_engine_has_stands_in_no_manifest():
    with pytest.raises(PackagingError, match='is in an engine only'):
        Image(config(), (Layer(None, A),)).manifest()
