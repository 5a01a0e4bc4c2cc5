"""The read side: every SELECT of the store. Functions take an open transaction and return values."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import attrs

from xmanager.errors import NotFoundError
from xmanager.store.connection import Connection
from xmanager.store.home import Home
from xmanager.store.rows import (
    EVENT_COLUMNS,
    EXPERIMENT_COLUMNS,
    REQUEST_COLUMNS,
    STANDING_COLUMNS,
    TASK_COLUMNS,
    UNIT_COLUMNS,
    Row,
    event_from,
    experiment_from,
    request_from,
    units_from,
)
from xmanager.store.values import (
    ACTIVE_STATES,
    AUXILIARY,
    QUEUED,
    WORK,
    Event,
    ExperimentRecord,
    Request,
    Standing,
    UnitRecord,
)

_LABEL: Final = re.compile(r'(a?)([1-9][0-9]{0,17})')
_MOST_IDS: Final = 512
_UNIT_ORDERS: Final = {'number': 'id', 'queue': 'importance DESC, id'}


@attrs.frozen
class Queries:
    """What can be asked of the database of one home; `place` is what messages call it."""

    home: Home
    home_id: str
    place: str

    def experiment(self, connection: Connection, experiment_id: int) -> ExperimentRecord:
        row = self._experiment_row(connection, experiment_id)
        return self._with_counts(connection, [row])[0]

    def require_experiment(self, connection: Connection, experiment_id: int) -> None:
        """Raises NotFoundError if it isn't there. Unlike `experiment` it counts no units."""
        self._experiment_row(connection, experiment_id)

    def _experiment_row(self, connection: Connection, experiment_id: int) -> Row:
        row: Row | None = None
        if 0 < experiment_id < 2**63:  # Else it is no number that a database knows.
            sql = f'SELECT {EXPERIMENT_COLUMNS} FROM experiments WHERE id = :id'
            row = connection.execute(sql, {'id': experiment_id}).fetchone()
        if row is None:
            raise NotFoundError(f'there is no experiment {experiment_id} in {self.place}')
        return row

    def experiments(
        self,
        connection: Connection,
        limit: int | None,
        status: str | None,
        user: str | None,
        title: str | None,
    ) -> list[ExperimentRecord]:
        """Newest first. The limit is the database's unless Python must filter: titles (any alphabet), states."""
        sql = f'SELECT {EXPERIMENT_COLUMNS} FROM experiments'
        if user is not None:
            sql += ' WHERE user_name = :user'
        sql += ' ORDER BY id DESC'
        if limit is not None and title is None and status is None:
            sql += ' LIMIT :limit'
        rows = connection.execute(sql, _named(user=user, limit=limit)).fetchall()
        if title is not None:
            wanted = title.casefold()
            rows = [row for row in rows if wanted in row[1].casefold()]
        if status is None:
            return self._with_counts(connection, rows[:limit])
        return [e for e in self._with_counts(connection, rows) if e.state == status][:limit]

    def _with_counts(self, connection: Connection, rows: Sequence[Row]) -> list[ExperimentRecord]:
        if not rows:
            return []
        sql = """
            SELECT experiment_id, state, COUNT(*), MAX(ended_at) FROM units
            WHERE experiment_id BETWEEN :low AND :high GROUP BY experiment_id, state
        """
        counts: dict[int, dict[str, int]] = {}
        ends: dict[int, float | None] = {}
        for id, state, count, ended_at in connection.execute(
            sql, {'low': rows[-1][0], 'high': rows[0][0]}
        ):
            counts.setdefault(id, {})[state] = count
            if ended_at is not None:
                ends[id] = max(ended_at, ends.get(id) or ended_at)
        folder = self.home.experiments_folder
        records = []
        for row in rows:
            known = counts.get(row[0], {})
            ended = None if known.keys() & ACTIVE_STATES else ends.get(row[0])
            records.append(experiment_from(row, folder, known, ended))
        return records

    def units(
        self,
        connection: Connection,
        experiment_id: int,
        *,
        states: Iterable[str] | None,
        kind: str | None,
        after_id: int,
        limit: int | None,
        with_tasks: bool,
        order: str,
    ) -> list[UnitRecord]:
        if order not in _UNIT_ORDERS:
            raise ValueError(f'order={order!r}: expected one of {", ".join(_UNIT_ORDERS)}')
        sql = f'SELECT {UNIT_COLUMNS} FROM units WHERE experiment_id = :experiment_id'
        parameters = _named(experiment_id=experiment_id, kind=kind, limit=limit)
        if states is not None:
            among, names = _among('state', sorted(set(states)))
            sql += f' AND state IN ({among})'
            parameters |= names
        if kind is not None:
            sql += ' AND kind = :kind'
        if after_id:
            sql += ' AND id > :after_id'
            parameters['after_id'] = after_id
        # By state there are few: `+id` keeps SQLite from walking all units in the order of their ids to find them.
        by_few = states is not None and order == 'number'
        sql += ' ORDER BY +id' if by_few else f' ORDER BY {_UNIT_ORDERS[order]}'
        if limit is not None:
            sql += ' LIMIT :limit'
        rows = connection.execute(sql, parameters).fetchall()
        return self._with_tasks(connection, rows, with_tasks)

    def units_by_id(
        self, connection: Connection, ids: Iterable[int], with_tasks: bool
    ) -> list[UnitRecord]:
        """In the order of the ids, each once; ids that are no more are left out."""
        wanted = list(dict.fromkeys(ids))
        found: dict[int, Row] = {}
        for among, names in _chunks(wanted):
            sql = f'SELECT {UNIT_COLUMNS} FROM units WHERE id IN ({among})'
            found.update((row[0], row) for row in connection.execute(sql, names))
        rows = [found[id] for id in wanted if id in found]
        return self._with_tasks(connection, rows, with_tasks)

    def unit(self, connection: Connection, unit_id: int) -> UnitRecord:
        units = self.units_by_id(connection, [unit_id], with_tasks=True)
        if not units:
            raise NotFoundError(f'there is no unit with the internal id {unit_id} in {self.place}')
        return units[0]

    def unit_by_label(self, connection: Connection, experiment_id: int, label: str) -> UnitRecord:
        match = _LABEL.fullmatch(label)
        rows: Sequence[Row] = ()
        if match:
            sql = f"""
                SELECT {UNIT_COLUMNS} FROM units
                WHERE experiment_id = :experiment_id AND kind = :kind AND number = :number
            """
            kind = AUXILIARY if match[1] else WORK
            parameters = {'experiment_id': experiment_id, 'kind': kind, 'number': int(match[2])}
            rows = connection.execute(sql, parameters).fetchall()
        if not rows:
            self.experiment(connection, experiment_id)
            raise NotFoundError(
                f'experiment {experiment_id} has no unit {label!r}; '
                f'work units are called 1, 2, …, auxiliary ones a1, a2, …'
            )
        return self._with_tasks(connection, rows, True)[0]

    def _with_tasks(
        self, connection: Connection, rows: Sequence[Row], with_tasks: bool
    ) -> list[UnitRecord]:
        tasks: dict[int, list[Row]] = {}
        if with_tasks:
            for among, names in _chunks([row[0] for row in rows]):
                sql = f'SELECT {TASK_COLUMNS} FROM tasks WHERE unit_id IN ({among}) ORDER BY unit_id, position'
                for task in connection.execute(sql, names):
                    tasks.setdefault(task[0], []).append(task)
        return units_from(rows, self.home, self.home_id, tasks)


