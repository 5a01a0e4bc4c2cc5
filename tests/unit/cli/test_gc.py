import os
import time

import pytest
from tests.unit.packaging.pictures import image

from xmanager.images.layer_cache import LayerCache
from xmanager.packaging.shared_image import share
from xmanager.packaging.workshop import Workshop, shared_home


@pytest.fixture(autouse=True)
def no_engine(monkeypatch, tmp_path):
    monkeypatch.setenv('DOCKER_HOST', f'unix://{tmp_path}/no.sock')


@pytest.fixture
def cache(home):
    return home.path / 'cache'


def environment(cache, key, days):
    folder = cache / 'environments' / key
    folder.mkdir(parents=True)
    (folder / 'xmanager.json').write_text('{}')
    grow_old(folder / 'xmanager.json', days)
    return folder


def layer(cache, key, days):
    LayerCache(cache).make(key, 'code', lambda: [b'\0' * 1024], compressed=False)
    for path in (cache / 'layers').iterdir():
        grow_old(path, days)


def grow_old(path, days):
    os.utime(path, (time.time() - days * 86400,) * 2)


def test_without_an_engine_the_rest_is_done_and_a_note_says_so(run, lab, cache):
    lab.experiment()
    old, new = environment(cache, 'old', 40), environment(cache, 'new', 20)
    code, out, err = run('gc')
    assert (code, old.exists(), new.exists()) == (0, False, True)
    assert out.splitlines()[0] == 'removed environment old'
    assert 'containers and images are not looked at' in err


def test_an_environment_that_a_recorded_unit_runs_in_stays(run, lab, cache):
    record = lab.experiment()
    task = lab.task('train', executable={'kind': 'python', 'environment': {'key': 'old'}})
    lab.add(record.id, 'completed', tasks=[task])
    folder = environment(cache, 'old', 400)
    run('gc', '--older-than', '1d')
    assert folder.exists()


def test_environments_for_clusters_go_too(run, lab, home, tmp_path, monkeypatch):
    lab.experiment()
    monkeypatch.setenv('XM_SHARED', str(tmp_path / 'shared'))
    mine = shared_home(home.path, os.environ)
    old = environment(mine / 'cache', 'old', 40)
    of_another = environment(
        shared_home(home.path.parent / 'other', os.environ) / 'cache', 'old', 40
    )
    assert run('gc').out.splitlines()[0] == 'removed environment old'
    assert (old.exists(), of_another.exists()) == (False, True)


def test_images_for_clusters_go_unless_a_recorded_unit_runs_one(run, lab, home, tmp_path):
    record = lab.experiment()
    shop = Workshop(home.path)
    old, used = (share(image(tmp_path, [10], seed), 'app', shop)['image'] for seed in (1, 2))
    task = lab.task('train', executable={'kind': 'image', 'image': used})
    lab.add(record.id, 'completed', tasks=[task])
    for one in (old, used):
        grow_old(shop.images / one.removeprefix('sha256:') / 'environment', 40)
    assert run('gc').out.splitlines()[0] == f'removed image {old}'
    assert not (shop.images / old.removeprefix('sha256:')).exists()
    assert (shop.images / used.removeprefix('sha256:')).exists()


def test_a_dry_run_says_the_same_and_removes_nothing(run, lab, cache):
    lab.experiment()
    folder = environment(cache, 'old', 40)
    layer(cache, 'key', 40)
    lines = run('gc', '--dry-run').lines
    assert lines[0] == 'would remove environment old'
    assert lines[1].startswith('would remove layer ')
    assert lines[2].startswith(
        'would remove 0 containers, 0 networks, 0 images, 1 environment, 1 layer '
    )
    assert folder.exists()
    assert (
        run('gc')
        .lines[-1]
        .startswith('removed 0 containers, 0 networks, 0 images, 1 environment, 1 ')
    )
    assert not folder.exists()
    assert not list((cache / 'layers').iterdir())


def test_what_a_killed_packaging_left_goes_after_a_day(run, lab, cache):
    lab.experiment()
    half = cache / '.packages-x'
    half.mkdir(parents=True)
    run('gc', '--older-than', '1h')
    assert half.exists()
    grow_old(half, 2)
    assert run('gc', '--older-than', '1h').lines[0] == 'removed unfinished folder .packages-x'
    assert not half.exists()


def test_what_may_be_in_use_is_not_asked_for(run, lab):
    lab.experiment()
    code, _, err = run('gc', '--older-than', '5m')
    assert code == 2
    assert '--older-than takes at least 1h' in err
