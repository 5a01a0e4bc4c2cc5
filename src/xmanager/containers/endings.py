"""How a container ended, in the file that its keeper leaves: what the exit code alone does not tell."""

from __future__ import annotations

import json
import os


class Ending:
    """`exit_code` is 128 + n for signal n. `oom`: the kernel killed something in it for want of memory.

    `refused`: the engine did not start it; `vanished`: nobody can know how it ended. Then `reason` says more.
    """

    def __init__(
        self,
        exit_code: int,
        *,
        oom: bool = False,
        reason: str = '',
        refused: bool = False,
        vanished: bool = False,
    ) -> None:
        self.exit_code = exit_code
        self.oom = oom
        self.reason = reason
        self.refused = refused
        self.vanished = vanished

    def with_reason(self, reason: str) -> Ending:
        """The same with one more thing to say."""
        both = '; '.join(filter(None, (self.reason, reason)))
        return Ending(
            self.exit_code,
            oom=self.oom,
            reason=both,
            refused=self.refused,
            vanished=self.vanished,
        )


def write_ending(folder: str, key: str, ending: Ending) -> None:
    """Leaves it in a keeper's folder, in one step. `key` is the unit's: it is this attempt's ending."""
    beside = f'{folder}/.ending.json.{os.getpid()}'
    with open(beside, 'w', encoding='utf-8') as file:
        json.dump({'key': key, **vars(ending)}, file)
    os.replace(beside, f'{folder}/ending.json')


def read_ending(folder: str, key: str) -> Ending | None:
    """The ending in a keeper's folder; None if there is none of this attempt."""
    try:
        with open(f'{folder}/ending.json', 'rb') as file:
            said = json.load(file)
    except (OSError, ValueError):
        return None
    if not isinstance(said, dict) or said.pop('key', None) != key:
        return None
    try:
        return Ending(**said)
    except TypeError:  # Of another version.
        return None
