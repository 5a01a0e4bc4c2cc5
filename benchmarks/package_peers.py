"""What packaging is measured beside: projects that change, a Docker engine, a registry, and what plain docker does."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs

BASE = 'xm-bench/base:1'

# The original calls `docker buildx build`; a client with BuildKit built in knows no `buildx`.
SHIM = """\
#!/bin/sh
[ "$1" = buildx ] && shift
DOCKER_BUILDKIT=1 exec {docker} "$@"
"""

# A base image with Python and bash from Debian's own files, and a user 1000, which the original asks for.
MAKE_BASE = r"""
set -e
root=$(mktemp -d)
mkdir -p "$root/bin" "$root/usr/bin" "$root/etc" "$root/tmp" "$root/root"
cp /bin/busybox /bin/bash "$root/bin/"
for name in sh ls cat env sleep echo true mkdir cp id; do ln -s busybox "$root/bin/$name"; done
dpkg -L python3.11-minimal libpython3.11-minimal libpython3.11-stdlib | grep -vE '/(doc|man)/' |
  while read -r file; do if [ -f "$file" ]; then echo "$file"; fi; done >"$root/files"
{ echo /bin/bash; cat "$root/files"; } | xargs ldd 2>/dev/null |
  grep -oE '/[^ ]+\.so[^ :]*' | sort -u >"$root/libs" || true
cat "$root/libs" >>"$root/files"
tar -h -c -f - -T "$root/files" | tar -C "$root" -x -f -
rm "$root/files" "$root/libs"
ln -s python3.11 "$root/usr/bin/python3"
ln -s python3.11 "$root/usr/bin/python"
printf 'root:x:0:0::/root:/bin/sh\n1000:x:1000:0::/tmp:/bin/sh\n' >"$root/etc/passwd"
tar -C "$root" -c . | "$1" import -c 'ENV PATH=/usr/bin:/bin' -c 'ENV PYTHON_VERSION=3.11.2' - "$2"
rm -rf "$root"
"""


class Project:
    """A folder of Python code and data, filled from a seed; the program in it prints `line-0`."""

    def __init__(self, path: Path, *, files: int, size: int) -> None:
        self.path = path
        self._random = random.Random(1)
        self._edits = 0
        self._sizes = {path / 'train.py': 0}
        for number in range(files - 1):
            file = path / f'part{number // 100}' / f'file{number}.py'
            file.parent.mkdir(parents=True, exist_ok=True)
            self._sizes[file] = size // (files - 1)
        self.edit()
        self.rewrite()

    def edit(self) -> None:
        """Changes one line of the program."""
        self._edits += 1
        (self.path / 'train.py').write_text(
            f'print("line-0", flush=True)  # {self._edits} {time.time()}\n'
        )

    def rewrite(self) -> None:
        """Changes all of the rest: half of it is text, half noise."""
        for file, size in self._sizes.items():
            if size:
                text = b'value = %d  # as code repeats itself\n' % self._random.randrange(10**9)
                noise = self._random.randbytes(size // 2)
                file.write_bytes((text * (size // 2 // len(text) + 1))[: size - len(noise)] + noise)


@attrs.frozen
class Docker:
    """The docker command that does BuildKit, and the environment in which everybody finds it as `docker`."""

    command: str
    environment: dict[str, str]

    def run(self, *arguments: str, buildkit: bool = True) -> str:
        environ = {**os.environ, 'DOCKER_BUILDKIT': '1' if buildkit else '0'}
        done = subprocess.run(
            [self.command, *arguments], env=environ, check=True, capture_output=True, text=True
        )
        return done.stdout

    def push_base(self, host: str) -> str:
        """The base image in the registry; returns its name there."""
        name = f'{host}/{BASE}'
        self.run('tag', BASE, name)
        self.run('push', '-q', name)
        return name


@contextlib.contextmanager
def plain_docker() -> Iterator[Docker]:
    """A Docker engine (started if none runs) that has the base image."""
    folder = Path(tempfile.mkdtemp(prefix='xm-bench-docker-'))
    command = '/usr/bin/docker'
    (folder / 'docker').write_text(SHIM.format(docker=command))
    (folder / 'docker').chmod(0o755)
    docker = Docker(command, {'PATH': f'{folder}:{os.environ["PATH"]}'})
    engine = None
    if not _answers(command):
        engine = subprocess.Popen(['dockerd'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: _answers(command))
    try:
        if not docker.run('images', '-q', BASE).strip():
            subprocess.run(
                ['sh', '-c', MAKE_BASE, 'sh', command, BASE], check=True, capture_output=True
            )
        yield docker
    finally:
        shutil.rmtree(folder)
        if engine is not None:
            engine.terminate()
            engine.wait()


@contextlib.contextmanager
def registry() -> Iterator[str]:
    """An empty registry on a loopback port; yields its `host:port`."""
    folder = Path(tempfile.mkdtemp(prefix='xm-bench-registry-'))
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    (folder / 'config.yml').write_text(
        'version: 0.1\nlog: {level: error}\n'
        f'storage: {{filesystem: {{rootdirectory: {folder}/data}}}}\n'
        f'http: {{addr: "127.0.0.1:{port}"}}\n'
    )
    server = subprocess.Popen(
        ['docker-registry', 'serve', folder / 'config.yml'],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: _listens(port))
        yield f'127.0.0.1:{port}'
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(folder)


def docker_run(docker: Docker, folder: Path) -> float:
    """Seconds of `docker build` and `docker run` of the project."""
    (folder / 'Dockerfile').write_text(_dockerfile('project'))
    began = time.perf_counter()
    docker.run(
        'build', '-q', '-t', 'xm-bench/project', '-f', str(folder / 'Dockerfile'), str(folder)
    )
    output = docker.run('run', '--rm', 'xm-bench/project')
    assert 'line-0' in output
    return time.perf_counter() - began


def docker_push(docker: Docker, project: Path, name: str) -> float:
    """Seconds of `docker build` and `docker push` of the project."""
    dockerfile = project.parent / f'{project.name}.Dockerfile'
    dockerfile.write_text(_dockerfile('.'))
    began = time.perf_counter()
    docker.run('build', '-q', '-t', name, '-f', str(dockerfile), str(project))
    docker.run('push', '-q', name)
    return time.perf_counter() - began


def _dockerfile(source: str) -> str:
    entry = '["python3", "-m", "train"]'
    return f'FROM {BASE}\nCOPY {source} /project\nWORKDIR /project\nENTRYPOINT {entry}\n'


def _answers(command: str) -> bool:
    return not subprocess.run([command, 'version'], capture_output=True, check=False).returncode


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(('127.0.0.1', port), timeout=1):
        return True
    return False


def until(is_so: Callable[[], bool], seconds: float = 30.0) -> None:
    """Waits for something to become so."""
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError('It did not become so.')
        time.sleep(0.02)
