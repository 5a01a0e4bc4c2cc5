"""The fake back end keeps the contract of all back ends, without a process, on a clock of its own."""

import pytest

from xmanager.testing.backend_contract import BackendContract
from xmanager.testing.backend_recovery_contract import PiecewiseContract
from xmanager.testing.fake_backend import FakeBackend, FakeEngine


class TestFakeBackend(BackendContract, PiecewiseContract):
    succeed = ('exit', '0')
    exit_with_7 = ('exit', '7')
    die_by_signal_9 = ('kill', '9')
    run_on = ('run',)
    ignore_term = ('ignore-term',)
    echo = ('echo',)
    missing = ('no-such-program',)

    @pytest.fixture(autouse=True)
    def _engine(self, tmp_path):
        self.folder = tmp_path
        self.engine = FakeEngine()
        self.now = 1000.0

    def make_backend(self):
        return FakeBackend(
            engine=self.engine, clock=lambda: self.now, amounts={'cpu': 2.0, 'local_gpu': 1.0}
        )

    def make_unit(self, *argvs, **settings):
        return self.unit_in(self.folder, *argvs, **settings)

    def pass_time(self, seconds):
        self.now += seconds

    def wait_until_term_is_ignored(self, unit):
        """From its first moment."""
