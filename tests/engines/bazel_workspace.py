"""A real Bazel in a workspace of its own, which reaches no registry: its rule repositories are stubs.

One server serves all tests of a worker: it takes seconds to start.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs
import pytest
from tests.engines.servers import require

_CC: Final = (
    'cc_library cc_binary cc_test cc_import cc_toolchain cc_toolchain_suite cc_proto_library objc_library '
    'fdo_prefetch_hints fdo_profile'
)
_JAVA: Final = (
    'java_library java_binary java_import java_test java_runtime java_toolchain java_plugin '
    'java_package_configuration java_proto_library java_lite_proto_library'
)
_PROTO: Final = 'proto_library proto_lang_toolchain'


@attrs.frozen
class Bazel:
    """`command` is for --xm_bazel_command, `args` for the bazel_args of each packageable."""

    command: str
    args: tuple[str, ...]
    root: Path

    def workspace(self, name: str, files: dict[str, str]) -> Path:
        """A new one with these files; what ends in .sh may be executed."""
        folder = self.root / name
        for path, text in {'WORKSPACE': '', **files}.items():
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            file.chmod(0o755 if path.endswith('.sh') else 0o644)
        return folder


@pytest.fixture(scope='session')
def bazel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bazel]:
    """Skips where there is no Bazel, unless XM_TEST_REQUIRE names `bazel`."""
    program = shutil.which('bazel') or ''
    require('bazel', '' if program else 'Bazel (apt-get install bazel-bootstrap)')
    root = tmp_path_factory.mktemp('bazel')
    overrides = _stubs(root / 'stubs')
    startup = [program, f'--output_user_root={root / "user"}', '--max_idle_secs=120']
    try:
        yield Bazel(shlex.join(startup), overrides, root)
    finally:
        _stop(startup, root)


def _stop(startup: list[str], root: Path) -> None:
    """Ends the server of each workspace, and makes removable what Bazel has made read-only."""
    for folder in root.iterdir():
        if (folder / 'WORKSPACE').is_file():
            subprocess.run([*startup, 'shutdown'], cwd=folder, capture_output=True, check=False)
    subprocess.run(['chmod', '-R', 'u+w', os.fspath(root)], capture_output=True, check=False)


def _stubs(folder: Path) -> tuple[str, ...]:
    for repository, package, rules in (
        ('rules_cc', 'cc', _CC),
        ('rules_java', 'java', _JAVA),
        ('rules_proto', 'proto', _PROTO),
    ):
        place = folder / repository / package
        place.mkdir(parents=True)
        (folder / repository / 'WORKSPACE').write_text('')
        (folder / repository / 'BUILD').write_text('')
        (place / 'BUILD').write_text('')
        lines = [f'{rule} = native.{rule}' for rule in rules.split()]
        (place / 'defs.bzl').write_text('\n'.join([*lines, '']))
    (folder / 'rules_cc' / 'cc' / 'toolchain_config.bzl').write_text('')
    return tuple(f'--override_repository={name.name}={name}' for name in sorted(folder.iterdir()))
