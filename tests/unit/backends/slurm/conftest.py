"""Elements under every shell that may be /bin/sh, and the certainty that none of them outlives its test."""

import pytest
from tests.unit.backends.slurm.node.started import SHELLS, Started, write
from tests.unit.backends.slurm.steps import a_request

from xmanager.backends.slurm.arrays import Bounds, batches


@pytest.fixture(params=SHELLS, ids=' '.join)
def shell(request):
    return request.param


@pytest.fixture
def start(shell, tmp_path):
    started = []

    def start(*argv, batch_id='', number=1, environ=None, **fields):
        out = f'{tmp_path}/experiments/1/{number}/train/out'
        env = {'XM_OUTPUT_DIR': out, **fields.pop('env', {})}
        request = a_request(root=str(tmp_path), number=number, argv=argv, env=env, **fields)
        [batch] = batches([request], Bounds(), lambda: batch_id or f'b{number}')
        write(batch)
        started.append(Started(shell, batch, environ or {}))
        return started[-1]

    yield start
    # Whose end was told has left nothing behind, for Slurm may not find it either.
    left = [one.left() for one in started if one.process.returncode is not None]
    for one in started:
        one.kill()
    assert not any(left), left
