import io
import tarfile

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmanager.errors import PackagingError
from xmanager.images.layer import MODIFIED, tar_chunks


@attrs.frozen
class Entry:
    path: str
    kind: str = 'file'
    executable: bool = False
    size: int = 0
    target: str = ''


def tar_of(*entries, data=b'x' * 100_000, place='app'):
    return b''.join(tar_chunks(entries, lambda entry: io.BytesIO(data[: entry.size]), place))


def members_of(tar):
    with tarfile.open(fileobj=io.BytesIO(tar), mode='r:') as archive:
        return {member.name: member for member in archive}


def test_everything_belongs_to_root_and_is_of_one_age_with_folders_before_what_is_in_them():
    tar = tar_of(
        Entry('b/run.sh', executable=True, size=3),
        Entry('a.py', size=600),
        Entry('link', 'link', target='b/run.sh'),
        Entry('empty', 'folder'),
    )
    members = members_of(tar)
    assert list(members) == ['app', 'app/a.py', 'app/b', 'app/b/run.sh', 'app/empty', 'app/link']
    assert {(one.uid, one.gid, one.mtime) for one in members.values()} == {(0, 0, MODIFIED)}
    assert oct(members['app/a.py'].mode) == '0o644'
    assert oct(members['app/b/run.sh'].mode) == oct(members['app/b'].mode) == '0o755'
    assert members['app/link'].linkname == 'b/run.sh'
    assert members['app/a.py'].size == 600


def test_the_order_of_the_entries_does_not_matter():
    one, other = Entry('a', size=1), Entry('é', size=2)
    assert tar_of(one, other) == tar_of(other, one)


def test_a_folder_deep_inside_the_image_is_made_with_those_that_lead_to_it():
    members = members_of(tar_of(Entry('m.py'), place='workdir/app'))
    assert list(members) == ['workdir', 'workdir/app', 'workdir/app/m.py']


_name = st.text(
    st.characters(exclude_characters='/\0', exclude_categories=['Cs']), min_size=1, max_size=90
).filter(lambda name: name not in ('.', '..') and not name.startswith('.wh.'))
_bytes_name = st.binary(min_size=1, max_size=120).map(
    lambda raw: raw.replace(b'/', b'a').replace(b'\0', b'a').decode(errors='surrogateescape')
)
_path = st.lists(
    _name
    | _bytes_name.filter(lambda name: name not in ('.', '..') and not name.startswith('.wh.')),
    min_size=1,
    max_size=4,
).map('/'.join)


@given(_path, _name)
def test_any_name_reads_back_byte_for_byte(path, target):
    members = members_of(tar_of(Entry(path, 'link', target=target * 3)))
    (link,) = (one for one in members.values() if one.issym())
    assert link.name.encode(errors='surrogateescape') == f'app/{path}'.encode(
        errors='surrogateescape'
    )
    assert link.linkname == target * 3


@pytest.mark.parametrize('length', [90, 96, 97, 99, 100, 101, 150, 155, 156, 250, 260, 300])
def test_names_around_the_lengths_of_the_fields_read_back(length):
    for path in ('n' * length, 'd/' * (length // 2) + 'n', 'd' * (length // 2) + '/' + 'n' * 99):
        assert f'app/{path}' in members_of(tar_of(Entry(path)))


@pytest.mark.parametrize('path', ['/etc/passwd', '../x', 'a/../x', 'a//b', '', '.'])
def test_a_path_that_leads_elsewhere_is_refused(path):
    with pytest.raises(PackagingError, match='is no path inside a layer'):
        tar_of(Entry(path))


def test_a_name_that_deletes_files_in_an_image_is_refused():
    with pytest.raises(PackagingError, match=r"begin with '\.wh\.' delete files there"):
        tar_of(Entry('a/.wh.python3'))


@pytest.mark.parametrize('size', [5, 7, 2_000_000])
def test_a_file_that_is_not_as_long_as_it_was_is_refused(size):
    with pytest.raises(PackagingError, match='was changed while it was read'):
        b''.join(tar_chunks([Entry('a', size=6)], lambda _: io.BytesIO(bytes(size)), ''))


def test_a_size_that_does_not_fit_in_the_header_is_written_beside_it():
    chunks = tar_chunks([Entry('huge', size=9 * 2**30)], lambda _: io.BytesIO(), '')
    header = next(chunks) + bytes(1024)
    with tarfile.open(fileobj=io.BytesIO(header), mode='r:') as archive:
        member = archive.next()
    assert member is not None
    assert (member.name, member.size) == ('huge', 9 * 2**30)
