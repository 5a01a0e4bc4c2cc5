from hypothesis import given
from hypothesis import strategies as st

from xmanager.packaging.build_output import SHOWN_LINES, BuildOutput

BUILDKIT = """\
#1 [internal] load build definition from Dockerfile
#1 DONE 0.0s

#4 [1/2] COPY busybox /bin/sh
#4 sha256:a9674f8844daf439e3de30f775602b30f5ad558304e73c775f1146ab55cfd5e7
#4 CACHED

#6 [stage-1 2/2] RUN make
#6 0.164 hello
#7 [other 1/1] RUN sleep 1
#6 0.170 oops
#6 ERROR: executor failed running [/bin/sh -c make]: exit code: 3
------
 > [2/2] RUN make:
------
failed to solve: executor failed running [/bin/sh -c make]: exit code: 3
"""
CLASSIC = """\
DEPRECATED: The legacy builder is deprecated and will be removed in a future release.
Sending build context to Docker daemon  1.985MB
Step 1/2 : FROM scratch
 --->
Step 2/2 : RUN make
 ---> Running in 564c3caf915b
\x1b[91moops
\x1b[0mhello
The command '/bin/sh -c make' returned a non-zero code: 3
"""
PODMAN = """\
STEP 1/2: FROM scratch
STEP 2/2: RUN make
hello
oops
Error: building at STEP "RUN make": while running runtime: exit status 3
"""


def heard(text: str) -> tuple[str, list[str]]:
    steps: list[str] = []
    output = BuildOutput(steps.append)
    for line in text.splitlines():
        output.hear(line)
    return output.failure(), steps


def test_buildkit_says_which_of_its_steps_failed_and_what_that_step_printed():
    failure, steps = heard(BUILDKIT)
    assert steps == [
        'step 1 of 2: COPY busybox /bin/sh',
        'step 2 of 2: RUN make',
        'step 1 of 1: RUN sleep 1',
    ]
    assert failure == (
        "step 2 of 2, 'RUN make', failed: executor failed running [/bin/sh -c make]: exit code: 3\n"
        '    hello\n    oops'
    )


def test_the_classic_builder_says_why_in_its_last_line():
    failure, steps = heard(CLASSIC)
    assert steps == ['step 1 of 2: FROM scratch', 'step 2 of 2: RUN make']
    assert failure == (
        "step 2 of 2, 'RUN make', failed: The command '/bin/sh -c make' returned a non-zero code: 3\n"
        '    oops\n    hello'
    )


def test_podman_says_why_as_an_error():
    failure, _ = heard(PODMAN)
    assert failure == (
        'step 2 of 2, \'RUN make\', failed: building at STEP "RUN make": while running runtime: exit status 3\n'
        '    hello\n    oops'
    )


def test_a_dockerfile_that_cannot_be_read_fails_without_a_step():
    failure, steps = heard('Error response from daemon: dockerfile parse error line 2: RUNN\n')
    assert failure == 'Error response from daemon: dockerfile parse error line 2: RUNN'
    assert not steps


def test_only_the_last_lines_are_shown_and_long_steps_are_cut():
    lines = [f'line {number}' for number in range(100)]
    failure, steps = heard('\n'.join(['Step 1/1 : RUN ' + 'x' * 200, *lines, 'it broke']))
    assert failure.splitlines()[1:] == [f'    {line}' for line in lines[-SHOWN_LINES:]]
    assert len(steps[0]) < 100


@given(st.text())
def test_any_output_gives_a_sentence(text):
    assert heard(text)[0]
