"""Packages as an experiment of `xm_local` does, for tests that need no experiment."""

from xmanager.launch.experiment import RecordedExperiment
from xmanager.packaging import Packaged
from xmanager.xm.packageables import Packageable


def package(*packageables: Packageable) -> list[Packaged]:
    """All of them, into the home of the test."""
    packaged = RecordedExperiment.package(packageables)
    assert all(isinstance(one, Packaged) for one in packaged)
    return packaged  # type: ignore[return-value]
