"""What an import costs: the median time of a fresh Python that imports it, less a bare one's.

`python benchmarks/imports.py [MODULE…]`. The runs of all modules take turns, so that a slow moment
of the machine falls on all of them alike.
"""

import importlib.util
import statistics
import subprocess
import sys
import time

ROUNDS = 15
MODULES = (
    'xmanager.xm',
    'xmanager.xm_local',
    'xmanager.track',
    'absl.app',
    'alembic.command',
    'attrs',
    'click',
    'rich.console',
    'rich.table',
    'sqlalchemy',
)


def seconds(statement: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, '-c', statement], check=True)
    return time.perf_counter() - start


def costs(modules: list[str]) -> dict[str, float]:
    """Return the milliseconds that each module adds to a bare interpreter."""
    statements = {'': 'pass', **{module: f'import {module}' for module in modules}}
    for statement in statements.values():
        seconds(statement)  # Not counted: it writes the byte code and warms the disk cache.
    runs: dict[str, list[float]] = {name: [] for name in statements}
    for _ in range(ROUNDS):
        for name, statement in statements.items():
            runs[name].append(seconds(statement))
    medians = {name: statistics.median(times) * 1000 for name, times in runs.items()}
    print(f'bare Python {sys.version.split()[0]}: {medians[""]:.0f} ms, median of {ROUNDS}')
    return {module: medians[module] - medians[''] for module in modules}


def main() -> None:
    asked = sys.argv[1:] or [name for name in MODULES if importlib.util.find_spec(name)]
    for module, cost in costs(asked).items():
        print(f'{module:20} + {cost:4.0f} ms')


if __name__ == '__main__':
    main()
