"""Images that real engines build: Docker with BuildKit, by its classic builder and over the socket, and Podman."""

import io
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from tests.acceptance.polling import until

from xmanager import xm, xm_local
from xmanager.containers import Engine
from xmanager.errors import PackagingError
from xmanager.packaging.building import chosen_builder
from xmanager.packaging.dockerfile import package_dockerfile
from xmanager.packaging.plan import Plan
from xmanager.packaging.workshop import Workshop

SPEC = xm_local.Local.Spec()

# Each way to build: the engine, what the user has set, and the builder that is to be chosen for it.
WAYS = {
    'buildkit': ('docker', {}, 'buildkit'),
    'classic': ('docker', {'DOCKER_BUILDKIT': '0'}, 'classic'),
    'docker-socket': ('docker', {'XM_USE_DOCKER_COMMAND': 'False'}, None),
    'podman': ('podman', {}, None),
}


@attrs.frozen
class Site:
    """An engine and one way to build for it. `base` is the name of an image with a shell in it."""

    engine: Engine
    base: str
    workshop: Workshop
    builder: str | None
    made: set[str] = attrs.field(factory=set)

    def package(self, folder: Path, dockerfile: str | None = None) -> str:
        asked = xm.dockerfile_container(SPEC, str(folder), dockerfile)
        image = str(package_dockerfile(asked, self.workshop).facts['image'])
        self.made.add(image)
        return image

    def clean(self) -> None:
        for image in self.made:
            self.engine.request('DELETE', f'/images/{image}', query={'force': '1'})

    def files_of(self, image: str) -> dict[str, str]:
        """What is in the folder /kept of an image: names and contents."""
        made = self.engine.request(
            'POST', '/containers/create', body={'Image': image, 'Cmd': ['x']}
        )
        found = made.json()
        assert isinstance(found, dict)
        path = f'/containers/{found["Id"]}'
        try:
            data = self.engine.request('GET', f'{path}/export').read()
        finally:
            self.engine.request('DELETE', path, query={'force': '1'})
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            return {
                member.name.removeprefix('kept/'): content.read().decode()
                for member in tar
                if member.name.startswith('kept/') and (content := tar.extractfile(member))
            }


@pytest.fixture(params=WAYS)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    kind, setting, builder = WAYS[request.param]
    engine = request.getfixturevalue(kind)
    base = request.getfixturevalue('base_image' if kind == 'docker' else 'podman_image')
    name = f'localhost/xm-f-base:{os.getpid()}'
    engine.tag(base, name)
    environ = {**os.environ, **setting, 'DOCKER_HOST': engine.url}
    site = Site(engine, name, Workshop(tmp_path / 'home', environ), builder)
    yield site
    site.clean()
    engine.request('DELETE', f'/images/{name}')


@pytest.fixture
def folder(tmp_path: Path, site: Site) -> Path:
    folder = tmp_path / 'my project'
    (folder / 'sub').mkdir(parents=True)
    for name in ('keep.txt', 'drop.txt', 'sub/keep.txt', 'sub/drop.txt'):
        (folder / name).write_text('')
    write(folder, f'FROM {site.base}\nCOPY . /kept\nRUN echo "$((40 + 2))" > /kept/said\n')
    (folder / '.dockerignore').write_text('# no\n**/drop.txt\nDockerfile\n.dockerignore\n')
    return folder


def write(folder: Path, text: str, name: str = 'Dockerfile') -> Path:
    """Workers share an engine: with the label, what one removes is never the image of another."""
    (folder / name).write_text(f'{text}LABEL place="{folder} {os.getpid()}"\n')
    return folder / name


def test_the_image_holds_what_the_dockerfile_says(site, folder):
    builder = chosen_builder(folder / 'Dockerfile', site.engine, site.workshop)
    assert (builder.kind if builder else None) == site.builder
    image = site.package(folder)
    assert site.files_of(image) == {'keep.txt': '', 'sub/keep.txt': '', 'said': '42\n'}
    name = f'xmanager/my_project:{image.removeprefix("sha256:")[:12]}'
    found = site.engine.inspect_image(name)
    assert found is not None
    assert found['Id'].removeprefix('sha256:') == image.removeprefix('sha256:')


def test_a_dockerfile_elsewhere_and_its_own_ignore_file(site, folder, tmp_path):
    dockerfile = write(tmp_path, (folder / 'Dockerfile').read_text(), 'gpu.Dockerfile')
    assert 'drop.txt' not in site.files_of(site.package(folder, str(dockerfile)))
    dockerfile.with_name('gpu.Dockerfile.dockerignore').write_text('*\n!drop.txt\n')
    assert set(site.files_of(site.package(folder, str(dockerfile)))) == {'drop.txt', 'said'}


