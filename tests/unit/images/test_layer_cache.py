import gzip
import hashlib
import io
import os
import random
import time

from hypothesis import given
from hypothesis import strategies as st

from xmanager.images import layer_cache
from xmanager.images.compression import BLOCK_BYTES, blocks_of, gzip_chunks
from xmanager.images.layer_cache import LayerCache, gc_layers

NOISE = random.Random(1).randbytes(3 * BLOCK_BYTES)


def digest(data):
    return f'sha256:{hashlib.sha256(data).hexdigest()}'


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_any_bytes_come_out_of_gzip_as_they_went_in(chunks):
    assert gzip.decompress(b''.join(gzip_chunks(blocks_of(chunks)))) == b''.join(chunks)


def test_large_data_is_compressed_where_it_compresses_and_the_same_each_time():
    chunks = [NOISE[:BLOCK_BYTES], b'text ' * BLOCK_BYTES, NOISE[7:], b'end']
    compressed = [b''.join(gzip_chunks(blocks_of(chunks))) for _ in range(2)]
    assert compressed[0] == compressed[1]
    assert gzip.decompress(compressed[0]) == b''.join(chunks)
    assert len(compressed[0]) < len(NOISE) + BLOCK_BYTES + 100_000


def test_blocks_have_a_size_whatever_the_chunks_have():
    blocks = list(blocks_of([b'a' * 1000] * 3000))
    assert [len(block) >= BLOCK_BYTES for block in blocks] == [True, True, False]
    assert list(blocks_of([])) == []


def test_a_layer_is_kept_with_its_digests(tmp_path):
    cache = LayerCache(tmp_path)
    assert cache.find('content', 'app', compressed=True) is None
    layer = cache.make('content', 'app', lambda: [b'tar', b'ball'], compressed=True)
    assert layer.diff_id == digest(b'tarball')
    assert layer.path is not None
    assert layer.descriptor is not None
    blob = layer.path.read_bytes()
    assert gzip.decompress(blob) == b'tarball'
    assert (layer.descriptor.digest, layer.descriptor.size) == (digest(blob), len(blob))
    assert layer.compressed
    assert cache.find('content', 'app', compressed=True) == layer


def test_a_plain_layer_is_the_tar_itself(tmp_path):
    layer = LayerCache(tmp_path).make('content', 'app', lambda: [b'tarball'], compressed=False)
    assert layer.path is not None
    assert layer.descriptor is not None
    assert layer.path.read_bytes() == b'tarball'
    assert layer.descriptor.digest == layer.diff_id
    assert not layer.compressed


def test_what_is_kept_is_not_made_again_and_another_place_is_another_layer(tmp_path):
    cache = LayerCache(tmp_path)
    first = cache.make('content', 'app', lambda: [b'1'], compressed=False)
    again = cache.make('content', 'app', lambda: [b'2'], compressed=False)
    other = cache.make('content', 'other', lambda: [b'3'], compressed=False)
    assert first == again
    assert other.diff_id == digest(b'3')


def test_a_layer_whose_file_was_cut_short_or_whose_record_is_damaged_is_made_again(tmp_path):
    cache = LayerCache(tmp_path)
    layer = cache.make('content', 'app', lambda: [b'tarball'], compressed=False)
    assert layer.path is not None
    layer.path.write_bytes(b'tar')
    assert cache.find('content', 'app', compressed=False) is None
    assert cache.make('content', 'app', lambda: [b'tarball'], compressed=False) == layer
    layer.path.with_name(f'{layer.path.name}.json').write_text('[')
    assert cache.find('content', 'app', compressed=False) is None


def test_nothing_is_left_of_a_layer_that_could_not_be_made(tmp_path):
    def fail():
        yield b'half'
        raise OSError('no disk')

    try:
        LayerCache(tmp_path).make('content', 'app', fail, compressed=True)
    except OSError:
        assert list((tmp_path / 'layers').iterdir()) == []


def _aged(layer, seconds):
    then = time.time() - seconds
    os.utime(layer.path, (then, then))
    os.utime(layer.path.with_name(f'{layer.path.name}.json'), (then, then))


def test_layers_that_nobody_used_for_long_are_removed(tmp_path):
    cache = LayerCache(tmp_path)
    old = cache.make('old', 'app', lambda: [b'1'], compressed=False)
    used = cache.make('used', 'app', lambda: [b'2'], compressed=False)
    _aged(old, 100)
    _aged(used, 100)
    cache.find('used', 'app', compressed=False)
    assert gc_layers(tmp_path, 50, dry_run=True) == [old.path]
    assert cache.find('used', 'app', compressed=False)
    assert gc_layers(tmp_path, 50) == [old.path]
    assert cache.find('old', 'app', compressed=False) is None
    assert cache.find('used', 'app', compressed=False)
    assert len(list((tmp_path / 'layers').iterdir())) == 2


def test_the_least_used_layers_go_if_all_are_too_large_but_not_those_in_use(tmp_path):
    cache = LayerCache(tmp_path)
    layers = [
        cache.make(name, 'app', lambda: [bytes(100)], compressed=False) for name in ('a', 'b', 'c')
    ]
    _aged(layers[0], layer_cache._IN_USE_SECONDS + 50)
    assert gc_layers(tmp_path, 1e9, max_bytes=150) == [layers[0].path]


def test_half_written_files_are_swept_too_and_a_cache_that_is_not_there_is_empty(tmp_path):
    assert gc_layers(tmp_path, 0) == []
    LayerCache(tmp_path).make('a', 'app', lambda: [b'1'], compressed=False)
    half = tmp_path / 'layers' / '.half-x'
    half.write_bytes(b'1')
    os.utime(half, (0, 0))
    assert gc_layers(tmp_path, 100) == [half]
    assert not half.exists()


def test_the_stream_is_one_gzip_member_for_readers_that_take_no_more():
    import zlib

    reader = zlib.decompressobj(31)
    assert reader.decompress(b''.join(gzip_chunks([b'a', b'b']))) == b'ab'
    assert reader.eof
    assert reader.unused_data == b''
    assert io.BytesIO(b''.join(gzip_chunks([b'a']))).read(4)[3] == 0
