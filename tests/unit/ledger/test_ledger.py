"""The ledger's files and locks: turns, entries of the living and the dead, jobs that keep what they hold."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import attrs
import pytest

from xmanager.errors import LedgerError
from xmanager.ledger import Entry, Hold, Ledger, Reader, Want, locks, place
from xmanager.ledger.ledger import FRESH_SECONDS
from xmanager.ledger.text import decode, encode

DEMAND = {'train': {'cpu': 1.0, 'local_gpu': 2.0}}
HOLD = Hold('key-of-3', '3', DEMAND, {'train': {'local_gpu': ('0', '1')}}, 10.0, 70.0)


def entry(owner: str, **facts: object) -> Entry:
    facts = {
        'user': 'ada',
        'home': '/home',
        'experiment_id': 9,
        'pid': 1,
        'wake_pipe': '/wake',
        **facts,
    }
    return Entry(owner=owner, **facts)  # type: ignore[arg-type]


def want(id: int, **facts: object) -> Want:
    return Want('a', id, str(id), 0, 5.0, DEMAND, **facts)  # type: ignore[arg-type]


@pytest.fixture
def here(tmp_path: Path) -> place.Place:
    return place.prepare(tmp_path / 'ledger')


def read(here: place.Place) -> list[Entry]:
    reader = Reader(here)
    try:
        return reader.entries()
    finally:
        reader.close()


def write(here: place.Place, owner: str, holds=(), wants=()) -> Ledger:
    ledger = Ledger(here, entry(owner))
    with ledger.turn():
        ledger.write(holds, wants)
    return ledger


def test_an_entry_is_read_as_it_was_written():
    whole = entry('a', holds=(HOLD,), wants=(want(4, limit=60.0),))
    assert decode(encode(whole)) == whole


def test_units_of_a_sweep_are_written_as_one_want_with_their_number():
    wants = (want(4), want(5), want(6), want(7, limit=9.0), want(8))
    told = decode(encode(entry('a', wants=wants))).wants
    assert [(one.id, one.count) for one in told] == [(4, 3), (7, 1), (8, 1)]


def test_others_see_what_one_holds_and_waits_for(here):
    a = write(here, 'a', [HOLD], [want(4)])
    b = Ledger(here, entry('b'))
    with b.turn() as others:
        assert [(one.owner, one.holds, one.wants) for one in others] == [('a', (HOLD,), (want(4),))]
    a.close()
    b.close()


def test_what_a_dead_owner_held_is_free_again_and_its_file_is_removed(here):
    write(here, 'a', [HOLD], [want(4)]).close()
    b = Ledger(here, entry('b'))
    with b.turn() as others:
        assert others == []
    b.close()
    assert not list(here.folder.glob('*.json'))


def test_what_a_job_holds_outlives_its_owner_and_ends_with_the_job(here):
    a = write(here, 'a', [HOLD, attrs.evolve(HOLD, key='of-nobody')], [want(4)])
    lease = locks.hold(here.holders, HOLD.key)
    job = subprocess.Popen(['sleep', '60'], pass_fds=[lease])
    os.close(lease)
    a.close()
    [left] = read(here)
    assert (left.alive, left.holds, left.wants) == (False, (HOLD,), ())
    job.kill()
    job.wait()
    b = Ledger(here, entry('b'))
    with b.turn() as others:
        assert others == []
    b.close()


def test_an_owner_that_is_killed_is_dead(here):
    code = (
        'import sys, time\n'
        'from xmanager.ledger import locks\n'
        'locks.hold(__import__("pathlib").Path(sys.argv[1]), "a")\n'
        'print(flush=True); time.sleep(60)'
    )
    owner = subprocess.Popen([sys.executable, '-c', code, here.holders], stdout=subprocess.PIPE)
    assert owner.stdout is not None
    owner.stdout.readline()
    (here.folder / 'a.json').write_bytes(encode(entry('a', holds=(HOLD,))))
    assert [one.alive for one in read(here)] == [True]
    owner.kill()
    owner.communicate()
    assert [(one.alive, one.holds) for one in read(here)] == [(False, ())]


def test_an_owner_that_has_not_been_heard_of_waits_for_nothing_but_keeps_what_it_holds(here):
    a = write(here, 'a', [HOLD], [want(4)])
    written = (here.folder / 'a.json').stat().st_mtime
    reader = Reader(here, clock=lambda: written + FRESH_SECONDS + 1)
    assert [(one.holds, one.wants) for one in reader.entries()] == [((HOLD,), ())]
    os.utime(here.folder / 'a.json')
    with a.turn():
        a.write([HOLD], [want(4)])
    assert len(read(here)[0].wants) == 1
    reader.close()
    a.close()


def test_who_leaves_has_no_entry(here):
    a = write(here, 'a', [HOLD])
    with a.turn():
        a.leave()
    a.close()
    assert read(here) == []


def test_an_entry_that_was_removed_is_written_again(here):
    a = write(here, 'a', [HOLD])
    (here.folder / 'a.json').unlink()
    with a.turn():
        a.write([HOLD], [])
    assert [one.holds for one in read(here)] == [(HOLD,)]
    a.close()


def test_owners_whose_ledger_was_removed_meet_in_a_new_one(here):
    a, b = write(here, 'a', [HOLD]), write(here, 'b')
    shutil.rmtree(here.folder)
    for ledger, holds in ((a, [HOLD]), (b, [])):
        with ledger.turn():
            ledger.write(holds, [])
    with b.turn() as others:
        assert [(one.owner, one.alive, one.holds) for one in others] == [('a', True, (HOLD,))]
    a.close()
    b.close()


@pytest.mark.parametrize('text', ['', '{}', '[1]', '{"format":2}', '\x00\xff'])
def test_a_file_that_is_no_entry_is_left_out_of_account_with_a_warning(here, text, caplog):
    (here.folder / 'b.json').write_text(text)
    assert read(here) == []
    assert 'is left out of account' in caplog.text


def test_a_link_is_not_followed(here, tmp_path, caplog):
    (tmp_path / 'elsewhere').write_bytes(encode(entry('b', holds=(HOLD,))))
    (here.folder / 'b.json').symlink_to(tmp_path / 'elsewhere')
    assert read(here) == []


def test_only_one_has_its_turn(here, monkeypatch):
    monkeypatch.setattr('xmanager.ledger.ledger._PATIENCE', 0.05)
    a, b = Ledger(here, entry('a')), Ledger(here, entry('b'))
    with a.turn(), pytest.raises(LedgerError, match=r'has kept .*turn locked for 0.05 s'), b.turn():
        pass
    with b.turn():
        pass
    a.close()
    b.close()


def test_a_ledger_of_ones_own_is_for_oneself_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(place, 'own_folder', lambda: tmp_path / 'own')
    here = place.prepare(tmp_path / 'own')
    assert not here.shared
    assert here.folder.stat().st_mode & 0o777 == 0o700
    here.folder.chmod(0o777)
    with pytest.raises(LedgerError, match=r'others can write to .*own. Run: chmod 700'):
        place.prepare(here.folder)


def test_a_common_ledger_must_be_sticky_and_its_files_can_be_read_by_all(tmp_path):
    folder = tmp_path / 'common'
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(
        LedgerError, match=r"remove each other's entries. As its owner run: chmod \+t"
    ):
        place.prepare(folder)
    folder.chmod(0o1777)
    here = place.prepare(folder)
    assert here.shared
    write(here, 'a', [HOLD]).close()
    modes = {file.name: file.stat().st_mode & 0o777 for file in folder.iterdir()}
    assert modes == {'holders': 0o644, 'turn': 0o644, 'a.json': 0o644}


def test_a_ledger_that_is_no_folder_is_told_with_a_sentence(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(
        LedgerError, match=r'the ledger of this host, .*file, cannot be used: File exists'
    ):
        place.prepare(tmp_path / 'file')


def test_the_setting_names_the_folder_else_it_is_one_for_each_user():
    assert place.locate({'XM_LOCAL_LEDGER': '/srv/ledger'}) == Path('/srv/ledger')
    assert place.locate({}) == Path(f'/var/tmp/xmanager-{os.getuid()}')


@pytest.mark.skipif(os.getuid() != 0, reason='needs root to be two users')
def test_two_users_keep_account_in_a_common_folder(tmp_path):
    folder = tmp_path / 'common'
    folder.mkdir()
    made = Path(tempfile.gettempdir()).resolve()
    for step in folder.resolve().parents:  # What pytest made, for its user alone.
        if step == made:
            break
        step.chmod(0o755)
    folder.chmod(0o1777)
    here = place.prepare(folder)
    a = write(here, 'a', [HOLD])
    code = (
        'import os, sys, fcntl\n'
        'from pathlib import Path\n'
        'from xmanager.ledger import Ledger, Entry, place, ledger\n'
        'os.setuid(65534)\n'
        'here = place.prepare(Path(sys.argv[1]))\n'
        'b = Ledger(here, Entry("b", "nobody", "/", 1, os.getpid(), ""))\n'
        'with b.turn() as others: print([one.owner for one in others]); b.write([], [])\n'
        'with b.turn(): b.leave()'
    )
    done = subprocess.run(
        [sys.executable, '-c', code, folder], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("['a']\n", '')
    a.close()