def standing(connection: Connection, ids: Iterable[int]) -> list[Standing]:
    """Where these units stand, in no particular order; ids that are no more are left out."""
    found: list[Standing] = []
    for among, names in _chunks([*ids]):
        sql = f'SELECT {STANDING_COLUMNS} FROM units WHERE id IN ({among})'
        found += [Standing(*row) for row in connection.execute(sql, names)]
    return found


def queue(
    connection: Connection, experiment_id: int, limit: int, only: str, without: Collection[str]
) -> list[tuple[int, int]]:
    sql = 'SELECT paused_at FROM experiments WHERE id = :id'
    row = connection.execute(sql, {'id': experiment_id}).fetchone()
    if row is None or row[0] is not None:
        return []
    chosen, names = _of_backends(only, without)
    sql = f"""
        SELECT id, importance FROM units WHERE experiment_id = :experiment_id AND state = 'queued' {chosen}
        ORDER BY importance DESC, id LIMIT :limit
    """
    parameters = {'experiment_id': experiment_id, 'limit': limit, **names}
    head = [(id, importance) for id, importance in connection.execute(sql, parameters)]
    # There are few of them. `number` makes SQLite find them by their kind: without it, it would go through the index
    # of the queue, which holds all that is asked for, from end to end.
    sql = f"""
        SELECT id, importance, state, number FROM units
        WHERE experiment_id = :experiment_id AND kind = :kind {chosen}
    """
    parameters = {'experiment_id': experiment_id, 'kind': AUXILIARY, **names}
    rows = connection.execute(sql, parameters).fetchall()
    seen = {id for id, _ in head}
    head += [(row[0], row[1]) for row in rows if row[2] == QUEUED and row[0] not in seen]
    return sorted(head, key=lambda one: (-one[1], one[0]))


def _of_backends(only: str, without: Collection[str]) -> tuple[str, dict[str, str]]:
    """A condition for the units of one back end, or of all but some."""
    if only:
        return 'AND backend = :only', {'only': only}
    names = {f'without_{i}': name for i, name in enumerate(sorted(without))}
    if not names:
        return '', {}
    return f'AND backend NOT IN ({", ".join(f":{name}" for name in names)})', names


