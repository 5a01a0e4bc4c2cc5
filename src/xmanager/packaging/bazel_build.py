"""One call of Bazel: its workspace, its command, what it built, and in its own words why it did not."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from xmanager.errors import PackagingError
from xmanager.packaging import children
from xmanager.packaging.bazel_events import BuildEvents, read_events
from xmanager.xm.launch_script import launch_directory

_BOUNDARIES: Final = ('MODULE.bazel', 'REPO.bazel', 'WORKSPACE.bazel', 'WORKSPACE')
_PROGRESS: Final = re.compile(r'\[(?P<done>[\d,]+) / (?P<all>[\d,]+)\]')
_ERROR: Final = re.compile(r'ERROR: |FATAL: ')
_NOISE: Final = re.compile(
    r'(INFO|WARNING|DEBUG|Loading|Analyzing|FAILED|Target|Use --|\[|\$TEST_TMPDIR|Starting local)'
)
# What the sandbox tells of itself, if it is asked to, in the midst of what the action prints.
_SANDBOX: Final = re.compile(r'\d+\.\d+: src/main/tools/linux-sandbox')
_SKIPPED: Final = re.compile(r"ERROR: Skipping '.*?': ")
_SHOWN_LINES: Final = 20
_SHOWN_BYTES: Final = 1 << 16


def build_command(environ: Mapping[str, str], bazel_args: Sequence[str]) -> list[str]:
    """The command, to be followed by labels. Raises PackagingError if there is no such program."""
    text = environ.get('XM_BAZEL_COMMAND') or 'bazel'
    try:
        program, *arguments = shlex.split(text)
    except ValueError as error:
        raise PackagingError(
            f'--xm_bazel_command={text}: it is no command: {error}. Quote it as a shell would.'
        ) from None
    found = shutil.which(program, path=environ.get('PATH', os.defpath))
    if found is None:
        raise PackagingError(
            f'Bazel is needed, but there is no program {program!r}. '
            'Install Bazel or Bazelisk, or name it by --xm_bazel_command.'
        )
    return [found, *arguments, 'build', *bazel_args, '--color=no', '--curses=no']


def workspace(environ: Mapping[str, str]) -> Path:
    """The folder that `bazel run` names, else the one above the launch script that says that it is a workspace."""
    if named := environ.get('BUILD_WORKSPACE_DIRECTORY'):
        if not os.path.isdir(named):
            raise PackagingError(f'BUILD_WORKSPACE_DIRECTORY={named}: there is no such folder.')
        return Path(named)
    start = Path(launch_directory())
    for folder in (start, *start.parents):
        if any((folder / name).is_file() for name in _BOUNDARIES):
            return folder
    raise PackagingError(
        f'No Bazel workspace: neither {start} nor a folder above it holds MODULE.bazel or WORKSPACE. '
        'Put the launch script into one, or set BUILD_WORKSPACE_DIRECTORY.'
    )


def build(
    labels: Sequence[str],
    bazel_args: Sequence[str],
    environ: Mapping[str, str],
    tell: Callable[[str], None],
) -> BuildEvents:
    """Builds the labels in one call. Raises PackagingError with Bazel's own errors."""
    command = build_command(environ, bazel_args)
    folder = workspace(environ)
    said = _Said(tell)
    with tempfile.TemporaryDirectory(prefix='xmanager-bazel-') as temporary:
        file = Path(temporary, 'events')
        command += [f'--build_event_json_file={file}', '--', *labels]
        exit_code = children.run(command, environ, said.hear, cwd=folder)
        events = _read(file)
        if exit_code:
            words = said.failure(events) or [f'It says nothing of why (exit code {exit_code}).']
            shown = '\n'.join(f'    {line}' for line in words)
            raise PackagingError(f'Bazel could not build {", ".join(labels)}:\n{shown}')
    return events


def _read(file: Path) -> BuildEvents:
    try:
        with open(file, 'rb') as lines:
            return read_events(lines)
    except FileNotFoundError:  # Bazel failed before it had begun.
        return read_events(())


class _Said:
    """Hears what Bazel prints: how far it is, and what went wrong."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._errors: list[str] = []
        self._last: deque[str] = deque(maxlen=_SHOWN_LINES)
        self._steps = ''

    def hear(self, line: str) -> None:
        if progress := _PROGRESS.match(line):
            steps = f'building ({progress["done"]} of {progress["all"]} actions)'
            if steps != self._steps:
                self._steps = steps
                self._tell(steps)
        elif _ERROR.match(line):
            self._errors.append(line)
        elif line.strip() and not _NOISE.match(line) and not _SANDBOX.match(line):
            self._last.append(line)

    def failure(self, events: BuildEvents) -> list[str]:
        """Its errors, what the failed actions printed, else whatever it said last."""
        printed = [line for path in events.printed for line in _last_lines(path)]
        aborted = [f'{label}: {why}' for label, why in events.aborted.items() if why]
        # With a target that isn't there Bazel says the same twice.
        errors = [line for line in self._errors if not _SKIPPED.match(line)] or self._errors
        errors = errors or aborted
        rest = printed or list(self._last)
        return [*errors[:_SHOWN_LINES], *rest[-_SHOWN_LINES:]]


def _last_lines(path: str) -> list[str]:
    try:
        with open(path, 'rb') as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _SHOWN_BYTES))
            text = file.read(_SHOWN_BYTES).decode(errors='replace')
    except OSError:
        return []  # Bazel has removed it by now; its errors say the most of it.
    lines = [line for line in text.splitlines() if line.strip() and not _SANDBOX.match(line)]
    return lines[-_SHOWN_LINES:]
