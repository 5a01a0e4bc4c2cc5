"""`python -m xmanager` is the command `xmanager`."""

from __future__ import annotations

import sys

from xmanager.cli.main import main

if __name__ == '__main__':
    sys.exit(main())
