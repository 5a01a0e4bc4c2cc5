"""`xmanager gc`: removes what units left behind, and what packaging made and nobody has used for long."""

from __future__ import annotations

import os
from collections.abc import Callable, Set
from typing import TYPE_CHECKING, Final

import click

from xmanager.cli import session, terminal, wording
from xmanager.cli.parameters import Age

if TYPE_CHECKING:
    from xmanager.containers import Engine
    from xmanager.containers.sweeping import Leftover
    from xmanager.store import Store

_KINDS: Final = ('container', 'network', 'image', 'environment', 'layer', 'unfinished folder')
# A launch that is at work has packaged, but not recorded yet what.
_YOUNGEST: Final = 3600.0


@click.command('gc')
@click.option(
    '--older-than',
    type=Age(),
    default='30d',
    metavar='AGE',
    help='Of images, environments and layers: only what was not used for so long; at least 1h. [default: 30d]',
)
@click.option('-n', '--dry-run', is_flag=True, help='Only say what would be removed.')
def command(older_than: float, dry_run: bool) -> None:
    """Remove what units left behind, and old things that packaging can make again.

    Containers and networks of units that are over: a container is removed when its job has ended, and here is removed
    what an engine that was down, or a machine that lost power, has kept. Images that were loaded into the engine or
    written for a cluster, Python environments and layers of images, if they are old and no recorded experiment refers
    to them. What belongs to other homes, and what is none of ours, stays. Snapshots of code: xmanager snapshot gc.

    \b
    Examples:
      xmanager gc --dry-run
      xmanager gc --older-than 7d
    """
    if older_than < _YOUNGEST:
        raise click.UsageError('--older-than takes at least 1h', click.get_current_context())
    verb = 'would remove' if dry_run else 'removed'
    removed: list[str] = []

    def tell(kind: str, sentence: str) -> None:
        removed.append(kind)
        click.echo(f'{verb} {kind} {sentence}')

    with session.open_store() as store:
        engine = _engine()
        if engine is not None:
            _sweep_containers(store, engine, tell, dry_run)
        _remove_old(store, tell, older_than, dry_run)
    counts = [wording.plural(removed.count(kind), kind) for kind in _KINDS]
    where = f' ({engine.kind} at {engine.url})' if engine is not None else ''
    click.echo(f'{verb} {", ".join(counts[:-1])} and {counts[-1]}{where}')


def _engine() -> Engine | None:
    from xmanager.containers import find_engine
    from xmanager.errors import EngineError

    try:
        return find_engine(os.environ)
    except EngineError as error:
        terminal.note(f'containers and images are not looked at: {error}')
        return None


def _sweep_containers(
    store: Store, engine: Engine, tell: Callable[[str, str], None], dry_run: bool
) -> None:
    from xmanager.containers.sweeping import find, remove

    for one in find(engine, store.home_id, lambda one: _is_over(store, one)):
        if not dry_run:
            remove(engine, one)
        state = f' ({one.state})' if one.state else ''
        tell(one.kind, f'{one.name} of {one.experiment}.{one.unit}{state}')


def _is_over(store: Store, one: Leftover) -> bool:
    """Its unit has ended, runs another attempt by now, or was deleted."""
    from xmanager.errors import NotFoundError
    from xmanager.store.values import ACTIVE_STATES

    if not one.experiment.isdecimal():
        return False
    try:
        unit = store.unit_by_label(int(one.experiment), one.unit)
    except NotFoundError:
        return True
    return unit.state not in ACTIVE_STATES or unit.key != one.key


def _remove_old(
    store: Store, tell: Callable[[str, str], None], older_than: float, dry_run: bool
) -> None:
    from xmanager.cli.kept_places import places
    from xmanager.packaging.cache import remove_old
    from xmanager.packaging.workshop import Workshop

    images, environments = _referred(store)
    for place in places(store):
        shop = Workshop(place, os.environ)
        for old in remove_old(
            shop.cache,
            images,
            environments,
            _remove_image,
            older_than,
            layouts=place / 'images',
            dry_run=dry_run,
        ):
            tell(old.kind, old.name)


def _referred(store: Store) -> tuple[Set[str], Set[str]]:
    """The ids of images and the keys of environments that recorded experiments refer to."""
    images, environments = set(), set()
    for _, executable in store.executables():
        images.add(str(executable.get('image', '')))
        environments.add(str((executable.get('environment') or {}).get('key', '')))
    return images, environments


def _remove_image(engine_url: str, name: str) -> bool:
    """Takes a name of ours from an image, and so the image if that was its last. False if the engine keeps it."""
    from xmanager.containers.locate import connect
    from xmanager.errors import EngineError

    try:
        connect(engine_url).request('DELETE', f'/images/{name}')
    except EngineError as error:
        if error.status != 404:
            terminal.note(f'image {name} stays: {error}')
            return False
    return True
