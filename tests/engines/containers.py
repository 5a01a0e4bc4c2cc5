"""Real container engines, and a base image with Python made from this machine's own files: no registry is reached."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.engines.servers import require

from xmanager.containers import Engine, EngineError, find_engine
from xmanager.containers.wire import WireError

PREFIX = 'xm-test'
_SECONDS = 60.0
_PACKAGES = ('python3.11-minimal', 'libpython3.11-minimal', 'libpython3.11-stdlib')
_APPLETS = (
    'sh',
    'ls',
    'cat',
    'env',
    'sleep',
    'echo',
    'true',
    'false',
    'mkdir',
    'cp',
    'id',
    'kill',
    'ps',
    'printf',
    'head',
    'dd',
    'wget',
    'stty',
)
_SHARED = Path(tempfile.gettempdir(), f'{PREFIX}-engines-{os.geteuid()}')
_USUAL = 'unix:///var/run/docker.sock'


@pytest.fixture(scope='session')
def docker() -> Iterator[Engine]:
    """The Docker engine of this machine, or one that is started for all workers of this run."""
    if _answers(_USUAL):
        yield find_engine({'DOCKER_HOST': _USUAL})
        return
    missing = [name for name in ('dockerd', 'containerd', 'runc') if not _program(name)]
    lacking = ', '.join(missing) or ('' if os.geteuid() == 0 else 'root, to start dockerd')
    require('docker', lacking and f'a Docker engine ({lacking})')
    with _shared_daemon() as url:
        yield find_engine({'DOCKER_HOST': url})


@pytest.fixture(scope='session')
def podman() -> Iterator[Engine]:
    """A Podman engine of this worker's own."""
    missing = [name for name in ('podman', 'runc') if not _program(name)]
    lacking = ', '.join(missing) or ('' if os.geteuid() == 0 else 'root')
    require('podman', lacking and f'Podman ({lacking})')
    with _podman() as engine:
        yield engine


@pytest.fixture(scope='session')
def base_image(docker: Engine) -> str:
    """The id of an image with `sh` and Python 3.11 in the Docker engine."""
    return make_base_image(docker)


@pytest.fixture(scope='session')
def podman_image(podman: Engine) -> str:
    """As `base_image`, in the Podman engine."""
    return make_base_image(podman)


def make_base_image(engine: Engine) -> str:
    """The id of the base image, which is made once for each engine and content."""
    files = _python_files()
    for one in ('/bin/busybox', '/usr/bin/python3.11'):
        if not Path(one).exists():
            require(engine.kind, f'{one} (apt-get install busybox-static python3.11-minimal)')
    digest = hashlib.sha256(repr([(f, os.stat(f).st_mtime_ns) for f in files]).encode())
    name = f'localhost/{PREFIX}/base:{digest.hexdigest()[:12]}'
    with _locked('image'):
        if engine.inspect_image(name) is None:
            query = {'fromSrc': '-', 'changes': 'ENV PATH=/usr/local/bin:/usr/bin:/bin'}
            headers = {'Content-Type': 'application/x-tar'}
            body = iter([_root_folder(files)])
            answer = engine.request(
                'POST', '/images/create', body=body, query=query, headers=headers
            )
            *_, last = answer.read().splitlines()
            engine.tag(json.loads(last)['status'], name)  # Podman takes no tag before.
        found = engine.inspect_image(name)
    assert found is not None
    image_id = str(found['Id'])
    return image_id if image_id.startswith('sha256:') else f'sha256:{image_id}'


def remove_all(engine: Engine, home: Path) -> list[str]:
    """Removes containers and networks that units of that home left; the names of those that ran."""
    filters = {'label': [f'xmanager.home={home}']}
    left = engine.request('GET', '/containers/json', query={'all': '1', 'filters': filters}).json()
    assert isinstance(left, list)
    for container in left:
        with contextlib.suppress(EngineError):
            engine.request('DELETE', f'/containers/{container["Id"]}', query={'force': '1'})
    networks = engine.request('GET', '/networks', query={'filters': filters}).json()
    assert isinstance(networks, list)
    for network in networks:
        with contextlib.suppress(EngineError):
            engine.request('DELETE', f'/networks/{network["Id"]}')
    return [container['Names'][0] for container in left if container['State'] == 'running']


# --- the image


def root_folder() -> bytes:
    """A tar of what the base image holds, for those who make an image of it without an engine."""
    return _root_folder(_python_files())


def _python_files() -> list[str]:
    """What the packages of Debian's Python install, and the libraries that its binaries need."""
    listed = subprocess.run(
        ['dpkg', '-L', *_PACKAGES], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False
    )
    wanted = (line for line in listed.stdout.decode().splitlines())
    files = {f for f in wanted if os.path.isfile(f) and not re.search('/(doc|man)/', f)}
    binaries = [f for f in files if f.endswith('python3.11') or '.so' in f]
    if binaries:
        said = subprocess.run(
            ['ldd', *binaries], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False
        )
        files |= set(re.findall(r'(/[^\s:]+\.so[^\s:]*) \(0x', said.stdout.decode()))
    return sorted(files)


