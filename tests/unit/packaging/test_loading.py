import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import attrs
import pytest

from xmanager.errors import PackagingError
from xmanager.images.append import append
from xmanager.images.layer_cache import LayerCache
from xmanager.images.streams import docker_stream
from xmanager.images.values import (
    OCI_LAYER_TAR,
    Descriptor,
    Image,
    Layer,
    canonical_json,
    digest_of,
)
from xmanager.packaging.loading import base_in, load, local_name, prune_images, remember

BELOW = b'the layer below'


@attrs.define(slots=False)
class FakeEngine:
    """Keeps images by id as a graph driver does, or refuses what an image store of containerd would refuse."""

    layer_below: Path
    kind: str = 'docker'
    url: str = 'unix:///fake'
    takes_thin: bool = True
    changes: bool = False
    images: dict[str, Any] = attrs.field(factory=dict)
    sent: list[bytes] = attrs.field(factory=list)

    def __attrs_post_init__(self):
        self.put(base_config())

    def put(self, config):
        value = json.loads(config)
        self.images[digest_of(config)] = {
            'Id': digest_of(config),
            'Architecture': value['architecture'],
            'Os': value['os'],
            'RootFS': {'Type': 'layers', 'Layers': value['rootfs']['diff_ids']},
            'Config': value.get('config', {}),
        }

    def inspect_image(self, name):
        return self.images.get(digest_of(base_config()) if name == 'base:1' else name)

    def load(self, chunks):
        data = b''.join(chunks)
        self.sent.append(data)
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            names = archive.getnames()
            described = json.loads(self._member(archive, 'manifest.json'))[0]
            if not self.takes_thin and not set(described['Layers']) <= set(names):
                raise PackagingError('Docker refused: layers are missing')
            config = self._member(archive, described['Config'])
        self.put(config if not self.changes else config.replace(b'linux', b'Linux'))
        return f'Loaded image: {described["RepoTags"][0]}\n'

    @staticmethod
    def _member(archive, name):
        file = archive.extractfile(name)
        assert file is not None
        return file.read()

    def export(self, name):
        assert name == digest_of(base_config())
        path = self.layer_below
        layer = Layer(
            Descriptor(OCI_LAYER_TAR, digest_of(BELOW), len(BELOW)), digest_of(BELOW), path
        )
        return docker_stream(Image(base_config(), (layer,)), 'base:1')


def base_config():
    return canonical_json(
        {
            'architecture': 'amd64',
            'os': 'linux',
            'config': {'Env': ['PATH=/bin']},
            'rootfs': {'type': 'layers', 'diff_ids': [digest_of(BELOW)]},
        }
    )


@pytest.fixture
def engine(tmp_path):
    path = tmp_path / 'below.tar'
    path.write_bytes(BELOW)
    return FakeEngine(path)


@pytest.fixture
def image(engine, tmp_path):
    layer = LayerCache(tmp_path).make('code', 'app', lambda: [b'the code'], compressed=False)
    found = base_in(engine, 'base:1')
    assert found is not None
    _, base = found
    return append(base, [layer], working_dir='/app', entrypoint=['python3'], env={})


def quiet(step):
    pass


def test_only_new_layers_are_sent_and_the_id_is_what_was_computed(engine, image):
    assert load(image, engine, quiet, name='My App') == image.id
    (sent,) = engine.sent
    assert b'the code' in sent
    assert BELOW not in sent
    assert b'"xmanager/my_app:' in sent


def test_an_image_that_is_there_is_not_sent_again(engine, image):
    load(image, engine, quiet)
    load(image, engine, quiet)
    assert len(engine.sent) == 1


def test_an_engine_that_refuses_gets_the_layers_of_the_base_too(engine, image):
    engine.takes_thin = False
    told: list[str] = []
    base_id = digest_of(base_config())
    assert load(image, engine, told.append, base=base_id) == image.id
    assert len(engine.sent) == 2
    assert BELOW in engine.sent[1]
    assert told == ['loading the image', 'loading the image with all its layers']


def test_a_refusal_is_said_if_there_is_nothing_else_to_send(engine, image):
    engine.takes_thin = False
    with pytest.raises(PackagingError, match='layers are missing'):
        load(image, engine, quiet)


def test_an_image_that_becomes_another_one_is_an_error(engine, image):
    engine.changes = True
    with pytest.raises(PackagingError, match='but made another one of it: Loaded image'):
        load(image, engine, quiet, base=digest_of(base_config()))


def test_a_base_that_is_not_there_is_none_and_a_strange_one_an_error(engine):
    assert base_in(engine, 'other') is None
    engine.images['odd'] = {'Id': 'odd', 'RootFS': {'Layers': ['x']}}
    with pytest.raises(PackagingError, match="doesn't say which layers odd has"):
        base_in(engine, 'odd')


@pytest.mark.parametrize(
    ('name', 'expected'),
    [('App', 'xmanager/app:'), ('__é__', 'xmanager/image:'), ('a.b-c', 'xmanager/a_b_c:')],
)
def test_images_have_a_name_that_every_engine_takes(name, expected):
    assert local_name(name, f'sha256:{"0123456789ab" * 5}') == f'{expected}0123456789ab'


def test_images_that_nobody_wants_any_more_are_removed(engine, tmp_path):
    ids = [digest_of(text) for text in (b'old', b'kept', b'busy', b'new')]
    for image_id in ids:
        remember(tmp_path, engine, 'app', image_id)
        if image_id != ids[3]:
            os.utime(tmp_path / 'images' / f'{image_id[7:]}.json', (0, 0))
    removed = []

    def remove(url, name):
        assert url == engine.url
        removed.append(name)
        return name != local_name('app', ids[2])

    old = local_name('app', ids[0])
    assert sorted(prune_images(tmp_path, remove, {ids[1]}, 100, dry_run=True)) == sorted(
        [old, local_name('app', ids[2])]
    )
    assert removed == []
    assert prune_images(tmp_path, remove, {ids[1]}, 100) == [old]
    left = {path.stem for path in (tmp_path / 'images').glob('*.json')}
    assert left == {image_id[7:] for image_id in ids[1:]}


def test_a_note_that_a_power_cut_left_empty_is_removed(tmp_path):
    note = tmp_path / 'images' / 'abc.json'
    note.parent.mkdir()
    for text in ('', '[]', '{}'):
        note.write_text(text)
        os.utime(note, (1, 1))
        assert prune_images(tmp_path, lambda url, name: True, set(), 100, dry_run=True) == []
        assert note.exists()
        assert prune_images(tmp_path, lambda url, name: True, set(), 100) == []
        assert not note.exists()
