"""The names of `xm_local`, and what importing it costs."""

import subprocess
import sys
from pathlib import Path

import pytest

import xmanager
from xmanager import xm_local

# About 35 are ours, 20 those of attrs, and the rest the standard library's; 33 are there in a bare Python.
MOST_MODULES = 170

TOO_HEAVY = {
    'absl',
    'alembic',
    'asyncio',
    'click',
    'concurrent',
    'docker',
    'google',
    'kubernetes',
    'rich',
    'sqlalchemy',
    'sqlite3',
    'ssl',
    'yaml',
}


def modules_loaded_by(statement):
    source = str(Path(xmanager.__file__).parents[1])
    program = f'import sys; sys.path.insert(0, {source!r}); {statement}; print(*sys.modules)'
    run = subprocess.run(
        [sys.executable, '-c', program], check=True, capture_output=True, text=True
    )
    return run.stdout.split()


def test_the_public_names_are_these():
    assert sorted(xm_local.__all__) == [
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
    assert set(xm_local.__all__) <= set(dir(xm_local))
    assert all(getattr(xm_local, name) is not None for name in xm_local.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match='BazelContainer'):
        xm_local.BazelContainer  # noqa: B018


def test_importing_it_loads_no_client_no_database_and_no_event_loop():
    loaded = modules_loaded_by('import xmanager.xm_local')
    assert not {name.partition('.')[0] for name in loaded} & TOO_HEAVY
    assert len(loaded) <= MOST_MODULES


def test_functions_can_be_imported_by_name():
    loaded = modules_loaded_by('from xmanager.xm_local import create_experiment')
    assert 'xmanager.launch.experiments' in loaded


def test_flags_are_defined_on_import_where_the_script_uses_absl():
    loaded = modules_loaded_by(
        'from absl import flags; from xmanager import xm_local; '
        'assert "xm_launch_script" in flags.FLAGS'
    )
    assert 'absl.flags' in loaded