def _root_folder(files: list[str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode='w') as tar:
        for file in files:
            tar.add(os.path.realpath(file), file.lstrip('/'), filter=_plain)
        tar.add(os.path.realpath('/bin/busybox'), 'bin/busybox', filter=_plain)
        for name in _APPLETS:
            _link(tar, f'bin/{name}', 'busybox')
        _link(tar, 'usr/bin/python3', 'python3.11')
        for name, text in (
            ('etc/passwd', 'root:x:0:0:root:/root:/bin/sh\nada:x:1000:1000::/:/bin/sh\n'),
            ('etc/group', 'root:x:0:\nada:x:1000:\n'),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
        info = tarfile.TarInfo('tmp')
        info.type, info.mode = tarfile.DIRTYPE, 0o1777
        tar.addfile(info)
    return buffer.getvalue()


def _plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = ''
    if info.islnk():  # tarfile finds a file again under another name
        info.type, info.size = tarfile.LNKTYPE, 0
    return info


def _link(tar: tarfile.TarFile, name: str, target: str) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    tar.addfile(info)


# --- the engines

_daemons: dict[Path, subprocess.Popen[bytes]] = {}


@contextlib.contextmanager
def _locked(what: str) -> Iterator[None]:
    _SHARED.mkdir(mode=0o700, exist_ok=True)
    with (_SHARED / f'{what}.lock').open('w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _shared_daemon() -> Iterator[str]:
    """A dockerd in a folder of its own, started by the first who wants it and stopped by the last."""
    folder = _SHARED / 'docker'
    url = f'unix://{folder}/socket'
    _SHARED.mkdir(mode=0o700, exist_ok=True)
    with (_SHARED / 'users').open('w') as users:
        with _locked('docker'):
            fcntl.flock(users, fcntl.LOCK_SH)
            if not _answers(url):
                start_dockerd(folder, has_network=True)
        try:
            yield url
        finally:
            with _locked('docker'), contextlib.suppress(BlockingIOError):
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                stop_dockerd(folder)
                shutil.rmtree(folder, ignore_errors=True)


def start_dockerd(folder: Path, *, has_network: bool = False) -> str:
    """Starts a dockerd that keeps all it has below `folder`, and waits for it; its URL.

    Without a network it is in a namespace of its own: one that is told to have no bridge removes the one of others.
    """
    alone = [] if has_network else ['unshare', '--net', '--']
    folder.mkdir(parents=True, exist_ok=True)
    url = f'unix://{folder}/socket'
    with (folder / 'log').open('ab') as log:
        process = _daemons[folder] = subprocess.Popen(
            [
                *alone,
                _program('dockerd'),
                f'--host={url}',
                f'--data-root={folder}/data',
                f'--exec-root={folder}/exec',
                f'--pidfile={folder}/pid',
                *([] if has_network else ['--bridge=none', '--iptables=false']),
            ],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    deadline = time.monotonic() + _SECONDS
    while not _answers(url):
        if process.poll() is not None or time.monotonic() > deadline:
            stop_dockerd(folder, signal.SIGKILL)
            raise AssertionError(f'no dockerd came up\n{(folder / "log").read_text()[-2000:]}')
        time.sleep(0.05)
    return url


def stop_dockerd(folder: Path, signum: int = signal.SIGTERM) -> None:
    """Stops the dockerd of that folder and waits until it is gone."""
    process = _daemons.pop(folder, None)
    if process is not None:  # A child of ours
        process.send_signal(signum)
        process.wait(_SECONDS)
        return
    try:
        pid = int((folder / 'pid').read_text())
    except (OSError, ValueError):
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signum)
    _wait_until_gone(pid)


def _wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)


@contextlib.contextmanager
def _podman() -> Iterator[Engine]:
    folder = Path(tempfile.mkdtemp(prefix=f'{PREFIX}-podman-'))
    config = folder / 'containers.conf'
    config.write_text(
        '[containers]\ndefault_ulimits = ["nofile=1024:4096", "nproc=4096:4096"]\n'
        '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
    )
    url = f'unix://{folder}/socket'
    options = [f'--root={folder}/data', f'--runroot={folder}/run', f'--tmpdir={folder}/tmp']
    environment = {**os.environ, 'CONTAINERS_CONF': str(config)}
    with (folder / 'log').open('wb') as log:
        process = subprocess.Popen(
            [_program('podman'), *options, 'system', 'service', '--time=0', url],
            env=environment,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
    try:
        deadline = time.monotonic() + _SECONDS
        while not _answers(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f'no podman came up\n{(folder / "log").read_text()[-2000:]}')
            time.sleep(0.02)
        yield Engine.connect(url)
    finally:
        subprocess.run(
            [_program('podman'), *options, 'rm', '--all', '--force', '--time=0'],
            env=environment,
            capture_output=True,
            check=False,
        )
        process.terminate()
        process.wait(_SECONDS)
        shutil.rmtree(folder, ignore_errors=True)


def _answers(url: str) -> bool:
    try:
        Engine.connect(url, timeout=5.0)
    except (WireError, EngineError):
        return False
    return True


def _program(name: str) -> str:
    """Its path, also of one that ordinary users don't find; '' if it isn't installed."""
    return shutil.which(name, path=f'{os.environ["PATH"]}:/usr/sbin:/sbin') or ''
