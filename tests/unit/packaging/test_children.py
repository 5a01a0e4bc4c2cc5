import os
import signal
import subprocess
import sys
import threading

import pytest
from tests.acceptance.polling import until

from xmanager.errors import PackagingError
from xmanager.packaging import children


def test_each_line_of_both_streams_is_heard_and_the_exit_code_returned():
    heard: list[str] = []
    command = ['sh', '-c', r"printf 'a\nb\r\n'; printf '\377\n' >&2; printf c; exit 3"]
    assert children.run(command, os.environ, heard.append) == 3
    assert heard == ['a', 'b', '�', 'c']


def test_a_program_that_is_not_there_is_named():
    with pytest.raises(PackagingError, match=r"/no/such can't be run"):
        children.run(['/no/such'], {}, print)


def test_a_program_ends_with_who_listens_to_it():
    pids: list[int] = []

    def hear(line: str) -> None:
        pids.append(int(line))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        children.run(['sh', '-c', 'echo $$; exec sleep 600'], os.environ, hear)
    assert is_gone(pids[0])


def test_what_another_thread_runs_can_be_ended():
    pids: list[int] = []
    command = ['sh', '-c', 'echo $$; exec sleep 600']
    thread = threading.Thread(
        target=children.run, args=(command, os.environ, lambda line: pids.append(int(line)))
    )
    thread.start()
    until(lambda: pids)
    children.end_all()
    thread.join()
    assert is_gone(pids[0])


def test_ctrl_c_of_a_launcher_leaves_no_program_of_a_thread():
    script = (
        'import os, threading, time\n'
        'from xmanager.packaging import children\n'
        "command = ['sh', '-c', 'echo $$; exec sleep 600']\n"
        'hear = lambda line: print(line, flush=True)\n'
        'threading.Thread(target=children.run, args=(command, os.environ, hear), daemon=True).start()\n'
        'time.sleep(600)\n'
    )
    with subprocess.Popen(
        [sys.executable, '-c', script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as launcher:
        assert launcher.stdout is not None
        pid = int(launcher.stdout.readline())
        launcher.send_signal(signal.SIGINT)
        launcher.wait(30)
    assert is_gone(pid)


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False
