"""What packaging makes of a packageable: a command or an image whose bits are fixed, and what is recorded of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from xmanager.xm.arguments import SequentialArgs, UserArgs
from xmanager.xm.executables import Executable


@attrs.define(slots=False)
class Packaged(Executable):
    """An executable that is ready to run.

    `command` comes before all arguments: a program and its own first words, or nothing where an image brings its entry
    point. `cwd` is the folder in which it starts unless the executor names one, '' for the launcher's. `env` is what
    packaging itself adds to the environment of every job; what the user says (`env_vars`) goes before it.

    `facts` are recorded with every job, as JSON values: `kind` (`binary`, `python` or `image`), `name`, and by kind
    what fixes the bits (`snapshot`, `digest`, `image`). They alone are left when a unit is run again from the store.
    """

    command: tuple[str, ...] = ()
    cwd: str = ''
    env: Mapping[str, str] = attrs.field(factory=dict)
    facts: Mapping[str, Any] = attrs.field(factory=dict)
    args: UserArgs = attrs.field(factory=SequentialArgs)
    env_vars: Mapping[str, Any] = attrs.field(factory=dict)
