"""Experiments sent from this machine: create them, find them again, and the executors that say where jobs run."""

from __future__ import annotations

from xmanager.backends.local.executor import DockerOptions, Local, LocalSpec
from xmanager.launch.experiments import create_experiment, get_experiment, list_experiments

__all__ = [
    'DockerOptions',
    'Local',
    'LocalSpec',
    'create_experiment',
    'get_experiment',
    'list_experiments',
]
