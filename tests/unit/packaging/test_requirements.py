import pytest

from xmanager.errors import PackagingError
from xmanager.packaging.requirements import find_requirements


def find(**files):
    named = {path.replace('__', '/'): text for path, text in files.items()}
    return find_requirements(named, lambda path: named[path].encode(), 'app')


def of(text, **more):
    named = {'requirements.txt': text, **more}
    return find_requirements(named, lambda path: named[path].encode(), 'app')


def test_a_folder_without_a_lock_or_with_an_empty_one_asks_for_nothing():
    assert find_requirements(['main.py'], lambda path: b'', 'app') is None
    assert of('# nothing\n\n') is None
    assert of('--index-url https://x/simple\n') is None


def test_requirements_go_before_other_locks():
    found = of('numpy', **{'uv.lock': '', 'pyproject.toml': '', 'pylock.toml': ''})
    assert found.lock == 'requirements.txt'
    assert of('numpy').files == {'requirements.txt': b'numpy'}


def test_all_that_requirements_refer_to_belongs_to_them():
    found = of(
        '-r more/dev.txt\n--constraint=c.txt # why\n--find-links wheels\n./vendored/a-1-py3-none-any.whl\n',
        **{
            'more/dev.txt': '-r ../c.txt\nrich',
            'c.txt': 'numpy==1',
            'wheels/b-1-py3-none-any.whl': 'b',
            'vendored/a-1-py3-none-any.whl': 'a',
            'main.py': '',
        },
    )
    assert set(found.files) == {
        'requirements.txt', 'more/dev.txt', 'c.txt', 'wheels/b-1-py3-none-any.whl',
        'vendored/a-1-py3-none-any.whl',
    }  # fmt: skip


def test_the_digest_changes_with_anything_that_is_referred_to():
    one = of('-r more.txt', **{'more.txt': 'numpy==1'})
    other = of('-r more.txt', **{'more.txt': 'numpy==2'})
    assert one.digest != other.digest
    assert one.digest == of('-r more.txt', **{'more.txt': 'numpy==1', 'main.py': 'x'}).digest


def test_they_are_written_where_they_were(tmp_path):
    lock = of('-r more/dev.txt', **{'more/dev.txt': 'rich'}).write(tmp_path)
    assert lock == tmp_path / 'requirements.txt'
    assert (tmp_path / 'more' / 'dev.txt').read_text() == 'rich'


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('-r missing.txt', "name 'missing.txt', which is not in the folder"),
        ('-r ../outside.txt', "'../outside.txt', which is not in the folder"),
        ('-e .', "'-e .', which would have to be built"),
        ('.', "asks for '.', which would have to be built"),
        ('./sub/pkg', 'which would have to be built'),
    ],
)
def test_what_is_missing_or_has_to_be_built_is_refused(text, said):
    with pytest.raises(PackagingError) as caught:
        of(text)
    assert said in str(caught.value)


def test_files_that_include_one_another_end():
    assert of('-r b.txt', **{'b.txt': '-r requirements.txt\nnumpy'}).lock == 'requirements.txt'


def test_requirements_that_are_not_text_are_refused():
    with pytest.raises(PackagingError, match='is not UTF-8'):
        find_requirements(['requirements.txt'], lambda path: b'\xff\xfe', 'app')


def test_a_lock_of_uv_needs_its_project():
    with pytest.raises(PackagingError, match=r'no pyproject\.toml beside it'):
        find_requirements(['uv.lock'], lambda path: b'', 'app')
    found = find_requirements(['uv.lock', 'pyproject.toml'], lambda path: b'x', 'app')
    assert found is not None
    assert set(found.files) == {'uv.lock', 'pyproject.toml'}


def test_remote_requirements_are_left_to_uv():
    found = of('alpha @ https://host/alpha.whl\n--extra-index-url https://host/simple')
    assert set(found.files) == {'requirements.txt'}


@pytest.mark.parametrize(
    'line',
    [
        'foo @ file:///x/foo-1.whl', 'foo @ ./foo-1.whl', 'file:///x/foo-1.whl', '/x/foo-1.whl', '~/foo-1.whl',
        'git+file:///x/repository', 'foo @ git+file:///x/repository', '--find-links /x/wheels', '-i file:///x/simple',
        '-r file:///x/more.txt',
    ],
)  # fmt: skip
def test_what_lies_elsewhere_on_this_machine_is_refused(line):
    with pytest.raises(PackagingError, match='lies on this machine and may change') as caught:
        of(line)
    assert line in str(caught.value)


def test_a_quote_without_its_end_is_told_with_file_and_line():
    with pytest.raises(
        PackagingError, match=r"app: more\.txt has a line that can't be read"
    ) as caught:
        of('-r more.txt', **{'more.txt': "numpy; python_version > '3"})
    assert 'python_version' in str(caught.value)
