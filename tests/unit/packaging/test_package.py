import importlib
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import attrs
import pytest

from xmanager import xm, xm_local
from xmanager.errors import PackagingError
from xmanager.packaging import Packaged, Workshop, package
from xmanager.packaging.side_by_side import call_all
from xmanager.xm.arguments import merge_args
from xmanager.xm.executables import BazelBinary, BazelContainer, Binary

# The function has the name of its module.
package_module = importlib.import_module('xmanager.packaging.package')

LOCAL = xm_local.Local.Spec()
DEADLINE = 20


class Packagers:
    """Packagers that note what they are given."""

    def __init__(self):
        self.calls = []
        self.barrier = None
        self.fails = {}

    def one(self, packageable, workshop):
        spec = packageable.executable_spec
        self.calls.append(spec.path)
        workshop.tell(spec.name, 'building it')
        if self.barrier is not None:
            self.barrier.wait(DEADLINE)
        if spec.path in self.fails:
            raise self.fails[spec.path]
        return Packaged(spec.name, ('run', spec.path), facts={'kind': 'binary'})

    def group(self, packageables, workshop):
        labels = [one.executable_spec.label for one in packageables]
        self.calls.append(labels)
        return [Packaged(one.executable_spec.name, (label,))
                for one, label in zip(packageables, labels, strict=True)]  # fmt: skip


@pytest.fixture
def packagers(monkeypatch):
    packagers = Packagers()
    functions = {'one': packagers.one, 'group': packagers.group}
    monkeypatch.setattr(package_module, '_load', lambda module, name: functions[name])
    monkeypatch.setattr(package_module, '_PACKAGERS', {Binary: ('', 'one')})
    groups = {BazelBinary: ('', 'group'), BazelContainer: ('', 'group')}
    monkeypatch.setattr(package_module, '_GROUP_PACKAGERS', groups)
    return packagers


@pytest.fixture
def workshop(tmp_path):
    return Workshop(tmp_path)


def argv(packaged):
    return list(merge_args(packaged.args).to_argv())


def binary(path, **more):
    return xm.binary(LOCAL, path, **more)


def test_the_order_is_kept(packagers, workshop):
    packaged = package([binary(f'p{n}') for n in range(20)], workshop)
    assert [one.command[1] for one in packaged] == [f'p{n}' for n in range(20)]


def test_what_is_asked_for_twice_is_packaged_once(packagers, workshop):
    packaged = package(
        [binary('a', args={'x': 1}), binary('b'), binary('a', args={'x': 2}, env_vars={'A': '1'})],
        workshop,
    )
    assert sorted(packagers.calls) == ['a', 'b']
    assert [one.name for one in packaged] == ['a', 'b', 'a']
    assert [argv(one) for one in packaged] == [['--x=1'], [], ['--x=2']]
    assert [one.env_vars for one in packaged] == [{}, {}, {'A': '1'}]
    assert packaged[0].facts is packaged[2].facts


def test_what_differs_in_one_field_is_packaged_for_itself(packagers, workshop):
    @attrs.frozen
    class Data(xm.BinaryDependency):
        path: str

    dependencies = [[], [Data('x')], [Data('y')], [Data('x')]]
    package([xm.binary(LOCAL, 'a', dependencies=each) for each in dependencies], workshop)
    assert packagers.calls == ['a', 'a', 'a']


def test_what_is_packaged_for_two_back_ends_is_packaged_for_each(packagers, workshop):
    there = xm_local.Slurm.Spec()
    mixed = [
        xm.binary(LOCAL, '/a'),
        xm.binary(there, '/a'),
        xm.binary(there, '/b'),
        xm.binary(there, '/a'),
    ]
    packaged = package(mixed, workshop)
    assert [one.command[1] for one in packaged] == ['/a', '/a', '/b', '/a']
    assert sorted(packagers.calls) == ['/a', '/a', '/b']


def test_a_later_batch_packages_again_for_files_may_have_changed(packagers, workshop):
    package([binary('a')], workshop)
    package([binary('a')], workshop)
    assert packagers.calls == ['a', 'a']


def test_several_are_packaged_at_the_same_time(packagers, workshop):
    packagers.barrier = threading.Barrier(3)
    package([binary('a'), binary('b'), binary('c')], workshop)
    assert sorted(packagers.calls) == ['a', 'b', 'c']


