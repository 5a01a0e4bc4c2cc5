"""What holds for all tests."""

import signal

# A shell starts what it runs in the background with SIGINT ignored, which all that is started here would inherit:
# tests of Ctrl-C would wait for ever in a suite that was started that way.
signal.signal(signal.SIGINT, signal.default_int_handler)
