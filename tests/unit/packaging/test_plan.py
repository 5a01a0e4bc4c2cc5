import pytest

from xmanager.errors import PackagingError
from xmanager.packaging.plan import Omission, Plan, PlannedImage, PlannedLayer, PlannedSnapshot

FULL = {
    'snapshot': {
        'path': '/p', 'digest': 'd', 'files': 1, 'bytes': 2, 'exists': True,
        'omitted': [{'path': '.venv', 'rule': 'built in'}],
    },
    'files': [{'path': '/f', 'bytes': 1, 'digest': 'x', 'exists': False, 'kept': True}],
    'environment': {'lock': '/uv.lock', 'key': 'k', 'python': '3.11', 'exists': None},
    'layers': [{'what': 'code', 'digest': '', 'bytes': None, 'exists': False}],
    'image': {'name': 'python:3.11', 'action': 'pull', 'exists': False, 'engine': ''},
    'commands': [['bazel', 'build', '//:x']],
    'notes': ['A sentence.'],
}  # fmt: skip


def test_facts_without_a_plan_have_an_empty_one():
    assert Plan.of({'kind': 'binary'}) == Plan()


def test_a_plan_is_read_as_values():
    plan = Plan.of({'plan': FULL})
    assert plan.snapshot == PlannedSnapshot('/p', 'd', 1, 2, True, (Omission('.venv', 'built in'),))
    assert plan.layers == (PlannedLayer('code', '', None, False),)
    assert plan.image == PlannedImage('python:3.11', 'pull', False, '')
    assert plan.commands == (('bazel', 'build', '//:x'),)
    assert plan.environment is not None
    assert plan.environment.exists is None


def test_every_field_may_be_left_out():
    given: dict[str, object] = {
        'snapshot': {},
        'files': [{}],
        'environment': {},
        'layers': [{}],
        'image': {},
    }
    plan = Plan.of({'plan': given})
    assert plan.snapshot == PlannedSnapshot()
    assert plan.image == PlannedImage()


@pytest.mark.parametrize(
    ('given', 'said'),
    [
        ('x', "plan is 'x'. Expected a mapping."),
        ({'snapshots': {}}, "plan has no field 'snapshots'"),
        ({'image': {'nam': 'x'}}, "image has no field 'nam'. There are action,"),
        ({'image': []}, r'image is \[\]. Expected a mapping.'),
        ({'layers': 'x'}, "layers is 'x'. Expected a list."),
        ({'layers': [{'bytes': '12'}]}, "layers.bytes is '12'. Expected int."),
    ],
)
def test_what_is_no_plan_is_refused(given, said):
    with pytest.raises(PackagingError, match=said):
        Plan.of({'plan': given})
