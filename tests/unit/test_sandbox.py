"""Hostile programs, run for real."""

import os
from pathlib import Path

import pytest

from entrypoint.compare import sandbox

REFUSED = "PermissionError: [Errno 1] Operation not permitted"


def test_a_program_prints_and_reads_what_is_typed() -> None:
    outcome = sandbox.run("print('你好', input('Name? '))", typed="Bo\n")
    assert outcome == sandbox.Outcome("Name? 你好 Bo\n")


def test_the_same_seed_throws_the_same_dice() -> None:
    program = "import random\nprint([random.randint(1, 6) for _ in range(9)])"
    first, again, other = (sandbox.run(program, seed=seed).output for seed in (1, 1, 2))
    assert first == again != other


def test_the_standard_library_is_there() -> None:
    program = (
        "import datetime, statistics, collections\n"
        "def later():\n    from decimal import Decimal\n    return Decimal(1)\n"
        "print(statistics.mean([1, 3]), datetime.date(2024, 5, 29), later())"
    )
    assert sandbox.run(program) == sandbox.Outcome("2 2024-05-29 1\n")


@pytest.mark.parametrize(
    ("program", "error"),
    [
        ("x = 1 / 0", "ZeroDivisionError: division by zero"),
        ("def f(:", "SyntaxError: invalid syntax"),
        ("input()", "EOFError: EOF when reading a line"),
        ("import numpy", "ModuleNotFoundError: No module named 'numpy'"),
        ("raise SystemExit('enough')", "enough"),
        ("import ctypes\nctypes.string_at(0)", "It ended by SIGSEGV."),
    ],
)
def test_a_program_that_fails_says_why(program: str, error: str) -> None:
    assert sandbox.run(program).error == error


@pytest.mark.parametrize(
    "program",
    [
        "import socket\nsocket.socket()",
        "import os\nos.fork()",
        "import subprocess\nsubprocess.run(['true'])",
        "import os, sys\nos.execv(sys.executable, ['python', '-c', 'print(1)'])",
        "import os\nos.kill(os.getppid(), 9)",
        "print(open('/etc/passwd').read())",
        "import os\nprint(open(f'/proc/{os.getppid()}/environ').read())",
        "import os\nprint(os.listdir('/'))",
        "open('/tmp/escaped', 'w')",
        "import os\nos.unlink('/tmp/file')",
        "import os\nos.chroot('/')",
    ],
)
def test_what_could_harm_or_reach_anybody_is_refused(program: str) -> None:
    outcome = sandbox.run(program)
    assert REFUSED in outcome.error
    assert outcome.output == ""
    assert outcome.ran


def test_below_python_it_is_refused_too() -> None:
    program = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
for name in ("fork", "socket", "open", "system", "ptrace", "unshare", "kill"):
    print(name, getattr(libc, name)(b"/etc/passwd" if name in ("open", "system") else 2, 1, 0))
print(libc.syscall(41 + 0x40000000, 2, 1, 0), libc.prctl(22, 0, 0))
"""
    lines = sandbox.run(program).output.splitlines()
    assert lines[:3] == ["fork -1", "socket -1", "open -1"]
    assert lines[3] == f"system {127 << 8}"
    assert lines[4:] == ["ptrace -1", "unshare -1", "kill -1", "-1 -1"]


def test_a_fork_bomb_stays_one_process() -> None:
    bomb = "import os\nfor _ in range(50):\n    try: os.fork()\n    except OSError: print('no')"
    assert sandbox.run(bomb).output == "no\n" * 50
    assert (
        "can't start new thread"
        in sandbox.run("import threading\nthreading.Thread(target=print).start()").error
    )


def test_its_environment_is_empty_and_so_is_what_it_has_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LLMDEPLOY_API_KEY", "secret")
    program = """
import os
print(os.environ.get("LLMDEPLOY_API_KEY"))
for number in range(3, 50):
    try: print(os.fstat(number))
    except OSError: pass
"""
    assert sandbox.run(program).output == "None\n"


@pytest.mark.parametrize(
    "program", ["x = 'a' * 10**10", "x = []\nwhile True: x.append('a' * 10**6)"]
)
def test_memory_has_a_limit(program: str) -> None:
    assert sandbox.run(program).error == "MemoryError"


def test_output_has_a_limit() -> None:
    outcome = sandbox.run("while True: print('x' * 1000)")
    assert outcome.error == "OSError: [Errno 27] File too large"
    assert len(outcome.output) <= sandbox.OUTPUT


@pytest.mark.parametrize(
    ("program", "limit"),
    [("while True: pass", "SECONDS"), ("import time\ntime.sleep(99)", "PATIENCE")],
)
def test_time_has_a_limit_and_what_was_printed_till_then_counts(
    program: str, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, limit, 1)
    outcome = sandbox.run(f"print('begun', flush=True)\n{program}")
    assert outcome == sandbox.Outcome("begun\n", "It did not end.", ended=False)


def test_a_program_cannot_say_that_it_was_not_run() -> None:
    program = f"import os\nos.write(2, b'no safe place')\nos._exit({sandbox.cage.CLOSED_NOT})"
    assert sandbox.run(program) == sandbox.Outcome("", "no safe place")


def test_what_a_program_complains_of_is_told_in_short() -> None:
    error = sandbox.run("raise SystemExit('x' * 10_000)").error
    assert error == "x" * sandbox.ERROR + "…"


def test_where_it_cannot_be_locked_in_nothing_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel without filters is played by a cage that asks for an option no kernel has."""
    code = Path(sandbox.cage.__file__).read_text(encoding="utf-8")
    broken = tmp_path / "cage.py"
    broken.write_text(
        code.replace("PR_SET_NO_NEW_PRIVS = 1, 22, 38", "PR_SET_NO_NEW_PRIVS = 1, 22, 9999")
    )
    monkeypatch.setattr(sandbox.cage, "__file__", os.fspath(broken))
    outcome = sandbox.run("print('free')")
    assert outcome == sandbox.Outcome("", "Invalid argument", ran=False)
