"""Images on a real Slurm cluster, packaged without an engine: by Podman, by Singularity where it is installed, and by
enroot, which is a fake that unpacks and enters the real squashfs.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
from tests.engines.containers import root_folder
from tests.engines.registry import RealRegistry
from tests.engines.servers import require
from tests.engines.slurm import Cluster
from tests.fakes import containers as fakes

from xmanager import xm, xm_local
from xmanager.backend import Submitted, Task, TaskObservation, Unit
from xmanager.backends.slurm.backend import create
from xmanager.backends.slurm.executor import Slurm
from xmanager.backends.slurm.node import containers
from xmanager.images.layer_cache import LayerCache
from xmanager.images.reference import Reference
from xmanager.images.values import Image, canonical_json
from xmanager.packaging.pushing import push
from xmanager.packaging.python_container import package_python_container
from xmanager.packaging.shared_image import share
from xmanager.packaging.workshop import Workshop

_SECONDS = 90.0
_numbers = itertools.count(1)
_made: set[str] = set()  # Layouts of which their engine has made what it needs.

ODD = ['a b', '', '$HOME `id` $(id)', '"\'\\', 'two\nlines\n', 'ü€', '* ?', '--', '-x', 'a,b:c=d']
PROGRAM = """
import json, os, sys
print(json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]))
open(os.environ['XM_OUTPUT_DIR'] + '/made', 'w').write('by the program')
sys.exit(3)
"""
# Deaf to TERM; with a mark by which its processes are found.
DEAF = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: print('term', flush=True))
signal.signal(signal.SIGUSR1, lambda *_: print('warned', flush=True))
print('begun', flush=True)
while sys.argv[1:] != ['end']:
    time.sleep(0.1)
"""


@pytest.fixture(scope='session')
def base(registry: RealRegistry, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of an image with `sh` and Python, which no engine has seen."""
    data = root_folder()
    cache = LayerCache(tmp_path_factory.mktemp('layers'))
    layer = cache.make(hashlib.sha256(data).hexdigest(), '', lambda: [data], compressed=True)
    settings = {'Env': ['PATH=/usr/local/bin:/usr/bin:/bin', 'PYTHON_VERSION=3.11.2', 'V0=image']}
    config = {
        'architecture': 'amd64',
        'os': 'linux',
        'config': settings,
        'rootfs': {'type': 'layers', 'diff_ids': [layer.diff_id]},
    }
    target = Reference.parse(f'{registry.host}/xm-slurm/base:{os.getpid()}')
    return push(Image(canonical_json(config), (layer,)), target, registry.environ, lambda _: None)


@attrs.frozen
class Engine:
    """One of the engines, and the settings by which jobs of the tests use it."""

    name: str
    environ: Mapping[str, str]
    left: Callable[[], list[str]]
    """Containers that are still there."""


@pytest.fixture(scope='module', params=['podman', 'singularity', 'enroot'])
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp('engine')
    (folder / 'scratch').mkdir()
    with _ENGINES[request.param](folder / 'own') as found:
        environ = {'XM_SLURM_CONTAINERS': found.name, 'TMPDIR': str(folder / 'scratch')}
        yield attrs.evolve(found, environ={**environ, **found.environ})


@pytest.fixture(scope='module')
def home(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for each engine, so that images are converted once."""
    return tmp_path_factory.mktemp('place') / 'home'


@contextlib.contextmanager
def _podman(folder: Path) -> Iterator[Engine]:
    missing = [name for name in ('podman', 'runc') if not shutil.which(name)]
    require('podman', ', '.join(missing) or ('' if os.geteuid() == 0 else 'root'))
    folder.mkdir()
    (folder / 'containers.conf').write_text(
        '[containers]\ndefault_ulimits = ["nofile=1024:4096", "nproc=4096:4096"]\n'
        '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
    )
    (folder / 'storage.conf').write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/data"\nrunroot = "{folder}/run"\n'
    )
    environ = {
        'CONTAINERS_CONF': str(folder / 'containers.conf'),
        'CONTAINERS_STORAGE_CONF': str(folder / 'storage.conf'),
    }

    def podman(*words: str) -> list[str]:
        done = subprocess.run(
            ['podman', *words], env={**os.environ, **environ}, capture_output=True, check=False
        )
        return done.stdout.decode().split()

    yield Engine('podman', environ, lambda: podman('ps', '--all', '--quiet'))
    podman('rm', '--all', '--force')
    podman('unshare', 'true')
    for mounted in ('data/overlay', 'data'):
        subprocess.run(['umount', f'{folder}/{mounted}'], capture_output=True, check=False)


