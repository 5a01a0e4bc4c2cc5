import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmanager.store.masking import looks_secret, mask_argv, mask_env, mask_text, mask_values


@pytest.mark.parametrize(
    'name',
    [
        'HF_TOKEN', 'token', 'WANDB_API_KEY', 'apikey', 'apiKey', '--api-key', 'db.password', 'PASSWORD_FILE',
        'client_secret', 'SECRETS', 'ssh_passphrase', 'passwd', 'AWS_ACCESS_KEY',
    ],
)  # fmt: skip
def test_these_names_look_like_secrets(name):
    assert looks_secret(name)


@pytest.mark.parametrize(
    'name',
    ['', 'key', 'keys', 'max_tokens', 'tokenizer', 'token_count', 'monkey', 'path', 'PATH', 'lr'],
)
def test_these_names_do_not(name):
    assert not looks_secret(name)


def test_the_environment_shows_names_of_secrets_and_no_values():
    shown = mask_env({'A': '1', 'B_TOKEN': 'hush', 'C_KEY': ''}, {'D': 'WANDB'})
    assert shown == {'A': '1', 'B_TOKEN': '***', 'C_KEY': '', 'D': '<secret WANDB>'}


@pytest.mark.parametrize(
    ('argv', 'shown'),
    [
        (['train', '--api_key=hush', '--lr=1'], ('train', '--api_key=***', '--lr=1')),
        (['train', '--api-key', 'hush', 'x'], ('train', '--api-key', '***', 'x')),
        (['train', '--use_secret', '--lr', '1'], ('train', '--use_secret', '--lr', '1')),
        (['--password', '-abc', '-n'], ('--password', '***', '-n')),
        (['--use_secret', '--api-key', '--5'], ('--use_secret', '--api-key', '***')),
        (['env', 'API_KEY=hush hush', 'train'], ('env', 'API_KEY=***', 'train')),
        (['--secret=a=b c\nd'], ('--secret=***',)),
        (['--empty_token='], ('--empty_token=',)),
        (
            ['sh', '-c', 'A=1 X_TOKEN="a b" train --password=hush --lr=1'],
            ('sh', '-c', 'A=1 X_TOKEN=*** train --password=*** --lr=1'),
        ),
        (['a', '==', '=', '--=x'], ('a', '==', '=', '--=x')),
        ([], ()),
    ],
)
def test_command_lines_keep_all_but_their_secrets(argv, shown):
    assert mask_argv(argv) == shown


def test_arguments_are_masked_however_deep():
    args = {
        'args': {'lr': 0.1, 'api_key': 'hush', 'no_token': None, 'use_secret': True},
        'learner': {'env_vars': {'DB_PASSWORD': 5}, 'list': ['--api_key=hush', '--n=1']},
        'mixed': [1, {'token': 'hush'}],
        'secret': {'lr': 1, 'password': 'hush'},
        'tokens_key': ['hush', 'hush'],
    }
    assert mask_values(args) == {
        'args': {'lr': 0.1, 'api_key': '***', 'no_token': None, 'use_secret': True},
        'learner': {'env_vars': {'DB_PASSWORD': '***'}, 'list': ['--api_key=***', '--n=1']},
        'mixed': [1, {'token': '***'}],
        'secret': {'lr': 1, 'password': '***'},
        'tokens_key': '***',
    }


@pytest.mark.parametrize(
    ('items', 'shown'),
    [
        (['--password', 'hush', 5], ['--password', '***', 5]),
        ([1, '--password', 5, True], [1, '--password', '***', True]),
        (('--use_secret', True, None), ['--use_secret', True, None]),
        ([('--token', 'hush'), 0.5], [['--token', '***'], 0.5]),
        (['--token', ['hush'], '--token', {'a': 'hush'}], ['--token', '***', '--token', '***']),
        (['--token=hush', 1], ['--token=***', 1]),
    ],
)
def test_a_list_of_this_and_that_is_masked_too(items, shown):
    assert mask_values(items) == shown


HARMLESS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.sampled_from(['train', '--lr', '-v', '--use_cache', '--n=1', '', '--']),
)
SECRETIVE = st.sampled_from(['--password', '-api_key', '--client.secret', '--hf-token'])
HUSH = st.sampled_from(['hush', '-hush', '--5hush', '=hush', 'hush=1 2'])


@given(st.lists(st.one_of(HARMLESS.map(lambda item: [item]), st.tuples(SECRETIVE, HUSH).map(list))))
def test_a_secret_after_its_flag_is_never_shown_whatever_stands_around_it(parts):
    items = [item for part in parts for item in part]
    shown = mask_values({'args': items})['args']
    assert 'hush' not in repr(shown)
    assert len(shown) == len(items)


WORDS = st.one_of(HARMLESS, HUSH)
NESTED = st.recursive(
    WORDS, lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text('ab'), inner))
)


@given(st.lists(st.one_of(NESTED, st.just({'password': 'geheim'}), st.just(['--token', 'geheim']))))
def test_nothing_but_secrets_is_changed_however_deep(items):
    shown = mask_values(items)
    assert 'geheim' not in repr(shown)
    assert mask_values([item for item in items if 'geheim' not in repr(item)]) == [
        item for item in items if 'geheim' not in repr(item)
    ]


@pytest.mark.parametrize(
    ('text', 'shown'),
    [
        ('postgresql://me:hush@db.test/x', 'postgresql://***@db.test/x'),
        ('--index=https://hush@host.test/simple', '--index=https://***@host.test/simple'),
        ('see http://me:hu@sh@a.test and s3://x:hush@b', 'see http://***@a.test and s3://***@b'),
        ('redis://:hush@cache.test', 'redis://***@cache.test'),
        ('curl -H "Authorization: Bearer hush" x', 'curl -H "Authorization: Bearer ***" x'),
        ('RUN pip install --token=hush', 'RUN pip install --token=***'),
        ('ssh://git@host.test/a', 'ssh://git@host.test/a'),
        ('https://host.test:80/a@b', 'https://host.test:80/a@b'),
        ('https://host.test/?to=a:b@c', 'https://host.test/?to=a:b@c'),
        ('me@host.test:a b@c', 'me@host.test:a b@c'),
    ],
)
def test_logins_within_a_text_are_masked(text, shown):
    assert mask_text(text) == shown
    assert mask_text(shown) == shown
    assert mask_argv([text]) == (shown,)
    assert mask_values({'args': [text]}) == {'args': [shown]}
    assert mask_env({'PLACE': text}) == {'PLACE': shown}
