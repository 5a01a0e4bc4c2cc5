"""Resources: amounts, topologies, requirements."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmanager import xm

R = xm.ResourceType


def pasted(text):
    return eval(text, {'xm': xm})


@pytest.mark.parametrize(
    ('name', 'dimensions'),
    [('4x4', [4, 4]), ('2x2x2_twisted', [2, 2, 2]), ('4', [4]), ('4x18', [4, 18])],
)
def test_a_topology_is_a_grid_of_chips(name, dimensions):
    topology = xm.Topology(name)
    assert (topology.name, topology.dimensions) == (name, dimensions)
    assert topology.chip_count == math.prod(dimensions)
    assert topology == xm.Topology(name)
    assert hash(topology) == hash(xm.Topology(name))
    assert pasted(repr(topology)) == topology


def test_topologies_of_other_names_are_others():
    assert xm.Topology('4x4') != xm.Topology('4x4_twisted')
    assert xm.Topology('4x4') != '4x4'


@pytest.mark.parametrize('name', ['', 'abc', 'x4', '4x', '-1x4', '0x4', '4 x 4', '4x4*2', '²x2'])
def test_a_bad_topology_is_an_error_of_its_own(name):
    with pytest.raises(xm.InvalidTpuTopologyError, match='is no topology'):
        xm.Topology(name)
    with pytest.raises(ValueError, match=r'.'):
        xm.JobRequirements(tpu_v4=name + '_')


def test_resources_have_aliases_and_are_found_in_any_case():
    assert {R.RAM, xm.ResourceType['ram']} == {R.MEMORY}
    assert {R.DISK} == {R.EPHEMERAL_STORAGE}
    assert str(R.V100) == 'V100'
    assert xm.JobRequirements(V100=1, Ram=2) == xm.JobRequirements({'v100': 1, R.MEMORY: 2})
    with pytest.raises(KeyError, match='Unknown resource'):
        xm.JobRequirements(gpus=1)
    resources: Any = {5: 1}
    with pytest.raises(TypeError, match='is no resource'):
        xm.JobRequirements(resources)


def test_accelerator_types_are_subsets_of_the_same_constants():
    assert R.V100 in xm.GpuType
    assert R.V100 not in xm.TpuType
    assert R.LOCAL_GPU not in xm.GpuType
    assert R.LOCAL_GPU in xm.AcceleratorType
    assert R.CPU not in xm.AcceleratorType
    assert 'V100' not in xm.GpuType
    gpu_type: Any = xm.GpuType
    assert gpu_type.V100 is gpu_type['v100'] is gpu_type(R.V100.value) is R.V100
    assert {*xm.GpuType, *xm.TpuType, R.LOCAL_GPU} == set(xm.AcceleratorType)
    assert len(xm.TpuType) == 7
    assert all(resource.name.startswith('TPU_') for resource in xm.TpuType)


def test_a_subset_does_not_find_what_is_outside():
    gpu_type: Any = xm.GpuType
    with pytest.raises(AttributeError, match='CPU'):
        _ = gpu_type.CPU
    with pytest.raises(KeyError, match='TPU_V2'):
        gpu_type['TPU_V2']
    with pytest.raises(ValueError, match='not a valid GpuType'):
        gpu_type(3)


def test_accelerators_know_their_processors():
    assert R.GB200.architecture() is xm.Architecture.ARM
    assert R.V100.architecture() is xm.Architecture.HASWELL
    with pytest.raises(ValueError, match='CPU'):
        R.CPU.architecture()


def test_amounts_add_up_and_multiply():
    one = xm.JobRequirements(cpu=1, ram=2).task_requirements
    assert dict(one + one) == dict(one * 2) == dict(2 * one) == {R.CPU: 2, R.MEMORY: 4}
    other = xm.JobRequirements(t4=1).task_requirements
    assert str(one + other) == 'CPU: 1.0, MEMORY: 2.0, T4: 1.0'
    assert dict(one) == {R.CPU: 1, R.MEMORY: 2}


def test_amounts_are_a_mapping_with_names_in_any_case():
    amounts = xm.ResourceDict()
    amounts['cpu'] = 1
    amounts[R.RAM] = '4'
    assert amounts == {R.CPU: 1, R.MEMORY: 4}
    assert (amounts['CPU'], amounts.get(R.T4), R.CPU in amounts) == (1, None, True)
    del amounts['ram']
    assert len(amounts) == 1


@pytest.mark.parametrize('amount', [-1, math.nan, math.inf, '-1', 'nan', 'inf', None, '8GiB'])
def test_an_amount_is_finite_and_not_negative(amount):
    with pytest.raises(ValueError, match="Couldn't parse resource quantity for"):
        xm.JobRequirements(cpu=amount)
    with pytest.raises(ValueError, match="Couldn't parse resource quantity for"):
        xm.ResourceDict()['cpu'] = amount


def test_numeric_strings_are_numbers():
    assert xm.JobRequirements(cpu='2.5', v100='2') == xm.JobRequirements(cpu=2.5, v100=2)


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        ({'ram': 1, 'memory': 2}, 'MEMORY has been specified twice'),
        ({'v100': 1, 't4': 1}, r'Accelerator already set\.'),
        ({'v100': 1, 'local_gpu': 1}, r'Accelerator already set\.'),
        ({'cpu': '4x4'}, 'topology specified for non accelerator'),
        ({'cpu': xm.Topology('4x4')}, 'topology specified for non accelerator'),
        ({'v100': 1.5}, 'whole'),
        ({'tpu_v3': 'foo'}, "'foo'"),
        ({'v100': '2x2', 'replicas': 3}, 'replicas=3'),
        ({'gb200': '4x18*3', 'num_slices': 2}, 'num_slices=2'),
        ({'gb200': '4x18*0'}, 'num_slices=0'),
        ({'gb200': '4x18*'}, r"'4x18\*'"),
        ({'num_slices': 0}, 'num_slices=0'),
        ({'replicas': -1}, 'replicas=-1'),
        ({'tpu_v4': '4x4', 'num_slices': 2}, 'TPU_V4'),
        ({'gb200': 1, 'architecture': xm.Architecture.HASWELL}, 'GB200'),
    ],
)
def test_a_contradiction_is_a_value_error(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        xm.JobRequirements(**arguments)


def test_requirements_have_defaults():
    empty = xm.JobRequirements()
    assert (empty.accelerator, empty.topology, empty.architecture) == (None, None, None)
    assert (empty.location, empty.replicas, empty.num_slices) == (None, 1, 1)
    assert empty.service_tier is xm.ServiceTier.PROD
    assert empty == xm.JobRequirements(None) == xm.JobRequirements(resources={})


def test_an_accelerator_brings_topology_and_architecture():
    requirements = xm.JobRequirements({R.GB200: 4})
    assert requirements.accelerator is R.GB200
    assert requirements.topology == xm.Topology('4')
    assert requirements.architecture is xm.Architecture.ARM
    assert xm.JobRequirements(local_gpu=2).architecture is None


def test_asking_for_no_accelerators_is_allowed():
    assert xm.JobRequirements(local_gpu=0).task_requirements == {R.LOCAL_GPU: 0}


def test_a_share_of_a_local_gpu_may_be_asked_for():
    share = xm.JobRequirements(local_gpu='0.5')
    assert share.task_requirements == {R.LOCAL_GPU: 0.5}
    assert (share.accelerator, share.topology, share.replicas) == (R.LOCAL_GPU, None, 1)
    assert pasted(repr(share)) == share
    assert share.merge(xm.JobRequirements(local_gpu=2)) == xm.JobRequirements(local_gpu=2)
    assert xm.JobRequirements(local_gpu=2).merge(share) == share


@pytest.mark.parametrize('amount', [1.5, 1e-9, '2.25'])
def test_a_share_of_a_local_gpu_is_less_than_one_and_worth_the_name(amount):
    with pytest.raises(
        ValueError, match=r'^local_gpu=.*: a job shares one GPU or has whole ones\. Ask'
    ):
        xm.JobRequirements(local_gpu=amount)


@pytest.mark.parametrize(
    ('arguments', 'amount', 'replicas', 'slices'),
    [
        ({'v100': '4x1'}, 4, 1, 1),
        ({'v100': '2x2'}, 4, 2, 1),
        ({'v100': '2x3x4'}, 24, 12, 1),
        ({'v100': 8}, 8, 1, 1),
        ({'v100': 8, 'replicas': 3}, 8, 3, 1),
        ({'v100': '8*2'}, 8, 2, 2),
        ({'v100': 8, 'num_slices': 2}, 8, 2, 2),
        ({'gb200': '4x18*3'}, 72, 54, 3),
        ({'gb200': '4x18', 'num_slices': 3, 'replicas': 54}, 72, 54, 3),
        ({'tpu_v4': '4x4'}, 16, 1, 1),
        ({'local_gpu': '2x2'}, 4, 1, 1),
    ],
)
def test_a_topology_of_gpus_implies_replicas(arguments, amount, replicas, slices):
    requirements = xm.JobRequirements(**arguments)
    assert list(requirements.task_requirements.values()) == [amount]
    assert (requirements.replicas, requirements.num_slices) == (replicas, slices)


def test_attributes_may_be_assigned_and_are_checked():
    requirements = xm.JobRequirements(v100='2x2')
    requirements.location = 'eu'
    requirements.service_tier = xm.ServiceTier.BATCH
    with pytest.raises(ValueError, match='replicas=3'):
        requirements.replicas = 3
    requirements = xm.JobRequirements(cpu=1)
    requirements.replicas = 3
    requirements.task_requirements[R.CPU] = 4
    assert requirements == xm.JobRequirements(cpu=4, replicas=3)


@pytest.mark.parametrize(
    ('mine', 'theirs', 'merged'),
    [
        ({'cpu': 1}, {'ram': 2}, {'cpu': 1, 'ram': 2}),
        ({'cpu': 1}, {'cpu': 2}, {'cpu': 2}),
        ({'v100': '2x2'}, {}, {'v100': '2x2'}),
        ({}, {'tpu_v4': '4x4_twisted'}, {'tpu_v4': '4x4_twisted'}),
        ({'cpu': 1, 'gb200': '4x18*3'}, {'t4': 1}, {'cpu': 1, 't4': 1}),
        ({'v100': '2x2'}, {'v100': 3}, {'v100': 3}),
        ({'v100': '2x2', 'replicas': 2}, {'v100': 3}, {'v100': 3}),
        ({'gb200': 1, 'architecture': xm.Architecture.ARM}, {'t4': 1}, {'t4': 1}),
        ({'replicas': 3}, {'v100': '2x2'}, {'v100': '2x2'}),
        ({'replicas': 3}, {'replicas': 1}, {'replicas': 1}),
        ({'v100': 2}, {'num_slices': 2}, {'v100': 2, 'num_slices': 2}),
        ({'location': 'a'}, {'location': 'b'}, {'location': 'b'}),
        (
            {'service_tier': xm.ServiceTier.BATCH, 'location': 'a', 'replicas': 3},
            {'cpu': 1},
            {'service_tier': xm.ServiceTier.BATCH, 'location': 'a', 'replicas': 3, 'cpu': 1},
        ),
    ],
)
def test_merging_replaces_what_the_other_states(mine, theirs, merged):
    result = xm.JobRequirements(**mine).merge(xm.JobRequirements(**theirs))
    assert result == xm.JobRequirements(**merged)


def test_merging_with_a_contradiction_is_a_value_error():
    with pytest.raises(ValueError, match='replicas=3'):
        xm.JobRequirements(v100='2x2').merge(xm.JobRequirements(replicas=3))


def test_a_repr_is_what_a_script_would_write():
    requirements = xm.JobRequirements(
        cpu=1, v100='2x2', location='eu', service_tier=xm.ServiceTier.BATCH
    )
    assert repr(requirements) == (
        "xm.JobRequirements(cpu=1.0, v100=xm.Topology('2x2'), location='eu', "
        'service_tier=xm.ServiceTier.BATCH)'
    )


amounts = st.floats(min_value=0, allow_nan=False, allow_infinity=False)
topologies = st.builds(
    lambda sizes, end: 'x'.join(map(str, sizes)) + end,
    st.lists(st.integers(1, 99), min_size=1, max_size=4),
    st.sampled_from(['', '_twisted', '_untwisted']),
)
accelerators = st.one_of(
    st.just({}),
    st.builds(lambda gpu, t: {gpu.name: t}, st.sampled_from([*xm.AcceleratorType]), topologies),
    st.builds(lambda g, n: {g.name: n}, st.sampled_from([*xm.AcceleratorType]), st.integers(0, 99)),
    st.builds(lambda share: {'local_gpu': share}, st.floats(0.01, 1, exclude_max=True)),
    st.builds(
        lambda gpu, n: {gpu.name: f'4x2*{n}'}, st.sampled_from([*xm.GpuType]), st.integers(1, 9)
    ),
)
requirement_lists = st.builds(
    lambda plain, accelerator, fields: xm.JobRequirements(**plain, **accelerator, **fields),
    st.dictionaries(st.sampled_from(['cpu', 'memory', 'disk']), amounts),
    accelerators,
    st.fixed_dictionaries(
        {},
        optional={
            'location': st.text(),
            'service_tier': st.sampled_from(xm.ServiceTier),
        },
    ),
)


@given(topologies)
def test_any_grid_is_a_topology_that_counts_its_chips(name):
    topology = xm.Topology(name)
    assert topology.chip_count == math.prod(topology.dimensions)


@given(requirement_lists)
def test_any_repr_can_be_pasted_back(requirements):
    assert pasted(repr(requirements)) == requirements
    assert pasted(repr(requirements)).topology == requirements.topology


@given(requirement_lists)
def test_merging_with_nothing_or_with_itself_changes_nothing(requirements):
    nothing = xm.JobRequirements()
    assert requirements.merge(nothing) == nothing.merge(requirements) == requirements
    assert requirements.merge(requirements) == requirements


@given(requirement_lists, requirement_lists)
def test_merging_keeps_all_that_the_other_states(mine, theirs):
    merged = mine.merge(theirs)
    for resource, amount in theirs.task_requirements.items():
        assert merged.task_requirements[resource] == amount
    if theirs.accelerator is not None:
        assert (merged.accelerator, merged.topology) == (theirs.accelerator, theirs.topology)
        assert (merged.replicas, merged.num_slices) == (theirs.replicas, theirs.num_slices)


@given(requirement_lists, requirement_lists)
def test_adding_amounts_does_not_depend_on_the_order(mine, theirs):
    a, b = mine.task_requirements * 0.5, theirs.task_requirements * 0.5
    assert a + b == b + a
