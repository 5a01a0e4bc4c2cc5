"""Pull levers as the learner's policy says, report what each one paid, until learning is over."""

import argparse
import json
import random
import socket
import time

from xmanager import track

# What a lever pays on average. The learner doesn't know.
PAYS = (0.1, 0.3, 0.2, 0.9, 0.5)


def connect(port: int, patience: float = 30.0) -> socket.socket:
    """Jobs of a group start together, so the learner may need a moment before it listens."""
    # One process each here, but on a cluster the learner may well be on another machine.
    [host] = track.addresses()['learner']
    deadline = time.monotonic() + patience
    while True:
        try:
            return socket.create_connection((host, port), timeout=patience)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--port', type=int, required=True)
    parser.add_argument('--seed', type=int, default=0)
    given = parser.parse_args()
    chance = random.Random(given.seed)
    pulls = 0
    with connect(given.port) as connection, connection.makefile('rw') as learner:
        while policy := json.loads(learner.readline()):
            [lever] = chance.choices(range(len(PAYS)), weights=policy)
            report = {'lever': lever, 'reward': chance.gauss(PAYS[lever], 0.1)}
            learner.write(json.dumps(report) + '\n')
            learner.flush()
            pulls += 1
    print(f'pulled {pulls} levers')


if __name__ == '__main__':
    main()
