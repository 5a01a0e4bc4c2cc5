"""`xmanager snapshot`: the snapshots of code that units run."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from xmanager.cli import printing, session, tables, terminal, wording
from xmanager.cli.parameters import Age

if TYPE_CHECKING:
    from xmanager.snapshot import Entry, Kept, Snapshot, SnapshotStore
    from xmanager.store import Store

_DIGITS: Final = 12
_MANY: Final = 60
_NAMED: Final = 4
# A launch that is at work has taken its snapshots, but not recorded yet who runs them.
_YOUNGEST: Final = 3600.0

_COLUMNS = (
    tables.Column('DIGEST'),
    tables.Column('FILES', right=True),
    tables.Column('SIZE', right=True),
    tables.Column('USED'),
    tables.Column('EXPERIMENTS', least=11),
    tables.Column('TAKEN FROM', least=12),
)
_CONTENT = (
    tables.Column('MODE'),
    tables.Column('SIZE', right=True),
    tables.Column('PATH', least=12),
)


@click.group('snapshot')
def command() -> None:
    """List, show, restore and remove the snapshots of code that units run.

    A snapshot is named by its digest, or by the first digits of it (4 at least).

    \b
    Examples:
      xmanager snapshot ls
      xmanager snapshot show 3f2a91bc04de
      xmanager snapshot restore 3f2a91bc04de old-code
    """


@command.command('ls')
@click.option('--json', 'as_json', is_flag=True, help='As JSON: docs/reference/json.md.')
def list_snapshots(as_json: bool) -> None:
    """List snapshots, the one used last first.

    \b
    Examples:
      xmanager snapshot ls
      xmanager snapshot ls --json | jq -r '.snapshots[].digest'
    """
    with session.open_store(readonly=True) as store:
        kept = _all_kept(store)
        users = _users(store)
    if as_json:
        from xmanager.cli import views

        shown = [_view(one, users) for one in kept]
        printing.print_json(views.document(snapshots=shown))
    elif kept:
        tables.show(_COLUMNS, [_row(one, users) for one in kept])
    else:
        terminal.note(f'no snapshot in {store.home.path}: launching a PythonPackage takes one')


@command.command('show')
@click.argument('digest')
@click.option('--all', 'show_all', is_flag=True, help='Every file, however many there are.')
@click.option('--json', 'as_json', is_flag=True, help='As JSON: docs/reference/json.md.')
def show(digest: str, show_all: bool, as_json: bool) -> None:
    """Show a snapshot and what is in it; of many files, what its folders hold.

    \b
    Examples:
      xmanager snapshot show 3f2a91bc04de
      xmanager snapshot show 3f2a --all
    """
    with session.open_store(readonly=True) as store:
        snapshots, snapshot = _find(store, digest)
        [kept] = [one for one in snapshots.list() if one.digest == snapshot.digest]
        users = _users(store)
    if as_json:
        from xmanager.cli import views

        entries = [_entry_view(entry) for entry in snapshot.entries]
        printing.print_json(views.document(snapshot={**_view(kept, users), 'entries': entries}))
        return
    printing.print_fields(
        [
            ('digest', snapshot.digest),
            ('files', f'{snapshot.files:,}, {_size(snapshot.bytes)}'),
            ('taken from', kept.path),
            ('last used', wording.local_time(kept.used_at)),
            ('experiments', _named(users.get(snapshot.digest, ()))),
        ]
    )
    click.echo()
    if len(snapshot.entries) <= _MANY or show_all:
        tables.show(_CONTENT, [_content_row(entry) for entry in snapshot.entries])
    else:
        tables.show(_CONTENT, _summary(snapshot))
        terminal.remark('--all shows every file')


@command.command('cat')
@click.argument('digest')
@click.argument('path')
def cat(digest: str, path: str) -> None:
    """Print a file of a snapshot.

    \b
    Examples:
      xmanager snapshot cat 3f2a91bc04de train.py
      xmanager snapshot cat 3f2a train.py | diff - train.py
    """
    from xmanager.errors import NotFoundError

    with session.open_store(readonly=True) as store:
        snapshots, snapshot = _find(store, digest)
    wanted = path.removeprefix('./').rstrip('/')
    for entry in snapshot.entries:
        if entry.path == wanted and entry.kind == 'file':
            with snapshots.read(entry) as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
            return
    raise NotFoundError(
        f'snapshot {snapshot.digest[:_DIGITS]} has no file {path}: '
        f'xmanager snapshot show {snapshot.digest[:_DIGITS]} --all lists them'
    )


@command.command('restore')
@click.argument('digest')
@click.argument('to', required=False, type=click.Path(path_type=Path))
def restore(digest: str, to: Path | None) -> None:
    """Make a folder of a snapshot, for you to change; by default named after the digest.

    Overwrites nothing: the folder must not be there yet.

    \b
    Examples:
      xmanager snapshot restore 3f2a91bc04de
      xmanager snapshot restore 3f2a ~/as-it-was
    """
    with session.open_store(readonly=True) as store:
        snapshots, snapshot = _find(store, digest)
    folder = to or Path(f'snapshot-{snapshot.digest[:_DIGITS]}')
    snapshots.restore(snapshot, folder)
    click.echo(f'restored {wording.plural(snapshot.files, "file")} to {folder}')


@command.command('gc')
@click.option(
    '--older-than',
    type=Age(),
    default='30d',
    metavar='AGE',
    help='Only what was not used for so long: 30d, 12h, 2w; at least 1h. [default: 30d]',
)
@click.option('--dry-run', is_flag=True, help='Only say what would be removed.')
def gc(older_than: float, dry_run: bool) -> None:
    """Remove old snapshots that no recorded experiment refers to.

    \b
    Examples:
      xmanager snapshot gc --dry-run
      xmanager snapshot gc --older-than 7d
    """
    if older_than < _YOUNGEST:
        raise click.UsageError('--older-than takes at least 1h', click.get_current_context())
    with session.open_store(readonly=True) as store:
        users = _users(store).keys()
        done = [one.gc(users, older_than, dry_run) for one in _snapshots(store)]
    removed = [snapshot for one in done for snapshot in one.snapshots]
    for one in removed:
        damaged = '  (damaged)' if one.damaged else ''
        path = terminal.one_line(one.path)
        click.echo(f'{one.digest[:_DIGITS]}  {_size(one.bytes)}  {path}{damaged}')
    verb = 'would remove' if dry_run else 'removed'
    count = wording.plural(len(removed), 'snapshot')
    click.echo(f'{verb} {count} and {_size(sum(one.bytes for one in done))} of content')


def _snapshots(store: Store) -> Iterator[SnapshotStore]:
    """The home's, then those that are kept where clusters see them."""
    from xmanager.cli.kept_places import places
    from xmanager.snapshot import SnapshotStore

    for place in places(store):
        folder = place / 'snapshots'
        if place == store.home.path or folder.is_dir():
            yield SnapshotStore(folder)


