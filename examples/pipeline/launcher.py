"""A pipeline: fit a line twice, wait, evaluate the better fit on points that neither has seen.

Run it with `xmanager launch examples/pipeline/launcher.py`, or with more points by adding
`-- --points=500`. It is an absl script with a flag of its own, and asynchronous: it awaits each
step.
"""

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from xmanager import xm, xm_local

HERE = Path(__file__).resolve().parent
POINTS = flags.DEFINE_integer('points', 200, 'Points to fit.')


@xm.run_in_asyncio_loop
async def main(_: Sequence[str]) -> None:
    async with xm_local.create_experiment('pipeline') as experiment:
        train, evaluate = experiment.package(
            [
                xm.binary(xm_local.Local.Spec(), path=sys.executable, args=[str(HERE / program)])
                for program in ('train.py', 'evaluate.py')
            ]
        )
        units = [
            await experiment.add(
                xm.Job(train, xm_local.Local()),
                args={'args': {'points': POINTS.value, 'epochs': epochs}},
            )
            for epochs in (5, 50)
        ]
        await asyncio.gather(*(unit.wait_until_complete() for unit in units))

        models = [unit.jobs[0].output_dir / 'model.json' for unit in units]
        best = min(models, key=lambda model: float(json.loads(model.read_text())['loss']))
        unit = await experiment.add(
            xm.Job(evaluate, xm_local.Local()), args={'args': {'model': best}}
        )
        await unit.wait_until_complete()


if __name__ == '__main__':
    app.run(main)
