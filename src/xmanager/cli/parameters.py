"""What commands take on their command line: whole numbers, and addresses, which the shell completes from the store."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from xmanager.cli import address

_OFFERED = 50
_AGE_SECONDS = {'m': 60, 'h': 3600, 'd': 86400, 'w': 7 * 86400}
_AGE = re.compile(r'([0-9]{1,6})([mhdw])', re.ASCII)


Function = TypeVar('Function', bound=Callable[..., Any])


class Whole(click.ParamType):  # type: ignore[type-arg]  # Generic only from click 8.4 on.
    """A whole number from `least` on."""

    name = 'N'

    def __init__(self, least: int) -> None:
        self.least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        is_number = value.isascii() and value.isdigit() and len(value) < 19
        if not is_number or int(value) < self.least:
            self.fail(f'{value!r} is no whole number from {self.least} on', param, ctx)
        return int(value)


class Age(click.ParamType):  # type: ignore[type-arg]  # Generic only from click 8.4 on.
    """`30d`, `12h`, `90m`, `2w`, as seconds."""

    name = 'AGE'

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, float):
            return value
        match = _AGE.fullmatch(value)
        if match is None:
            self.fail(f'{value!r} is no age: write 30d, 12h, 90m or 2w', param, ctx)
        return float(int(match[1]) * _AGE_SECONDS[match[2]])


class AddressType(click.ParamType):  # type: ignore[type-arg]
    """`12`, `12.3` or `12.3.train`, as far down as `depth` says: 1 experiments, 2 units too, 3 jobs too."""

    _NAMES = ('', 'ID', 'ID[.UNIT]', 'ID[.UNIT[.JOB]]')

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.name = self._NAMES[depth]

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> address.Address:
        try:
            found = value if isinstance(value, address.Address) else address.parse(value)
        except ValueError as error:
            raise click.UsageError(str(error), ctx) from error
        if (found.label and self.depth < 2) or (found.job and self.depth < 3):
            self._refuse(found, ctx)
        return found

    def _refuse(self, found: address.Address, ctx: click.Context | None) -> None:
        command = ctx.info_name if ctx is not None else 'this command'
        whole = str(found._replace(job='') if self.depth == 2 else found.experiment_id)
        what, given = ('units', 'a job') if self.depth == 2 else ('experiments', 'a unit')
        raise click.UsageError(
            f'{command} takes whole {what}, and {found} is {given} of one: write {whole}', ctx
        )

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        try:
            return _complete(incomplete, self.depth)
        except Exception:
            # A shell that completes must never print an error into the user's prompt.
            return []


def addresses(depth: int, *, many: bool = True) -> Callable[[Function], Function]:
    """The argument of a command: one or many addresses."""
    name = AddressType(depth).name + ('…' if many else '')
    return click.argument(
        'addresses' if many else 'where',
        type=AddressType(depth),
        metavar=name,
        nargs=-1 if many else 1,
        required=True,
    )


def _complete(incomplete: str, depth: int) -> list[CompletionItem]:
    from xmanager.cli import session

    experiment, dot, _ = incomplete.partition('.')
    with session.open_store(readonly=True) as store:
        if not dot:
            return [
                CompletionItem(str(record.id), help=f'{record.title} ({record.state})')
                for record in store.experiments(limit=_OFFERED)
                if str(record.id).startswith(experiment)
            ]
        if depth < 2:
            return []
        offers = []
        for unit in store.units(address.parse(experiment).experiment_id, with_tasks=depth > 2):
            name = f'{experiment}.{unit.label}'
            offers.append(CompletionItem(name, help=unit.state))
            offers += [CompletionItem(f'{name}.{task.task.name}') for task in unit.tasks]
        return [offer for offer in offers if offer.value.startswith(incomplete)]
