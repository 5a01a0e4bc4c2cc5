"""Pushes to a real docker-registry, and through a proxy that cuts connections where it likes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from tests.engines.cutting_proxy import CuttingProxy
from tests.engines.registry import RealRegistry, running
from tests.unit.images.registry_desk import Clock
from tests.unit.packaging.pictures import as_base, image

from xmanager.errors import PackagingError
from xmanager.images.reference import Reference
from xmanager.images.registry import Registry
from xmanager.images.values import DOCKER_MANIFEST, OCI_MANIFEST, Image
from xmanager.packaging.pushing import push


def quiet(step: str) -> None:
    pass


def assert_whole(picture: Image, name: str, environ: dict[str, str]) -> None:
    """Every blob that the registry gives for a name is what was pushed."""
    with Registry(Reference.parse(name), environ, patience=Clock().patience) as reader:
        manifest = reader.get_manifest()
        assert manifest.data == picture.manifest()
        assert reader.get_config(manifest) == picture.config
        for descriptor in manifest.layers:
            assert sum(map(len, reader.get_blob(descriptor))) == descriptor.size


@pytest.mark.parametrize('kind', [OCI_MANIFEST, DOCKER_MANIFEST])
def test_a_pushed_image_can_be_read_again(
    kind: str, registry: RealRegistry, tmp_path: Path
) -> None:
    picture = image(tmp_path, [10, 300_000], manifest_type=kind)
    target = Reference.parse(f'{registry.host}/pushed/{kind.rpartition("/")[2].split(".")[1]}:v1')
    name = push(picture, target, registry.environ, quiet)
    assert_whole(picture, name, registry.environ)
    assert_whole(picture, str(target), registry.environ)


def test_base_layers_are_mounted(registry: RealRegistry, tmp_path: Path) -> None:
    base = image(tmp_path, [200_000], 1)
    where = Reference.parse(f'{registry.host}/mounted/base:1')
    push(base, where, registry.environ, quiet)
    picture = image(tmp_path, [10], 2, as_base(base, where))
    said: list[str] = []
    target = Reference.parse(f'{registry.host}/mounted/app:1')
    assert_whole(picture, push(picture, target, registry.environ, said.append), registry.environ)


def test_a_password_is_taken_from_the_configuration_of_docker(
    password_registry: RealRegistry, tmp_path: Path
) -> None:
    target = Reference.parse(f'{password_registry.host}/team/app:v1')
    picture = image(tmp_path, [1000])
    with pytest.raises(PackagingError, match=r'wants a login.*docker login'):
        push(picture, target, {'HOME': str(tmp_path)}, quiet)
    name = push(picture, target, password_registry.environ, quiet)
    assert_whole(picture, name, password_registry.environ)


def test_tokens_are_fetched_for_what_is_done(token_registry: RealRegistry, tmp_path: Path) -> None:
    base = image(tmp_path, [200_000], 3)
    where = Reference.parse(f'{token_registry.host}/tokens/base:1')
    push(base, where, token_registry.environ, quiet)
    assert token_registry.tokens is not None
    token_registry.tokens.asked.clear()
    picture = image(tmp_path, [1000], 4, as_base(base, where))
    target = Reference.parse(f'{token_registry.host}/tokens/app:1')
    name = push(picture, target, token_registry.environ, quiet)
    assert ('repository:tokens/app:pull,push', 'repository:tokens/base:pull') in [
        scopes[:2] for scopes in token_registry.tokens.asked
    ]
    assert len(token_registry.tokens.asked) == 2
    assert_whole(picture, name, {'HOME': str(tmp_path)})


def test_who_may_only_read_is_told_to_log_in(token_registry: RealRegistry, tmp_path: Path) -> None:
    target = Reference.parse(f'{token_registry.host}/tokens/mine:1')
    with pytest.raises(PackagingError, match=r'wants a login.*docker login'):
        push(image(tmp_path, [10], 5), target, {'HOME': str(tmp_path)}, quiet)


def test_a_registry_of_this_machine_may_speak_tls(tmp_path: Path) -> None:
    picture = image(tmp_path, [1000, 2000, 3000], 6)
    with running('tls') as secure:
        name = push(picture, Reference.parse(f'{secure.host}/team/app:1'), secure.environ, quiet)
        assert_whole(picture, name, secure.environ)
        with pytest.raises(PackagingError, match='is not trusted'):
            assert_whole(picture, name, {'HOME': str(tmp_path)})


def test_a_tag_that_is_not_there_is_told(registry: RealRegistry) -> None:
    told = pytest.raises(PackagingError, match=r'no/such:tag.*knows no such name')
    reference = Reference.parse(f'{registry.host}/no/such:tag')
    with Registry(reference, registry.environ) as reader, told:
        reader.get_manifest()


@pytest.mark.parametrize('seed', range(8))
def test_a_push_comes_through_however_often_it_is_cut(
    seed: int, registry: RealRegistry, tmp_path: Path
) -> None:
    chance = random.Random(seed)
    picture = image(tmp_path, [chance.randrange(2_000_000) for _ in range(3)], 100 + seed)
    with CuttingProxy(registry.port, seed) as proxy:
        target = Reference.parse(f'{proxy.host}/cut/seed{seed}:v1')
        name = push_at_last(picture, target, registry.environ)
    assert_whole(picture, name.replace(proxy.host, registry.host), registry.environ)


def push_at_last(picture: Image, target: Reference, environ: dict[str, str]) -> str:
    """Repeats the push as a user would who is told to try again."""
    said: list[str] = []
    for _ in range(20):
        try:
            return push(picture, target, environ, quiet)
        except PackagingError as error:
            said.append(str(error))
    assert all('Try again' in one for one in said)
    raise AssertionError('it never came through')


@pytest.mark.parametrize('seed', range(8))
def test_what_is_read_over_a_line_that_is_cut_is_right(
    seed: int, registry: RealRegistry, tmp_path: Path
) -> None:
    picture = image(tmp_path, [1_000_000, 2_000_000], 200)
    target = Reference.parse(f'{registry.host}/read/cut:v1')
    push(picture, target, registry.environ, quiet)
    with CuttingProxy(registry.port, seed, survive=0.7) as proxy:
        assert_whole(picture, f'{proxy.host}/read/cut:v1', registry.environ)
