"""Fit a line to noisy points by gradient descent and write it to model.json."""

import argparse
import json
import os
import random
from pathlib import Path


def points(number: int, seed: int) -> list[tuple[float, float]]:
    """Points about the line y = 3x - 1."""
    chance = random.Random(seed)
    xs = [chance.uniform(-1, 1) for _ in range(number)]
    return [(x, 3 * x - 1 + chance.gauss(0, 0.1)) for x in xs]


def loss(slope: float, offset: float, data: list[tuple[float, float]]) -> float:
    return sum((slope * x + offset - y) ** 2 for x, y in data) / len(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--points', type=int, default=200)
    parser.add_argument('--epochs', type=int, default=50)
    given = parser.parse_args()
    data = points(given.points, seed=1)
    slope = offset = 0.0
    for epoch in range(1, given.epochs + 1):
        errors = [(slope * x + offset - y, x) for x, y in data]
        slope -= 0.2 * sum(error * x for error, x in errors) / len(data)
        offset -= 0.2 * sum(error for error, _ in errors) / len(data)
        if epoch % 5 == 0:
            print(f'epoch {epoch:2}  loss {loss(slope, offset, data):.4f}', flush=True)
    model = {'slope': slope, 'offset': offset, 'loss': loss(slope, offset, data)}
    (Path(os.environ.get('XM_OUTPUT_DIR', '.')) / 'model.json').write_text(json.dumps(model))


if __name__ == '__main__':
    main()
