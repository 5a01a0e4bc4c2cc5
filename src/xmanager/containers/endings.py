"""What a keeper leaves in its folder: how its container ended, whether that is removed, and who its keepers were."""

from __future__ import annotations

import contextlib
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


def mark_removed(folder: str) -> None:
    """Notes that nothing of the container is left in the engine."""
    with contextlib.suppress(OSError):  # Without it one more keeper looks, and finds nothing.
        open(f'{folder}/removed', 'wb').close()


def is_removed(folder: str) -> bool:
    """Whether a keeper has noted that nothing of the container is left."""
    return os.path.exists(f'{folder}/removed')


def note_keeper(folder: str) -> None:
    """Adds this process to those that were keepers of the folder; what it has to say itself goes to `keeper.log`."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    with contextlib.suppress(OSError):  # A full disk keeps no container from being kept.
        os.dup2(os.open(f'{folder}/keeper.log', flags, 0o600), 2)
        descriptor = os.open(f'{folder}/keepers', flags, 0o600)
        os.write(descriptor, f'{os.getpid()}\n'.encode())
        os.close(descriptor)


def note(sentence: str) -> None:
    """Writes a line to `keeper.log`, for whoever looks there for what went wrong."""
    with contextlib.suppress(OSError):
        os.write(2, f'{sentence}\n'.encode())


def read_keepers(folder: str) -> list[int]:
    """The processes that were keepers of the folder, by number: others may have these by now."""
    try:
        with open(f'{folder}/keepers', 'rb') as file:
            return [int(word) for word in file.read().split()]
    except (OSError, ValueError):
        return []
