"""As `test_chaos`, on a cluster, of which slurmctld and slurmd die too."""

import pytest
from tests.chaos.slurm_stage import play_on


@pytest.mark.parametrize('seed', [2, 3, 5, 8])
def test_the_records_tell_what_the_jobs_did_on_a_cluster_whoever_died(seed, tmp_path, slurm):
    wrong = play_on(slurm, seed, tmp_path).wrong
    assert not wrong, '\n'.join(wrong)
