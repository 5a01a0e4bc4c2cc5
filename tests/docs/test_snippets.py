"""Runs every snippet of README.md and docs/, page by page, in the order a reader meets them.

A page has a folder and an XM_HOME of its own, which its snippets share. A `python` block runs under
plain Python; of a `console` block, each line that begins with `$ ` runs in a shell; blocks in other
languages are left alone. A comment right above a block says otherwise:

    <!-- snippet: sweep.py -->           the block is a file, for later blocks to use
    <!-- snippet: exits 1 -->            its commands end with this exit code
    <!-- snippet: not run, needs a GPU -->
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').rglob('*.md'))]
BLOCK = re.compile(
    r'(?:^<!-- snippet: (?P<note>[^\n]+) -->\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$',
    re.MULTILINE | re.DOTALL,
)
SECONDS = 60


@dataclass(frozen=True)
class Snippet:
    line: int
    language: str
    note: str
    text: str

    @property
    def is_file(self) -> bool:
        return re.fullmatch(r'[\w/-]+\.\w+', self.note) is not None

    @property
    def commands(self) -> list[list[str]]:
        if self.is_file or self.note.startswith('not run'):
            return []
        if self.language == 'python':
            return [[sys.executable, '-W', 'error', '-c', self.text]]
        if self.language == 'console':
            return [['bash', '-c', line] for line in re.findall(r'(?m)^\$ (.+)$', self.text)]
        return []

    @property
    def exit_code(self) -> int:
        return int(self.note.removeprefix('exits ')) if self.note.startswith('exits ') else 0


def snippets(text: str) -> Iterator[Snippet]:
    for block in BLOCK.finditer(text):
        line = text.count('\n', 0, block.start('text'))
        yield Snippet(line, block['language'], block['note'] or '', block['text'])


def assert_runs(snippet: Snippet, place: str, folder: Path, environment: Mapping[str, str]) -> None:
    for command in snippet.commands:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SECONDS,
            check=False,
        )
        said = done.stdout.decode(errors='replace')
        assert done.returncode == snippet.exit_code, f'{place}: {command[-1]}\n{said}'


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_snippet_of_the_page_runs(page: Path, tmp_path: Path) -> None:
    folder = tmp_path / 'work'
    folder.mkdir()
    programs = Path(sys.executable).parent  # `python` and `xmanager` are those under test.
    environment = {
        **os.environ,
        'XM_HOME': str(tmp_path / 'home'),
        'XM_LOCAL_LEDGER': str(tmp_path / 'ledger'),
        'PATH': f'{programs}{os.pathsep}{os.environ["PATH"]}',
    }
    for snippet in snippets(page.read_text()):
        if snippet.is_file:
            (folder / snippet.note).write_text(snippet.text)
        assert_runs(snippet, f'{page.name}:{snippet.line}', folder, environment)
