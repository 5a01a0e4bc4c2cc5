import json

from xmanager.images.append import Base, append
from xmanager.images.manifests import read_config
from xmanager.images.values import DOCKER_MANIFEST, ImageConfig, Layer, Platform, digest_of

BELOW, CODE = digest_of(b'below'), digest_of(b'code')


def base(**settings):
    config = ImageConfig(Platform('arm64', 'linux', 'v8'), (BELOW,), settings)
    return Base(config, (Layer(None, BELOW),), DOCKER_MANIFEST)


def appended(to):
    return append(
        to,
        [Layer(None, CODE)],
        working_dir='/app',
        entrypoint=['python3', '-m', 'm'],
        env={'LANG': 'C'},
    )


def test_the_image_has_the_layers_and_settings_of_its_base_and_its_own():
    image = appended(
        base(Env=['PATH=/bin', 'LANG=x', 'A='], Cmd=['python3'], User='ada', Entrypoint=['e'])
    )
    config = json.loads(image.config)
    assert config['config'] == {
        'Env': ['PATH=/bin', 'LANG=C', 'A='],
        'Entrypoint': ['python3', '-m', 'm'],
        'WorkingDir': '/app',
        'User': 'ada',
    }
    assert config['rootfs'] == {'type': 'layers', 'diff_ids': [BELOW, CODE]}
    assert (config['architecture'], config['os'], config['variant']) == ('arm64', 'linux', 'v8')
    assert config['created'] == '1970-01-01T00:00:00Z'
    assert image.manifest_type == DOCKER_MANIFEST
    assert read_config(image.config, 'x').diff_ids == (BELOW, CODE)


def test_what_an_engine_adds_to_a_configuration_makes_no_difference():
    plain = base(Env=['PATH=/bin'], Labels={'a': 'b'})
    told_by_an_engine = base(
        Hostname='', Domainname='', User='', AttachStdin=False, Tty=False, Env=['PATH=/bin'], Cmd=None,
        Image='sha256:1', Volumes=None, WorkingDir='', Entrypoint=None, OnBuild=None, Labels={'a': 'b'},
    )  # fmt: skip
    assert appended(plain).config == appended(told_by_an_engine).config


def test_a_base_without_an_environment_will_do():
    assert json.loads(appended(base(Env=None)).config)['config']['Env'] == ['LANG=C']
