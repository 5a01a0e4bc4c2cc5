"""Train a network of one hidden layer on scikit-learn's 1,797 images of handwritten digits.

Knows nothing of xmanager but the name of one environment variable, and runs by hand just as well:
`python examples/digits/train.py --learning_rate=0.003`.
"""

import argparse
import json
import os
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier


def train(learning_rate: float, width: int, seed: int, epochs: int) -> float:
    """Return the share of the held-out quarter that is recognised after the last epoch."""
    images, labels = load_digits(return_X_y=True)
    # The split is the same for every seed, so that runs can be compared.
    train_x, test_x, train_y, test_y = train_test_split(
        images / 16.0, labels, test_size=0.25, random_state=0, stratify=labels
    )
    network = MLPClassifier((width,), learning_rate_init=learning_rate, random_state=seed)
    shuffle = np.random.default_rng(seed)
    accuracy = 0.0
    for epoch in range(1, epochs + 1):
        for batch in np.array_split(shuffle.permutation(len(train_x)), len(train_x) // 32):
            network.partial_fit(train_x[batch], train_y[batch], classes=range(10))
        accuracy = float(network.score(test_x, test_y))
        print(f'epoch {epoch:2}  accuracy {accuracy:.3f}', flush=True)
    return accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--learning_rate', type=float, default=0.003)
    parser.add_argument('--width', type=int, default=64)
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--epochs', type=int, default=10)
    given = parser.parse_args()
    accuracy = train(given.learning_rate, given.width, given.seed, given.epochs)
    result = Path(os.environ.get('XM_OUTPUT_DIR', '.')) / 'result.json'
    result.write_text(json.dumps({**vars(given), 'accuracy': accuracy}))


if __name__ == '__main__':
    main()
