"""What this machine knows of Google Cloud: the bucket, and credentials once an executor there needs them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NoReturn

from xmanager.errors import UsageError

__all__ = [
    'enable_apis',
    'get_bucket',
    'get_creds',
    'get_project_name',
    'get_project_number',
    'get_service_account',
]

_SCOPES = ('https://www.googleapis.com/auth/cloud-platform',)


def get_bucket() -> str:
    """The name of the bucket for artifacts, from GOOGLE_CLOUD_BUCKET_NAME. Raises ValueError if it is not set."""
    bucket = os.environ.get('GOOGLE_CLOUD_BUCKET_NAME')
    if not bucket:
        raise ValueError(
            'GOOGLE_CLOUD_BUCKET_NAME is not set. Run `export GOOGLE_CLOUD_BUCKET_NAME=<name of your bucket>`; '
            '`gcloud storage buckets create gs://<name>` makes one.'
        )
    return bucket


def get_creds(scopes: Sequence[str] = _SCOPES) -> NoReturn:
    """The default credentials of Google Cloud. Raises UsageError: nothing here uses them yet."""
    del scopes
    _refuse('get_creds')


def get_project_name() -> NoReturn:
    """The project of the default credentials. Raises UsageError: nothing here uses them yet."""
    _refuse('get_project_name')


def get_project_number() -> NoReturn:
    """The number of that project. Raises UsageError: nothing here uses it yet."""
    _refuse('get_project_number')


def get_service_account() -> NoReturn:
    """The service account of jobs, made if need be. Raises UsageError: nothing here uses it yet."""
    _refuse('get_service_account')


def enable_apis() -> NoReturn:
    """Turns on the project's APIs. Raises UsageError: nothing here uses them yet."""
    _refuse('enable_apis')


def _refuse(name: str) -> NoReturn:
    raise UsageError(
        f'xm_local.auth.{name}() needs a Google Cloud client, which this version does not bring. '
        'Ask `gcloud` in the launch script, or run the jobs on this machine with xm_local.Local().'
    )
