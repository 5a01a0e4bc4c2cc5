"""What an inspection finds: the value that `xmanager doctor` prints a line of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs

OK: Final = 'ok'
WARN: Final = 'warn'
MISSING: Final = 'missing'
BAD: Final = 'bad'


@attrs.frozen
class Finding:
    """What was looked at, how it is, and what to do if it isn't as it should be. `facts` are for programs.

    `missing` is no fault: there are things that one may do without. `bad` keeps experiments from running.
    """

    topic: str
    status: str
    detail: str
    advice: str = ''
    facts: Mapping[str, Any] = attrs.field(factory=dict)
