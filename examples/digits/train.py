"""Train a network of one hidden layer on scikit-learn's 1,797 images of handwritten digits.

Goes on from its last checkpoint when it was interrupted. It runs by hand just as well:
`python examples/digits/train.py --learning_rate=0.003`.
"""

import argparse
import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from xmanager import track


def begin(width: int, learning_rate: float, seed: int, checkpoint: Path) -> dict[str, Any]:
    """What training goes on from: what an earlier attempt has left, else a fresh network."""
    if track.attempt() > 1 and checkpoint.exists():
        state: dict[str, Any] = pickle.loads(checkpoint.read_bytes())
        print(f'goes on after epoch {state["epoch"]}', flush=True)
        return state
    network = MLPClassifier((width,), learning_rate_init=learning_rate, random_state=seed)
    return {'epoch': 0, 'network': network, 'shuffle': np.random.default_rng(seed)}


def save(state: dict[str, Any], checkpoint: Path) -> None:
    """Replaces the checkpoint in one step: there is never half of one."""
    beside = checkpoint.with_suffix('.new')
    beside.write_bytes(pickle.dumps(state))
    os.replace(beside, checkpoint)


def train(learning_rate: float, width: int, seed: int, epochs: int, checkpoint: Path) -> float:
    """Return the share of the held-out quarter that is recognised after the last epoch."""
    images, labels = load_digits(return_X_y=True)
    # The split is the same for every seed, so that runs can be compared.
    train_x, test_x, train_y, test_y = train_test_split(
        images / 16.0, labels, test_size=0.25, random_state=0, stratify=labels
    )
    state = begin(width, learning_rate, seed, checkpoint)
    network, shuffle = state['network'], state['shuffle']
    for epoch in range(state['epoch'] + 1, epochs + 1):
        for batch in np.array_split(shuffle.permutation(len(train_x)), len(train_x) // 32):
            network.partial_fit(train_x[batch], train_y[batch], classes=range(10))
        print(f'epoch {epoch:2}  accuracy {network.score(test_x, test_y):.3f}', flush=True)
        save({**state, 'epoch': epoch}, checkpoint)
    return float(network.score(test_x, test_y))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--learning_rate', type=float, default=0.003)
    parser.add_argument('--width', type=int, default=64)
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--epochs', type=int, default=10)
    given = parser.parse_args()
    checkpoint = track.checkpoint_dir() / 'network.pickle'
    accuracy = train(
        given.learning_rate, given.width, given.seed, given.epochs, checkpoint=checkpoint
    )
    result = Path(os.environ.get('XM_OUTPUT_DIR', '.')) / 'result.json'
    result.write_text(json.dumps({**vars(given), 'accuracy': accuracy}))


if __name__ == '__main__':
    main()
