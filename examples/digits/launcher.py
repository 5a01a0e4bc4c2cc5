"""A sweep on real data: 12 small networks learn handwritten digits and are ranked in a table.

Run it with `xmanager launch examples/digits/launcher.py`. It awaits its units, because it reads what they wrote: so it
runs on a cluster just as well.
"""

import asyncio
import itertools
import json

from xmanager import xm, xm_local

LEARNING_RATES = (0.0003, 0.003, 0.03)
WIDTHS = (16, 64)
SEEDS = (1, 2)


@xm.run_in_asyncio_loop
async def main() -> None:
    async with xm_local.create_experiment('digits') as experiment:
        [train] = experiment.package(
            [
                xm.python_package(
                    xm_local.Local.Spec(),
                    path='.',
                    entrypoint=xm.ModuleName('train'),
                    # Units run side by side, one a CPU: more threads would only fight.
                    env_vars={'OMP_NUM_THREADS': '1', 'OPENBLAS_NUM_THREADS': '1'},
                )
            ]
        )
        # Whoever is interrupted goes on from his last checkpoint.
        executor = xm_local.Local(max_restarts=3)
        for learning_rate, width, seed in itertools.product(LEARNING_RATES, WIDTHS, SEEDS):
            experiment.add(
                xm.Job(train, executor, name='train'),
                args={'args': {'learning_rate': learning_rate, 'width': width, 'seed': seed}},
            )

    units = experiment.work_units
    await asyncio.gather(*(unit.wait_until_complete() for unit in units.values()))

    # What each one wrote is in the folder of its job.
    results = []
    for unit_id, unit in units.items():
        [job] = unit.jobs
        result = json.loads((job.output_dir / 'result.json').read_text())
        results.append((result['accuracy'], unit_id, unit.args['args']))

    print('\nrank  accuracy  unit  learning_rate  width  seed')
    ranked = sorted(results, key=lambda result: (-result[0], result[1]))
    for rank, (accuracy, unit_id, given) in enumerate(ranked, start=1):
        print(
            f'{rank:4}  {accuracy:8.1%}  {unit_id:4}'
            f'  {given["learning_rate"]:13}  {given["width"]:5}  {given["seed"]:4}'
        )


if __name__ == '__main__':
    main()