def test_a_group_packager_gets_all_of_its_kinds_in_one_call(packagers, workshop):
    packaged = package(
        [
            xm.bazel_binary(LOCAL, '//:a'),
            binary('p'),
            xm.bazel_container(LOCAL, '//:image.tar'),
            xm.bazel_binary(LOCAL, '//:a', args={'x': 1}),
        ],
        workshop,
    )
    assert sorted(packagers.calls, key=str) == [['//:a', '//:image.tar'], 'p']
    assert [one.command[-1] for one in packaged] == ['//:a', 'p', '//:image.tar', '//:a']
    assert [argv(one) for one in packaged] == [[], [], [], ['--x=1']]


def test_nothing_is_packaged_if_one_of_them_can_not_be(packagers, workshop):
    class Unknown(xm.ExecutableSpec):
        name = 'strange'

    with pytest.raises(PackagingError, match='Unknown is no executable specification'):
        package([binary('a'), xm.Packageable(Unknown(), LOCAL)], workshop)
    with pytest.raises(PackagingError, match=r"'a' can't be packaged: xm_local\.Vertex needs"):
        package([binary('b'), xm.binary(xm_local.Vertex.Spec(), 'a')], workshop)
    assert packagers.calls == []


@pytest.mark.parametrize(
    ('error', 'said'),
    [
        (PackagingError('the engine is away.'), "'bad_one' can't be packaged: the engine is away."),
        (PackagingError("xm.binary('bad/one'): no."), "xm.binary('bad/one'): no."),
        (PackagingError('bad_one is not there.'), 'bad_one is not there.'),
        (OSError(28, 'No space left'), "'bad_one' can't be packaged: [Errno 28] No space left"),
    ],
)
def test_an_error_names_what_could_not_be_packaged(packagers, workshop, error, said):
    spec = 'bad/one' if 'bad/one' in str(error) else 'bad_one'
    packagers.fails = {spec: error}
    with pytest.raises(PackagingError) as caught:
        package([binary(spec), binary('fine')], workshop)
    assert str(caught.value) == said


def test_a_mistake_of_the_program_is_raised_as_it_is(packagers, workshop):
    packagers.fails = {'a': ZeroDivisionError()}
    with pytest.raises(ZeroDivisionError):
        package([binary('a'), binary('b')], workshop)


def test_the_person_is_told_of_each_and_of_its_end(packagers, tmp_path):
    told = []
    package([binary('a')], Workshop(tmp_path, tell=lambda *words: told.append(words)))
    assert told == [('a', 'packaging'), ('a', 'building it'), ('a', '')]


# Several calls at a time.


def test_after_an_error_nothing_more_is_begun():
    begun = []
    first = threading.Event()

    def fail():
        raise ValueError('first')

    def wait():
        first.wait(DEADLINE)

    def note(number):
        begun.append(number)
        first.wait(DEADLINE)

    calls = [fail, *([lambda n=n: note(n) for n in range(100)])]
    try:
        with pytest.raises(ValueError, match='first'):
            call_all(calls, patience=0.05)
    finally:
        first.set()
    assert len(begun) < 100


def test_those_at_work_get_a_moment_to_end_in_after_an_error():
    begun, ended = threading.Event(), []

    def fail():
        begun.wait(DEADLINE)
        raise ValueError('early')

    def work():
        begun.set()
        ended.append(True)

    with pytest.raises(ValueError, match='early'):
        call_all([fail, work], patience=DEADLINE)
    assert ended == [True]


def test_ctrl_c_is_raised_at_once_whatever_is_at_work():
    over = threading.Event()
    main = threading.main_thread().ident
    assert main is not None

    def press():
        signal.pthread_kill(main, signal.SIGINT)
        over.wait(DEADLINE)

    try:
        with pytest.raises(KeyboardInterrupt):
            call_all([press, lambda: over.wait(DEADLINE)])
        assert not over.is_set()
    finally:
        over.set()


def test_it_may_be_called_from_several_threads_at_once():
    with ThreadPoolExecutor(4) as executor:
        calls = [lambda n=n: n for n in range(10)]
        results = list(executor.map(lambda _: call_all(calls), range(20)))
    assert results == [list(range(10))] * 20
