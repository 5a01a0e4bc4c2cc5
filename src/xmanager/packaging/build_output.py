"""What a builder prints, read for its steps: BuildKit's plain progress, the classic builder's, Podman's."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from typing import Final

SHOWN_LINES: Final = 20
_LONGEST_STEP: Final = 60

_COLOURS: Final = re.compile(r'\x1b\[[0-9;]*m')
_STEP: Final = re.compile(r'(?:Step|STEP) (?P<count>\d+/\d+) ?: (?P<instruction>.*)')
_VERTEX: Final = re.compile(r'#(?P<vertex>\d+) (?P<text>.*)')
_VERTEX_STEP: Final = re.compile(r'\[(?:\S+ )?(?P<count>\d+/\d+)\] (?P<instruction>.*)')
# `#6 0.164 hello`: seconds since the step began, and a line that its command printed.
_VERTEX_PRINTED: Final = re.compile(r'\d+\.\d+ (?P<line>.*)')
_ERROR: Final = re.compile(r'(?:ERROR|Error|error): +(?P<why>.+)')
_WORDS_OF_THE_BUILDER: Final = re.compile(
    r' --->|--> |Removing intermediate container |Sending build context |-{6,}| > \[|'
    r'DEPRECATED: |\s+(?:BuildKit is currently disabled|environment-variable\.)|View build details'
)


class BuildOutput:
    """Hears the lines of one build; `tell` hears of its steps: `step 2 of 5: RUN make`."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._steps: dict[str, tuple[str, str]] = {}  # Vertex → count and instruction.
        self._printed: dict[str, deque[str]] = {}
        self._current = ''
        self._why: dict[str, str] = {}
        self._failed = ''

    def hear(self, line: str) -> None:
        line = _COLOURS.sub('', line)
        if vertex := _VERTEX.fullmatch(line):
            self._hear_vertex(vertex['vertex'], vertex['text'])
        elif step := _STEP.fullmatch(line):
            self._current = step['count']
            self._begin(self._current, step['count'], step['instruction'])
        elif error := _ERROR.match(line):
            self._why.setdefault(self._current, error['why'])
            self._failed = self._failed or self._current
        elif line.strip() and not _WORDS_OF_THE_BUILDER.match(line):
            self._print(self._current, line)

    def failure(self) -> str:
        """Which step failed and why, in one line, followed by the last lines of its output, indented."""
        step = self._failed or self._current
        printed = list(self._printed.get(step, ()))
        why = self._why.get(step, '')
        if not why and printed:
            why = printed.pop()
        printed = [line for line in printed[-SHOWN_LINES:] if line != why]
        count, instruction = self._steps.get(step, ('', ''))
        place = f'step {count.replace("/", " of ")}, {instruction!r}, failed: ' if count else ''
        return '\n'.join(
            [f'{place}{why or "it says nothing of why"}', *(f'    {x}' for x in printed)]
        )

    def _hear_vertex(self, vertex: str, text: str) -> None:
        if step := _VERTEX_STEP.fullmatch(text):
            self._begin(vertex, step['count'], step['instruction'])
        elif printed := _VERTEX_PRINTED.fullmatch(text):
            self._print(vertex, printed['line'])
        elif error := _ERROR.fullmatch(text):
            self._why[vertex] = error['why']
            self._failed = vertex

    def _begin(self, key: str, count: str, instruction: str) -> None:
        # BuildKit names a step again each time that it takes it up.
        if self._steps.get(key) == (count, instruction):
            return
        self._steps[key] = (count, instruction)
        self._printed.pop(key, None)
        short = (
            instruction if len(instruction) <= _LONGEST_STEP else f'{instruction[:_LONGEST_STEP]}…'
        )
        self._tell(f'step {count.replace("/", " of ")}: {short}')

    def _print(self, key: str, line: str) -> None:
        self._printed.setdefault(key, deque(maxlen=SHOWN_LINES + 1)).append(line)
