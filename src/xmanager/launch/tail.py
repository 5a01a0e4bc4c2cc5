"""Reads what a job has newly printed, as whole lines with its prefix."""

from __future__ import annotations

from pathlib import Path

_CHUNK = 1 << 16
_LONGEST = 1 << 16  # Bytes of a line that are gathered before it is shown in parts.


class LogTail:
    """One job's log, read as it grows. The file need not be there yet, and may go away."""

    def __init__(self, path: Path, prefix: bytes) -> None:
        self._path = path
        self._prefix = prefix
        self._offset = 0
        self._partial = b''

    def read(self, *, rest: bool = False) -> list[bytes]:
        """New whole lines, each with prefix and newline; with `rest` also the last one without a newline."""
        lines: list[bytes] = []
        for data in self._new_data():
            *whole, self._partial = (self._partial + data).split(b'\n')
            lines.extend(whole)
            if len(self._partial) > _LONGEST:
                lines.append(self._partial)
                self._partial = b''
        if rest and self._partial:
            lines.append(self._partial)
            self._partial = b''
        return [self._prefix + line + b'\n' for line in lines]

    def _new_data(self) -> list[bytes]:
        try:
            if self._path.stat().st_size <= self._offset:
                return []
            with self._path.open('rb') as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:  # Not started yet, or the user has deleted it.
            return []
        self._offset += len(data)
        return [data[i : i + _CHUNK] for i in range(0, len(data), _CHUNK)]


def last_lines(path: Path, count: int) -> list[str]:
    """The last lines of a log for a person to read; none if it can't be read."""
    try:
        with path.open('rb') as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - 200 * count))
            text = file.read().decode('utf-8', 'replace')
    except OSError:
        return []
    return text.splitlines()[-count:]