@contextlib.contextmanager
def _singularity(folder: Path) -> Iterator[Engine]:
    found = shutil.which('apptainer') or shutil.which('singularity')
    require('apptainer', '' if found else 'Apptainer or Singularity')
    assert found
    # Root without all that root may is refused otherwise.
    environ = {'XM_SLURM_CONTAINER_OPTIONS': '--no-privs'} if os.geteuid() == 0 else {}
    yield Engine(Path(found).name, environ, list)


@contextlib.contextmanager
def _enroot(folder: Path) -> Iterator[Engine]:
    missing = [name for name in ('mksquashfs', 'unsquashfs', 'unshare') if not shutil.which(name)]
    require('squashfs', ', '.join(missing) or ('' if os.geteuid() == 0 else 'root'))
    programs = fakes.install(folder, 'enroot')
    environ = {'PATH': f'{programs}:{os.environ["PATH"]}'}
    there = folder / 'state' / 'enroot'
    yield Engine('enroot', environ, lambda: os.listdir(there) if there.exists() else [])


_ENGINES = {'podman': _podman, 'singularity': _singularity, 'enroot': _enroot}


class Scene:
    """Units of an image of code, which is packaged with no engine in reach, on a cluster."""

    def __init__(self, slurm: Cluster, engine: Engine, base: str, home: Path) -> None:
        self.slurm = slurm
        self.engine = engine
        self.base = base
        self.home = home
        self.environ = {**slurm.environ, **engine.environ, 'XM_HOME': str(home)}
        self.backend = create(self.environ)

    def package(self, program: str) -> dict[str, Any]:
        """The facts of an image with this program."""
        folder = self.home.parent / 'App'
        folder.mkdir(exist_ok=True)
        (folder / 'main.py').write_text(program)
        packageable = xm.python_container(
            xm_local.Slurm.Spec(), xm.ModuleName('main'), str(folder), base_image=self.base
        )
        environ = {**os.environ, 'DOCKER_HOST': 'unix:///nowhere/docker.sock'}
        return dict(package_python_container(packageable, Workshop(self.home, environ)).facts)

    def unit(self, facts: Mapping[str, Any], *argv: str, env: Any = (), **settings: Any) -> Unit:
        number = next(_numbers)
        requirements = settings.pop('requirements', {})
        options = Slurm(**{'max_restarts': 0, **settings}).options()
        folder = self.home / 'experiments' / '7' / str(number)
        task = Task(
            'train', f'7_{number}_train', argv, '', env=dict(env), executable=facts,
            options=options, requirements=requirements,
        )  # fmt: skip
        return Unit(7, str(number), 1, f'containers.7.{number}.1', folder, (task,))

    def submit(self, *units: Unit) -> dict[str, Unit]:
        answers = self.backend.submit([self.backend.render(unit, {}) for unit in units])
        assert all(isinstance(answer, Submitted) for answer in answers), answers
        taken = [answer.ref for answer in answers if isinstance(answer, Submitted)]
        return dict(zip(taken, units, strict=True))

    def ended(self, refs: Mapping[str, Unit]) -> list[TaskObservation]:
        def is_over() -> list[TaskObservation] | None:
            seen = [one['train'] for one in self.backend.observe(refs).values()]
            over = all(task.state in ('exited', 'vanished') for task in seen)
            return seen if over and len(seen) == len(refs) else None

        return list(wait_for(is_over, 'the end'))

    def log(self, unit: Unit) -> str:
        path = unit.folder / 'train' / 'output.log'
        return path.read_text() if path.exists() else ''

    def begin(self, **settings: Any) -> dict[str, Unit]:
        """A unit that never ends by itself, once it runs."""
        facts = self.package(DEAF)
        if facts['layout'] not in _made:
            # What its engine makes of the image first takes a while, which is none of the program's.
            self.ended(self.submit(self.unit(facts, 'end')))
            _made.add(facts['layout'])
        refs = self.submit(self.unit(facts, **settings))
        (unit,) = refs.values()
        wait_for(lambda: 'begun' in self.log(unit) or self._has_failed(refs), 'the program to run')
        return refs

    def _has_failed(self, refs: Mapping[str, Unit]) -> bool:
        for ref, seen in self.backend.observe(refs).items():
            assert seen['train'].state in ('waiting', 'running'), (seen, self.log(refs[ref]))
        return False

    def is_gone(self) -> bool:
        """No process runs the program, and no container is left."""
        mark = str(self.home).encode()
        for entry in Path('/proc').glob('[0-9]*'):
            with contextlib.suppress(OSError):
                words = (entry / 'cmdline').read_bytes().split(b'\0')
                if b'main' in words and mark in (entry / 'environ').read_bytes():
                    return False
        return not self.engine.left()


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + _SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, f'waited in vain for {what}'
        time.sleep(0.05)
    return found


