"""Wheels made by hand, so that no test reaches a package index."""

import hashlib
import zipfile
from pathlib import Path


def make_wheel(
    folder: Path, name: str, version: str = '1.0', tag: str = 'py3-none-any', **files: str
) -> Path:
    """A wheel with a module of its own name, a program `<name>-run`, and what else is given as `path=text`."""
    info = f'{name}-{version}.dist-info'
    contents = {
        f'{name}.py': f'VERSION = {version!r}\ndef main():\n    print({name!r}, VERSION)\n',
        f'{info}/METADATA': f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n',
        f'{info}/WHEEL': f'Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n',
        f'{info}/entry_points.txt': f'[console_scripts]\n{name}-run = {name}:main\n',
        **files,
    }
    rows = [
        f'{path},sha256={hashlib.sha256(text.encode()).hexdigest()},{len(text)}'
        for path, text in contents.items()
    ]
    contents[f'{info}/RECORD'] = '\n'.join([*rows, f'{info}/RECORD,,', ''])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f'{name}-{version}-{tag}.whl'
    with zipfile.ZipFile(path, 'w') as wheel:
        for inner, text in contents.items():
            wheel.writestr(inner, text)
    return path


def environ_for(folder: Path, environ: dict[str, str]) -> dict[str, str]:
    """What makes uv take the wheels in a folder, and nothing else."""
    return {
        **environ,
        'UV_FIND_LINKS': str(folder),
        'UV_NO_INDEX': '1',
        'UV_OFFLINE': '1',
        'UV_CACHE_DIR': str(folder / 'uv-cache'),
    }