def test_folders_of_the_same_name_never_mix(site, folder, tmp_path):
    other = tmp_path / 'elsewhere' / 'my project'
    other.mkdir(parents=True)
    write(other, f'FROM {site.base}\nCOPY . /kept\nRUN echo other > /kept/said\n')
    images = {site.package(folder), site.package(other)}
    assert len(images) == 2
    assert {site.files_of(image)['said'] for image in images} == {'42\n', 'other\n'}


def test_a_step_that_fails_is_shown_with_its_last_lines(site, folder):
    lines = 'for i in 1 2 3; do echo line $i; done; echo oops >&2; exit 3'
    write(folder, f'FROM {site.base}\nRUN {lines}\n')
    with pytest.raises(PackagingError) as caught:
        site.package(folder)
    said, *printed = str(caught.value).splitlines()
    assert said.startswith(f'my_project: {folder}/Dockerfile could not be built: step ')
    assert f'{lines!r}' in said or lines in said
    assert '3' in said[-3:]
    assert {'    line 1', '    line 3', '    oops'} <= set(printed)


@pytest.mark.parametrize('line', ['RUNN true', 'COPY nothing /there'])
def test_a_dockerfile_that_makes_no_sense_is_a_sentence(site, folder, line):
    write(folder, f'FROM {site.base}\n{line}\n')
    with pytest.raises(PackagingError, match=r'RUNN|nothing'):
        site.package(folder)


def test_steps_are_told_and_the_output_shown_if_asked_for(site, folder, capfd):
    told: list[str] = []
    workshop = attrs.evolve(
        site.workshop,
        tell=lambda name, step: told.append(step),
        environ={**site.workshop.environ, 'XM_SHOW_DOCKER_COMMAND_PROGRESS': 'True'},
    )
    write(folder, f'FROM {site.base}\nRUN echo hello {site.builder}\n')
    attrs.evolve(site, workshop=workshop).package(folder)
    assert any(step.startswith('building (step ') and 'RUN echo' in step for step in told)
    assert f'hello {site.builder}' in capfd.readouterr().err


def test_a_dry_run_builds_nothing(site, folder):
    workshop = attrs.evolve(site.workshop, dry_run=True)
    packaged = package_dockerfile(xm.dockerfile_container(SPEC, str(folder)), workshop)
    plan = Plan.of(packaged.facts)
    assert plan.image is not None
    assert (plan.image.action, plan.image.engine) == ('build', site.engine.url)
    assert bool(plan.commands) == (site.builder is not None)
    assert 'image' not in packaged.facts


@pytest.mark.parametrize(
    ('path', 'dockerfile', 'said'),
    [
        ('nope', None, 'it does not exist'),
        ('file', None, 'it is no folder'),
        ('.', None, r'there is no .*/Dockerfile'),
        ('.', 'folder', 'is not a regular file'),
    ],
)
def test_bad_paths_are_named(tmp_path, path, dockerfile, said):
    (tmp_path / 'file').touch()
    (tmp_path / 'folder').mkdir()
    given = dockerfile and str(tmp_path / dockerfile)
    asked = xm.dockerfile_container(SPEC, str(tmp_path / path), given)
    with pytest.raises(PackagingError, match=said):
        package_dockerfile(asked, Workshop(tmp_path / 'home', dict(os.environ)))


def test_ctrl_c_ends_the_build(docker, base_image, tmp_path):
    name = f'localhost/xm-f-interrupted:{os.getpid()}'
    docker.tag(base_image, name)
    write(tmp_path, f'FROM {name}\nRUN echo begun; sleep 600\n')
    script = (
        'import os\n'
        'from pathlib import Path\n'
        'from xmanager.containers import find_engine\n'
        'from xmanager.packaging.building import build\n'
        'from xmanager.packaging.workshop import Workshop\n'
        'workshop = Workshop(Path("home"), dict(os.environ), lambda name, step: print(step, flush=True))\n'
        'build(Path(), Path("Dockerfile"), "waits", find_engine(os.environ), workshop)\n'
    )
    with subprocess.Popen(
        [sys.executable, '-c', script],
        cwd=tmp_path,
        env={**os.environ, 'DOCKER_HOST': docker.url},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as launcher:
        assert launcher.stdout is not None
        while 'RUN echo' not in launcher.stdout.readline():
            pass
        clients = until(lambda: children_of(launcher.pid))
        launcher.send_signal(signal.SIGINT)
        launcher.wait(60)
    docker.request('DELETE', f'/images/{name}')
    for client in clients:
        with pytest.raises(ProcessLookupError):
            os.kill(client, 0)


def children_of(pid: int) -> list[int]:
    return [int(text) for text in Path(f'/proc/{pid}/task/{pid}/children').read_text().split()]