@pytest.fixture
def scene(slurm: Cluster, engine: Engine, base: str, home: Path) -> Iterator[Scene]:
    made = Scene(slurm, engine, base, home)
    yield made
    made.backend.close()
    scratch = Path(engine.environ['TMPDIR'])
    wait_for(lambda: not list(scratch.iterdir()), 'the removal of scratch folders')


def test_code_that_was_packaged_without_an_engine_runs_and_its_end_and_its_files_are_told(
    scene: Scene,
) -> None:
    env = {f'V{number}': value for number, value in enumerate(ODD)}
    refs = scene.submit(scene.unit(scene.package(PROGRAM), *ODD, env=env))
    (unit,) = refs.values()
    (seen,) = scene.ended(refs)
    assert (seen.state, seen.exit_code) == ('exited', 3), (seen, scene.log(unit))
    *_, line = scene.log(unit).splitlines()
    argv, environment, folder = json.loads(line)
    assert argv == ODD
    assert {name: environment.get(name) for name in env} == env
    assert folder == '/App'
    assert environment['XM_ATTEMPT'] == '1'
    assert environment['XM_WORK_UNIT_ID'] == unit.label
    assert environment['SLURM_JOB_ID']
    assert environment['PYTHON_VERSION'] == '3.11.2'
    made = unit.folder / 'train' / 'out' / 'made'
    assert made.read_text() == 'by the program'
    assert made.stat().st_uid == os.geteuid()
    wait_for(scene.is_gone, 'the end of all that it began')


def test_an_array_on_several_nodes_makes_what_its_engine_needs_only_once(scene: Scene) -> None:
    facts = scene.package(f'{PROGRAM}  # of nobody else\n')
    units = [scene.unit(facts, str(number), requirements={'cpu': 4}) for number in range(6)]
    refs = scene.submit(*units)
    ends = scene.ended(refs)
    assert [task.exit_code for task in ends] == [3] * 6, [scene.log(one) for one in refs.values()]
    assert len({task.where for task in ends}) > 1
    layout = Path(facts['layout'])
    made = {path.suffix for path in layout.parent.glob(f'{layout.name}.*')} - {'.lock'}
    assert made == {'podman': set(), 'enroot': {'.sqsh'}}.get(scene.engine.name, {'.sif'})


def test_two_versions_of_the_code_share_their_base(scene: Scene) -> None:
    first, second = (scene.package(f'print({number})') for number in (1, 2))
    blobs = Path(first['layout']).parent / 'blobs' / 'sha256'
    sizes = sorted(path.stat().st_size for path in blobs.iterdir())
    assert sum(sizes[:-1]) < sizes[-1] / 10
    assert first['image'] != second['image']


def test_a_stop_ends_the_container(scene: Scene) -> None:
    refs = scene.begin()
    (unit,) = refs.values()
    assert not scene.is_gone()
    scene.backend.stop(refs, 1.0)
    scene.ended(refs)
    assert 'term' in scene.log(unit)
    wait_for(scene.is_gone, 'the end of the container')


