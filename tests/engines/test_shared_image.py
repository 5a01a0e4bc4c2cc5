"""Images of real engines for a cluster: exported once, they keep their ids, and share what they have in common."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.engines.containers import make_base_image

from xmanager import xm, xm_local
from xmanager.containers import Engine
from xmanager.packaging.container import package_container
from xmanager.packaging.dockerfile import package_dockerfile
from xmanager.packaging.python_container import package_python_container
from xmanager.packaging.workshop import Workshop

SPEC = xm_local.Slurm.Spec()


@pytest.fixture(params=['docker', 'podman'])
def engine(request: pytest.FixtureRequest) -> Engine:
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


@pytest.fixture
def workshop(engine: Engine, tmp_path: Path) -> Workshop:
    return Workshop(tmp_path / 'home', {**os.environ, 'DOCKER_HOST': engine.url})


def test_an_image_of_an_engine_is_exported_once_and_keeps_its_id(
    engine: Engine, workshop: Workshop
) -> None:
    base = make_base_image(engine)
    facts = package_container(xm.container(SPEC, base), workshop).facts
    assert facts['image'] == base
    assert Path(facts['layout'], 'index.json').exists()
    # No engine is asked for what is there.
    elsewhere = Workshop(workshop.home, {**os.environ, 'DOCKER_HOST': 'unix:///nowhere/socket'})
    assert package_container(xm.container(SPEC, base), elsewhere).facts == facts


def test_what_a_dockerfile_makes_shares_the_layers_of_its_base(
    engine: Engine, workshop: Workshop, tmp_path: Path
) -> None:
    base = make_base_image(engine)
    found = engine.inspect_image(base)
    assert found is not None
    package_container(xm.container(SPEC, base), workshop)
    blobs = workshop.images / 'blobs' / 'sha256'
    before = {path.name for path in blobs.iterdir()}
    context = tmp_path / 'context'
    context.mkdir()
    text = f'FROM {found["RepoTags"][0]}\nRUN echo {tmp_path} > /made\nCMD ["cat", "/made"]\n'
    (context / 'Dockerfile').write_text(text)
    packageable = xm.dockerfile_container(SPEC, str(context))
    facts = package_dockerfile(packageable, workshop).facts
    assert facts['command'] == ['cat', '/made']
    layers = Path(facts['layout'], 'layers').read_text().split()
    assert Path(layers[0]).name in before
    assert len(layers) == len(found['RootFS']['Layers']) + 1
    engine.request('DELETE', f'/images/{facts["image"]}', query={'force': '1'})


def test_code_becomes_the_image_that_the_engine_would_have(
    engine: Engine, workshop: Workshop, tmp_path: Path
) -> None:
    (tmp_path / 'App').mkdir()
    (tmp_path / 'App' / 'main.py').write_text(f'print("main")  # {tmp_path}\n')
    images = []
    for spec in (SPEC, xm_local.Local.Spec()):
        packageable = xm.python_container(
            spec, xm.ModuleName('main'), str(tmp_path / 'App'), base_image=make_base_image(engine)
        )
        facts = package_python_container(packageable, workshop).facts
        images.append(facts['image'])
    assert images[0] == images[1]
    layout = workshop.images / images[0].removeprefix('sha256:')
    assert layout.is_dir()
    engine.request('DELETE', f'/images/{images[0]}', query={'force': '1'})
