"""Executors of back ends that come later: plain values, which say at packaging what they lack."""

import inspect

import pytest
from tests.packaging import package

from xmanager import xm, xm_local
from xmanager.errors import PackagingError, UsageError

PARAMETERS = {
    'Vertex': 'requirements tensorboard',
    'VertexSpec': 'push_image_tag',
    'Kubernetes': 'requirements cloud_provider tpu_capability',
    'KubernetesSpec': 'push_image_tag',
    'TensorboardCapability': 'name base_output_directory',
    'TpuCapability': 'tpu_runtime_version',
}


@pytest.mark.parametrize('name', PARAMETERS)
def test_an_executor_takes_what_scripts_pass_in_the_order_they_pass_it(name):
    parameters = inspect.signature(getattr(xm_local, name)).parameters.values()
    by_position = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert by_position == PARAMETERS[name].split()


def test_caip_is_the_earlier_name_of_vertex():
    assert xm_local.Caip is xm_local.Vertex
    assert xm_local.CaipSpec is xm_local.VertexSpec


@pytest.mark.parametrize('name', ['Local', 'Slurm', 'Vertex', 'Kubernetes'])
def test_spec_of_an_executor_is_its_specification(name):
    executor, spec = getattr(xm_local, name), getattr(xm_local, f'{name}Spec')
    assert executor.Spec is spec
    assert executor.Spec() == spec()
    assert executor.backend == spec.backend == name.lower()
    assert executor() == executor()


def test_defaults_are_no_requirements_and_googles_engine():
    assert xm_local.Vertex().requirements == xm.JobRequirements()
    assert xm_local.Kubernetes().cloud_provider == 'GOOGLE_KUBERNETES_ENGINE'
    assert xm_local.Kubernetes.Spec(push_image_tag='gcr.io/p/i').push_image_tag == 'gcr.io/p/i'


@pytest.mark.parametrize('executor', [xm_local.Vertex, xm_local.Kubernetes])
def test_requirements_of_another_kind_are_refused(executor):
    with pytest.raises(TypeError, match='JobRequirements'):
        executor(requirements={'t4': 1})


@pytest.mark.parametrize('name', ['Vertex', 'Kubernetes'])
def test_packaging_says_what_the_executor_needs_and_what_runs_here(name):
    spec = getattr(xm_local, name).Spec()
    with pytest.raises(PackagingError, match=rf'xm_local\.{name} needs .*xm_local\.Local\(\)'):
        package(xm.binary(spec, '/bin/true'))


def test_packaging_for_a_strangers_executor_says_what_to_package_for():
    with pytest.raises(
        PackagingError, match=r'ExecutorSpec .*Local\.Spec\(\) or xm_local\.Slurm\.Spec\(\)'
    ):
        package(xm.binary(xm.ExecutorSpec(), '/bin/true'))


def test_the_bucket_is_read_from_the_environment(monkeypatch):
    monkeypatch.setenv('GOOGLE_CLOUD_BUCKET_NAME', 'bucket')
    assert xm_local.auth.get_bucket() == 'bucket'
    monkeypatch.delenv('GOOGLE_CLOUD_BUCKET_NAME')
    with pytest.raises(ValueError, match='export GOOGLE_CLOUD_BUCKET_NAME'):
        xm_local.auth.get_bucket()


@pytest.mark.parametrize(
    'name',
    ['enable_apis', 'get_creds', 'get_project_name', 'get_project_number', 'get_service_account'],
)
def test_the_rest_of_auth_says_what_it_needs(name):
    with pytest.raises(UsageError, match=rf'auth\.{name}.*Google Cloud'):
        getattr(xm_local.auth, name)()
