"""The installed `xmanager` command in a temporary home, with real processes."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.acceptance.desk import Desk, Result, Started

_PASSED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """Remembers whether the test itself has passed: a failed one need not have tidied up."""
    report = yield
    if report.when == 'call':
        item.stash[_PASSED] = report.passed
    return report


@pytest.fixture
def desk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Desk]:
    """A folder and a home. After the test nothing of this home may be alive."""
    desk = Desk(tmp_path / 'desk', tmp_path / 'home')
    try:
        yield desk
    finally:
        desk.tidy(request.node.stash.get(_PASSED, False))


@pytest.fixture
def home(desk: Desk) -> Path:
    """The XM_HOME of this test; nothing is in it yet."""
    return desk.home


@pytest.fixture
def launch(desk: Desk) -> Callable[..., Result]:
    """`launch(script_text, *flags)`: what it printed, and its exit code."""
    return desk.launch


@pytest.fixture
def start(desk: Desk) -> Callable[..., Started]:
    """`start(script_text, *flags)`: the launcher, running in the background."""
    return desk.start


@pytest.fixture
def xmanager(desk: Desk) -> Callable[..., Result]:
    """`xmanager('show', '1')`: any other command."""
    return desk.xmanager
