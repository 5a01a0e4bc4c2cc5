"""Learn which of five levers pays best, from what the actors report: the gradient bandit algorithm.

Sutton and Barto, Reinforcement Learning, second edition, section 2.8. Actors connect to a port
and speak lines of JSON: an actor sends {"lever", "reward"} and gets the policy back; an empty
policy means that learning is over.
"""

import argparse
import json
import math
import os
import socketserver
import threading
from pathlib import Path

from xmanager import track


class Policy:
    """One preference a lever; actors report from several threads."""

    def __init__(self, levers: int, learning_rate: float, steps: int) -> None:
        self._preferences = [0.0] * levers
        self._learning_rate = learning_rate
        self._steps = steps
        self._lock = threading.Lock()
        self.step = 0
        self.mean_reward = 0.0

    def probabilities(self) -> list[float]:
        weights = [math.exp(preference) for preference in self._preferences]
        return [weight / sum(weights) for weight in weights]

    def learn(self, lever: int, reward: float) -> list[float]:
        """Take one report in; return the policy to act by, or nothing when it was the last."""
        with self._lock:
            if self.step == self._steps:
                return []
            self.step += 1
            advantage = reward - self.mean_reward
            self.mean_reward += advantage / self.step
            for other, probability in enumerate(self.probabilities()):
                chosen = 1.0 if other == lever else 0.0
                self._preferences[other] += self._learning_rate * advantage * (chosen - probability)
            if self.step % 200 == 0:
                print(f'step {self.step:4}  mean reward {self.mean_reward:.3f}', flush=True)
            return self.probabilities()


def serve(port: int, actors: int, policy: Policy) -> None:
    """Answer `actors` connections, each until learning is over."""

    class Conversation(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            answer = policy.probabilities()
            while answer:
                self.wfile.write(json.dumps(answer).encode() + b'\n')
                report = json.loads(self.rfile.readline())
                answer = policy.learn(report['lever'], report['reward'])
            self.wfile.write(b'[]\n')

    # By the address that the actors are told: 127.0.0.1 where all are on one machine.
    [host] = track.addresses()['learner']
    with socketserver.ThreadingTCPServer((host, port), Conversation) as server:
        for _ in range(actors):
            server.handle_request()
    # Leaving the `with` has waited for every conversation.


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--port', type=int, required=True)
    parser.add_argument('--actors', type=int, default=2)
    parser.add_argument('--levers', type=int, default=5)
    parser.add_argument('--learning_rate', type=float, default=0.1)
    parser.add_argument('--steps', type=int, default=2000)
    given = parser.parse_args()
    policy = Policy(given.levers, given.learning_rate, given.steps)
    serve(given.port, given.actors, policy)
    result = {'mean_reward': policy.mean_reward, 'policy': policy.probabilities()}
    (Path(os.environ.get('XM_OUTPUT_DIR', '.')) / 'result.json').write_text(json.dumps(result))


if __name__ == '__main__':
    main()