def _find(store: Store, digest: str) -> tuple[SnapshotStore, Snapshot]:
    """The snapshot, and where it is kept. Raises NotFoundError, as the home's own would."""
    from xmanager.errors import NotFoundError

    unknown: NotFoundError | None = None
    for snapshots in _snapshots(store):
        try:
            return snapshots, snapshots.get(digest)
        except NotFoundError as error:
            unknown = unknown or error
    assert unknown is not None
    raise unknown


def _all_kept(store: Store) -> list[Kept]:
    """Each snapshot once, the one used last first."""
    found: dict[str, Kept] = {}
    for snapshots in _snapshots(store):
        for one in snapshots.list():
            other = found.get(one.digest)
            if other is None or one.used_at > other.used_at:
                found[one.digest] = one
    return sorted(found.values(), key=lambda one: (-one.used_at, one.digest))


def _users(store: Store) -> dict[str, list[int]]:
    """The experiments that refer to each snapshot, lowest first."""
    found: dict[str, set[int]] = {}
    for experiment_id, executable in store.executables():
        for digest in _references(executable):
            found.setdefault(digest, set()).add(experiment_id)
    return {digest: sorted(ids) for digest, ids in found.items()}


def _references(value: Any, is_reference: bool = False) -> Iterator[str]:
    """Whatever stands under `snapshot` or `kept`, at any depth."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _references(inner, is_reference or name in ('snapshot', 'kept'))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _references(inner, is_reference)
    elif is_reference and isinstance(value, str):
        yield value


def _named(ids: Sequence[int]) -> str:
    """`3, 7, 12`, or the last ones of many."""
    shown = ', '.join(map(str, ids[-_NAMED:]))
    more = len(ids) - _NAMED
    return f'{shown} and {more} more' if more > 0 else shown


def _size(amount: int) -> str:
    from xmanager.store.wording import size

    return size(amount)


def _row(one: Kept, users: Mapping[str, Sequence[int]]) -> list[str]:
    import time

    used = (
        wording.age(one.used_at, time.time())
        if terminal.is_terminal()
        else wording.iso(one.used_at)
    )
    return [
        one.digest[:_DIGITS],
        f'{one.files:,}',
        _size(one.bytes),
        used,
        _named(users.get(one.digest, ())) or '-',
        one.path or '-',
    ]


def _content_row(entry: Entry) -> list[str]:
    if entry.kind == 'link':
        return ['link', '', f'{entry.path} -> {entry.target}']
    if entry.kind == 'folder':
        return ['folder', '', f'{entry.path}/']
    return ['program' if entry.executable else 'file', _size(entry.size), entry.path]


def _summary(snapshot: Snapshot) -> list[list[str]]:
    """What stands at the top: of a folder, how much is in it."""
    folders: dict[str, list[int]] = {}
    rows = []
    for entry in snapshot.entries:
        top, slash, _ = entry.path.partition('/')
        if slash and entry.kind == 'file':
            folders[top].append(entry.size)
        elif not slash and entry.kind == 'folder':
            folders[top] = []
        elif not slash:
            rows.append(_content_row(entry))
    for name, sizes in folders.items():
        files = wording.plural(len(sizes), 'file')
        rows.append(['folder', _size(sum(sizes)), f'{name}/ ({files})'])
    return sorted(rows, key=lambda row: row[2])


def _view(one: Kept, users: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    return {
        'digest': one.digest,
        'files': one.files,
        'bytes': one.bytes,
        'used_at': wording.iso(one.used_at),
        'path': one.path,
        'experiments': list(users.get(one.digest, ())),
    }


def _entry_view(entry: Entry) -> dict[str, Any]:
    return {
        'path': entry.path,
        'kind': entry.kind,
        'executable': entry.executable,
        'bytes': entry.size if entry.kind == 'file' else None,
        'digest': entry.digest,
        'target': entry.target,
    }