def test_a_container_that_takes_too_long_is_warned_and_ended(scene: Scene) -> None:
    refs = scene.begin(timeout=8.0, warn_before=3.0, grace=1.0)
    (unit,) = refs.values()
    (seen,) = scene.ended(refs)
    assert seen.cause == 'timeout'
    assert [line for line in scene.log(unit).splitlines() if line == 'warned']
    assert 'term' in scene.log(unit)
    wait_for(scene.is_gone, 'the end of the container')


def test_a_container_that_somebody_cancels_is_ended(scene: Scene) -> None:
    refs = scene.begin()
    scene.slurm.command('scancel', next(iter(refs)).partition('@')[0])
    scene.ended(refs)
    wait_for(scene.is_gone, 'the end of the container')


def test_a_squashfs_holds_what_the_layers_leave_and_no_link_leads_its_making_astray(
    tmp_path: Path,
) -> None:
    missing = [name for name in ('mksquashfs', 'unsquashfs') if not shutil.which(name)]
    require('squashfs', ', '.join(missing))
    outside = tmp_path / 'outside'
    outside.mkdir()
    (outside / 'precious').touch()
    layers: list[dict[str, Any]] = [
        {'a/one': 'x', 'a/two': 'x', 'b/one': 'x', 'b/deep/two': 'x', 'c': 'x', 'd/one': 'x'}
        | {'link': outside, 'etc/kept': 'x'},
        {'a/.wh.one': '', 'b/.wh..wh..opq': '', 'b/new': 'y', 'c/now': 'folder', '.wh.d': ''}
        | {'link/.wh.precious': '', 'link/mine': 'y'},
        {'d': 'a file', 'a/two': 'z'},
    ]
    facts = share(_picture(tmp_path, layers), 'app', Workshop(tmp_path / 'home'))
    path = f'{fakes.install(tmp_path / "engine", "enroot")}:{os.environ["PATH"]}'
    out = tmp_path / 'train' / 'out'
    out.mkdir(parents=True)
    script = tmp_path / 'container.sh'
    script.write_bytes(containers.SCRIPT)
    one = Task('train', '', ('/none',), '', executable=facts)
    words = containers.words(
        one, name='1', folder=str(out.parent), layout=facts['layout'], names=[],
        settings={'XM_SLURM_CONTAINERS': 'enroot'},
    )  # fmt: skip
    subprocess.run(
        ['/bin/sh', script, *words], env={'PATH': path}, capture_output=True, check=False
    )
    root = tmp_path / 'root'
    unpack = ['unsquashfs', '-d', str(root), f'{facts["layout"]}.sqsh']
    subprocess.run(unpack, stdout=subprocess.DEVNULL, check=True)
    found = {str(p.relative_to(root)): p.read_text() for p in root.rglob('*') if p.is_file()}
    for ours in ('etc/rc', 'etc/fstab', 'etc/environment', 'etc/xmanager'):
        del found[ours]
    assert found == {
        'a/two': 'z', 'b/new': 'y', 'c/now': 'folder', 'd': 'a file', 'link/mine': 'y', 'etc/kept': 'x',
    }  # fmt: skip
    assert os.listdir(outside) == ['precious']


def _once(data: bytes) -> Callable[[], list[bytes]]:
    return lambda: [data]


def _picture(folder: Path, layers: list[dict[str, Any]]) -> Image:
    """An image of layers of these files and links."""
    made = []
    for number, files in enumerate(layers):
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode='w') as tar:
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                if isinstance(content, Path):
                    info.type, info.linkname = tarfile.SYMTYPE, str(content)
                info.size = len(content) if isinstance(content, str) else 0
                tar.addfile(info, io.BytesIO(content.encode() if info.size else b''))
        cache = LayerCache(folder / 'layers')
        made.append(cache.make(str(number), '', _once(data.getvalue()), compressed=True))
    config = {
        'architecture': 'amd64',
        'os': 'linux',
        'config': {'Env': ['A=b c']},
        'rootfs': {'type': 'layers', 'diff_ids': [layer.diff_id for layer in made]},
    }
    return Image(canonical_json(config), tuple(made))