def backends(
    connection: Connection, experiment_id: int, after_id: int
) -> tuple[frozenset[str], int]:
    parameters = {'experiment_id': experiment_id, 'after_id': after_id}
    sql = """
        SELECT backend, MAX(id) FROM units WHERE experiment_id = :experiment_id AND id > :after_id GROUP BY backend
    """
    last = dict(connection.execute(sql, parameters).fetchall())
    sql = "SELECT MIN(id) FROM units WHERE experiment_id = :experiment_id AND state = 'creating'"
    row = connection.execute(sql, {'experiment_id': experiment_id}).fetchone()
    up_to = max([after_id, *last.values()])
    if row is not None and row[0] is not None:
        up_to = min(up_to, row[0] - 1)
    return frozenset(name for name in last if name), up_to


def counts(connection: Connection, experiment_id: int, kind: str | None) -> dict[str, int]:
    sql = 'SELECT state, COUNT(*) FROM units WHERE experiment_id = :experiment_id'
    if kind is not None:
        sql += ' AND kind = :kind'
    parameters = _named(experiment_id=experiment_id, kind=kind)
    return dict(connection.execute(f'{sql} GROUP BY state', parameters).fetchall())


def events(
    connection: Connection, experiment_id: int | None, unit_id: int | None, after_id: int
) -> list[Event]:
    sql = f'SELECT {EVENT_COLUMNS} FROM events WHERE id > :after_id'
    if experiment_id is not None:
        sql += ' AND experiment_id = :experiment_id'
    if unit_id is not None:
        sql += ' AND unit_id = :unit_id'
    parameters = _named(experiment_id=experiment_id, unit_id=unit_id, after_id=after_id)
    return [event_from(row) for row in connection.execute(f'{sql} ORDER BY id', parameters)]


def last_event_id(connection: Connection, experiment_id: int) -> int:
    sql = 'SELECT MAX(id) FROM events WHERE experiment_id = :experiment_id'
    (id,) = connection.execute(sql, {'experiment_id': experiment_id}).fetchone()
    return id or 0


def revision(connection: Connection, experiment_id: int) -> int | None:
    """How often something of this experiment was committed; None if it isn't there."""
    sql = 'SELECT revision FROM experiments WHERE id = :id'
    row = connection.execute(sql, {'id': experiment_id}).fetchone()
    return row[0] if row else None


def experiments_of_units(connection: Connection, unit_ids: Iterable[int]) -> list[int]:
    """The experiments that these units belong to, lowest first."""
    return _experiments_of(connection, 'units', unit_ids)


def experiments_of_requests(connection: Connection, request_ids: Iterable[int]) -> list[int]:
    """The experiments that these requests are about, lowest first."""
    return _experiments_of(connection, 'requests', request_ids)


def _experiments_of(connection: Connection, table: str, ids: Iterable[int]) -> list[int]:
    found: set[int] = set()
    for among, names in _chunks(list(dict.fromkeys(ids))):
        sql = f'SELECT DISTINCT experiment_id FROM {table} WHERE id IN ({among})'
        found.update(row[0] for row in connection.execute(sql, names))
    return sorted(found)


def open_requests(connection: Connection, experiment_id: int) -> list[Request]:
    sql = f"""
        SELECT {REQUEST_COLUMNS} FROM requests
        WHERE experiment_id = :experiment_id AND finished_at IS NULL ORDER BY id
    """
    return [request_from(row) for row in connection.execute(sql, {'experiment_id': experiment_id})]


def specs(
    connection: Connection, after_id: int, limit: int
) -> Sequence[tuple[int, int, str | None]]:
    """Of the next units after this id, at most `limit`: id, experiment, and each task's spec (None of none)."""
    sql = """
        SELECT page.id, page.experiment_id, tasks.spec
        FROM (SELECT id, experiment_id FROM units WHERE id > :after_id ORDER BY id LIMIT :limit) AS page
        LEFT JOIN tasks ON tasks.unit_id = page.id ORDER BY page.id
    """
    rows = connection.execute(sql, {'after_id': after_id, 'limit': limit}).fetchall()
    return [(row[0], row[1], row[2]) for row in rows]


def _named(**parameters: Any) -> dict[str, Any]:
    """The parameters that were given: a driver may refuse one that the statement doesn't name."""
    return {name: value for name, value in parameters.items() if value is not None}


def _among(name: str, values: Sequence[Any]) -> tuple[str, dict[str, Any]]:
    """The inside of an IN (…) and its parameters."""
    names = {f'{name}{place}': value for place, value in enumerate(values)}
    return ', '.join(f':{name}' for name in names) or 'NULL', names


def _chunks(ids: Sequence[int]) -> Iterator[tuple[str, Mapping[str, int]]]:
    """IN-lists of a few lengths only (powers of two, the last id repeated), so that statements stay prepared."""
    for start in range(0, len(ids), _MOST_IDS):
        chunk = list(ids[start : start + _MOST_IDS])
        length = 1 << (len(chunk) - 1).bit_length()
        yield _among('id', chunk + chunk[-1:] * (length - len(chunk)))
