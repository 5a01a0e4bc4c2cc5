import json

import pytest
from tests.unit.packaging.pictures import as_base, image

from xmanager.errors import PackagingError
from xmanager.images.layout import write_layout
from xmanager.images.reference import Reference


def blobs(folder):
    return {path.name for path in (folder / 'blobs' / 'sha256').iterdir()}


def named(folder):
    """The blobs that a layout's manifest names, itself among them."""
    index = json.loads((folder / 'index.json').read_bytes())
    digest = index['manifests'][0]['digest'].removeprefix('sha256:')
    manifest = json.loads((folder / 'blobs' / 'sha256' / digest).read_bytes())
    digests = [manifest['config']['digest'], *(layer['digest'] for layer in manifest['layers'])]
    return {digest, *(one.removeprefix('sha256:') for one in digests)}


def test_layouts_with_a_store_have_all_their_blobs_and_a_base_only_once(tmp_path):
    base = image(tmp_path, [1000])
    versions = [image(tmp_path, [10], seed, base.layers) for seed in (1, 2)]
    store = tmp_path / 'images' / 'blobs'
    for number, version in enumerate(versions):
        write_layout(version, tmp_path / 'images' / str(number), name='latest', store=store)
    first, second = (tmp_path / 'images' / '0', tmp_path / 'images' / '1')
    assert named(first) <= blobs(first)
    assert named(second) <= blobs(second)
    assert len(named(first) & named(second)) == 1
    assert {path.name for path in (store / 'sha256').iterdir()} == named(first) | named(second)


def test_a_layout_with_a_store_can_be_moved_along_with_it(tmp_path):
    store = tmp_path / 'images' / 'blobs'
    write_layout(image(tmp_path, [10]), tmp_path / 'images' / 'one', name='latest', store=store)
    (tmp_path / 'images').rename(tmp_path / 'moved')
    assert named(tmp_path / 'moved' / 'one') <= blobs(tmp_path / 'moved' / 'one')


def test_what_the_store_has_is_not_fetched_again(tmp_path):
    base = image(tmp_path, [10])
    store = tmp_path / 'blobs'
    write_layout(base, tmp_path / 'one', name='latest', store=store)
    origin = Reference.parse('host:1/base:1')
    again = image(tmp_path, [5], 1, as_base(base, origin))

    def fetch(layer):
        raise AssertionError(layer)

    write_layout(again, tmp_path / 'two', name='latest', store=store, fetch=fetch)
    assert named(tmp_path / 'two') <= blobs(tmp_path / 'two')


def test_a_blob_that_is_not_what_was_asked_for_gets_into_no_store(tmp_path):
    base = image(tmp_path, [10])
    wrong = image(tmp_path, [5], 1, as_base(base, Reference.parse('host:1/base:1')))
    store = tmp_path / 'blobs'
    with pytest.raises(PackagingError, match='bytes were expected'):
        write_layout(
            wrong, tmp_path / 'one', name='latest', store=store, fetch=lambda layer: [b'other']
        )
    assert not (tmp_path / 'one').exists()
    assert list((store / 'sha256').iterdir()) == []
