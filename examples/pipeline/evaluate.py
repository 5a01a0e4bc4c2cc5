"""Tell how well the line in a model.json fits points that it was not fitted to."""

import argparse
import json
import os
from pathlib import Path

from train import loss, points


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--model', type=Path, required=True)
    given = parser.parse_args()
    model = json.loads(given.model.read_text())
    unseen = loss(model['slope'], model['offset'], points(1000, seed=2))
    print(f'{given.model}: y = {model["slope"]:.2f}x {model["offset"]:+.2f}, loss {unseen:.4f}')
    (Path(os.environ.get('XM_OUTPUT_DIR', '.')) / 'result.json').write_text(
        json.dumps({'model': str(given.model), 'loss': unseen})
    )


if __name__ == '__main__':
    main()
