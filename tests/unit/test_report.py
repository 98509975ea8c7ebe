"""What is seen of a build that takes minutes."""

import os
import subprocess
import sys
from pathlib import Path

import pexpect

from builder.settings import ROOT

BUILD = """
import sys
from pathlib import Path
from builder.stage import report
with report.following(Path(sys.argv[1])):
    input()
"""
NINJA = "[1/458] Building C object\n[12/458] Building CXX object\n"


def test_a_terminal_shows_how_far_a_build_has_come(tmp_path: Path) -> None:
    log = tmp_path / "build.log"
    command = ["-c", BUILD, str(log)]
    env = {**os.environ, "TERM": "xterm"}
    child = pexpect.spawn(sys.executable, command, cwd=ROOT, env=env, encoding="utf-8", timeout=30)
    log.write_text(NINJA)
    child.expect_exact("[12/458]")
    child.sendline()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_a_log_gets_a_line_now_and_then_while_a_build_goes_on(tmp_path: Path) -> None:
    (tmp_path / "build.log").write_text(NINJA)
    often = BUILD.replace("with report", "report.INTERVAL = 0.05\nwith report", 1)
    command = [sys.executable, "-c", often, str(tmp_path / "build.log")]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as build:
        assert build.stderr
        assert build.stderr.readline() == b"    [12/458]\n"
        output, _errors = build.communicate(b"\n")
    assert (output, build.returncode) == (b"", 0)


def test_a_log_gets_nothing_from_a_build_that_ends_at_once(tmp_path: Path) -> None:
    (tmp_path / "build.log").write_text(NINJA)
    command = [sys.executable, "-c", BUILD, str(tmp_path / "build.log")]
    done = subprocess.run(command, cwd=ROOT, input=b"\n", capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")
