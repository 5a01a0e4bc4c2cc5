"""Whoever dies, and at whatever instruction: the records tell what the jobs did, and nothing runs twice or for ever."""

import pytest
from tests.chaos.model import make_plan
from tests.chaos.play import play


@pytest.mark.parametrize('seed', range(1, 31))
def test_the_records_tell_what_the_jobs_did_whoever_died(seed, tmp_path):
    wrong = play(seed, tmp_path).wrong
    assert not wrong, '\n'.join([*wrong, f'to replay it: SEED={seed} make chaos'])


def test_a_seed_makes_the_same_plan_again():
    assert [make_plan(seed) for seed in range(50)] == [make_plan(seed) for seed in range(50)]
    assert make_plan(1) != make_plan(2)


def test_every_plan_can_be_carried_out():
    for seed in range(1000):
        plan = make_plan(seed)
        for unit in (unit for launch in plan.launches for unit in launch.units):
            assert len(unit.jobs) <= plan.cpus
            assert sum(job.gpus for job in unit.jobs) <= plan.gpus
            for job in unit.jobs:
                hangs = any(behaviour.kind == 'hang' for behaviour in job.behaviours)
                assert hangs == ('timeout' in job.options)
