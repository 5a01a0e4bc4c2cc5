"""Experiments sent from this machine: create them, find them again, and the executors that say where jobs run."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from xmanager.backends.kubernetes.executor import Kubernetes, KubernetesSpec, TpuCapability
from xmanager.backends.local.docker_options import DockerOptions
from xmanager.backends.local.executor import Local, LocalSpec
from xmanager.backends.slurm.executor import Slurm, SlurmSpec
from xmanager.backends.vertex.executor import (
    Caip,
    CaipSpec,
    TensorboardCapability,
    Vertex,
    VertexSpec,
)
from xmanager.xm_local import auth

if TYPE_CHECKING:
    from xmanager.launch.experiments import create_experiment, get_experiment, list_experiments

__all__ = [
    'Caip',
    'CaipSpec',
    'DockerOptions',
    'Kubernetes',
    'KubernetesSpec',
    'Local',
    'LocalSpec',
    'Slurm',
    'SlurmSpec',
    'TensorboardCapability',
    'TpuCapability',
    'Vertex',
    'VertexSpec',
    'auth',
    'create_experiment',
    'get_experiment',
    'list_experiments',
]

_OF_EXPERIMENTS = frozenset({'create_experiment', 'get_experiment', 'list_experiments'})


def __getattr__(name: str) -> object:
    # The store, the event loop and the rest of what an experiment needs cost more than all other imports.
    if name in _OF_EXPERIMENTS:
        from xmanager.launch import experiments

        value: object = getattr(experiments, name)
        globals()[name] = value
        return value
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
    return sorted({*globals(), *_OF_EXPERIMENTS})


if (
    'absl.flags' in sys.modules
):  # The script parses flags by absl, ours among them, before it creates an experiment.
    from xmanager.launch.settings import define_absl_flags

    define_absl_flags()
