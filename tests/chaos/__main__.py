"""`python -m tests.chaos`: plays any number of seeds, or one of them in detail."""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from tests.chaos.commands import Tell
from tests.chaos.model import make_plan
from tests.chaos.play import play, play_aside, play_on_slurm
from tests.chaos.stage import Result

How = Callable[[int, Path, Tell], Result]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog='python -m tests.chaos', description=__doc__)
    parser.add_argument('--seed', type=int, default=1, help='the first seed')
    parser.add_argument('--count', type=int, default=1, help='how many seeds')
    parser.add_argument('--workers', type=int, default=2, help='how many at a time')
    parser.add_argument('-v', '--verbose', action='store_true', help='tell all; keep the folders')
    parser.add_argument('--slurm', action='store_true', help='each on a Slurm cluster of its own')
    options = parser.parse_args(arguments)
    how = play_on_slurm if options.slurm else play
    if options.verbose:
        return max(_tell_all(seed, how) for seed in _seeds(options))
    return _play_many(_seeds(options), options.workers, how)


def _seeds(options: argparse.Namespace) -> range:
    return range(options.seed, options.seed + options.count)


def _tell_all(seed: int, how: How) -> int:
    folder = Path(tempfile.mkdtemp(prefix=f'chaos-{seed}-'))
    plan = make_plan(seed)
    for launch in plan.launches:
        print(f'{launch.title}: detach={launch.detach} faults={launch.faults!r}')
        for number, unit in enumerate(launch.units, 1):
            for job in unit.jobs:
                behaviours = ' '.join(map(str, job.behaviours))
                print(f'  {number} {job.name} {behaviours} gpus={job.gpus} {job.options}')
    result = how(seed, folder, print)
    print(_told(result.tally))
    print(*(result.wrong or ['nothing is wrong']), sep='\n')
    print(f'left in {folder}')
    return 1 if result.wrong else 0


def _play_many(seeds: Sequence[int], workers: int, how: How) -> int:
    began, failed, tally = time.monotonic(), {}, Counter[str]()
    with contextlib.suppress(KeyboardInterrupt):
        for number, (seed, result) in enumerate(_in_parallel(seeds, workers, how), 1):
            tally += result.tally
            if result.wrong:
                failed[seed] = result.wrong
            rate = number / (time.monotonic() - began)
            progress = f'{number} of {len(seeds)} seeds, {len(failed)} failed, {rate:.1f} a second'
            print(f'\r{progress}: {_told(tally)} ', end='', flush=True)
    print()
    also = ' --slurm' if how is play_on_slurm else ''
    for seed, wrong in sorted(failed.items()):
        print(f'seed {seed}, to replay it: python -m tests.chaos --seed {seed} -v{also}')
        print(*(f'  {line}' for line in wrong), sep='\n')
    return 1 if failed else 0


def _told(tally: Counter[str]) -> str:
    return ', '.join(f'{count} {what}' for what, count in sorted(tally.items()))


def _in_parallel(seeds: Sequence[int], workers: int, how: How) -> Iterator[tuple[int, Result]]:
    with ProcessPoolExecutor(workers, mp_context=get_context('spawn')) as pool:
        futures = {pool.submit(play_aside, seed, how): seed for seed in seeds}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)


if __name__ == '__main__':
    sys.exit(main())
