import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmanager.errors import PackagingError
from xmanager.images.reference import Reference

DIGEST = 'sha256:' + 'ab' * 32


@pytest.mark.parametrize(
    ('text', 'registry', 'repository', 'tag', 'digest'),
    [
        ('python', 'docker.io', 'library/python', 'latest', ''),
        ('python:3.11-slim', 'docker.io', 'library/python', '3.11-slim', ''),
        ('team/base', 'docker.io', 'team/base', 'latest', ''),
        ('index.docker.io/python', 'docker.io', 'library/python', 'latest', ''),
        ('localhost/base', 'localhost', 'base', 'latest', ''),
        ('localhost:15000/team/base:1', 'localhost:15000', 'team/base', '1', ''),
        ('127.0.0.1:15000/base', '127.0.0.1:15000', 'base', 'latest', ''),
        ('[::1]:5000/base:x', '[::1]:5000', 'base', 'x', ''),
        ('[::1]/base', '[::1]', 'base', 'latest', ''),
        ('europe.example.com/a/b/c', 'europe.example.com', 'a/b/c', 'latest', ''),
        (f'python@{DIGEST}', 'docker.io', 'library/python', '', DIGEST),
        (f'host:1/a/b:t@{DIGEST}', 'host:1', 'a/b', 't', DIGEST),
    ],
)
def test_a_name_is_read_as_docker_reads_it(text, registry, repository, tag, digest):
    assert Reference.parse(text) == Reference(registry, repository, tag, digest)


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('', 'it has no name'),
        ('docker.io/', 'it has no name'),
        ('Python', 'lower case'),
        ('a//b', "the part ''"),
        ('a/../b', "the part '..'"),
        ('a:b c', 'the tag'),
        ('a:', 'the tag'),
        ('a@sha256:12', 'the digest'),
        (f'a@{DIGEST}@{DIGEST}', 'the digest'),
        ('host:99999/a', 'no port'),
        ('host:0/a', 'no port'),
        ('-host.x/a', 'no host'),
        (DIGEST, 'the id of an image'),
        ('ab' * 32, 'the id of an image'),
        ('a/' * 130 + 'b', 'longer than 255'),
        ('a\n', 'the part'),
        ('pythön', 'the part'),
    ],
)
def test_what_is_no_name_is_refused_with_a_sentence(text, said):
    with pytest.raises(PackagingError, match='is no name of an image') as caught:
        Reference.parse(text)
    assert said in str(caught.value)
    assert 'Expected REGISTRY/NAME:TAG' in str(caught.value)


@given(st.text(max_size=60) | st.text('ab:/@.-_[]1localhost', max_size=40))
def test_any_text_is_a_name_or_an_error_and_a_name_reads_back(text):
    try:
        reference = Reference.parse(text)
    except PackagingError:
        return
    assert Reference.parse(str(reference)) == reference
    assert Reference.parse(reference.familiar) == reference


def test_a_familiar_name_leaves_out_what_docker_fills_in():
    assert Reference.parse('docker.io/library/python:3').familiar == 'python:3'
    assert Reference.parse('docker.io/team/x:3').familiar == 'team/x:3'
    assert Reference.parse('host:1/x').familiar == 'host:1/x:latest'


def test_a_reference_is_fixed_to_its_content_by_a_digest():
    fixed = Reference.parse('host:1/x:3').with_digest(DIGEST)
    assert str(fixed) == f'host:1/x@{DIGEST}'
    assert fixed.manifest == DIGEST
    assert str(fixed.with_tag('4')) == 'host:1/x:4'
