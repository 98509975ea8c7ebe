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


def test_elsewhere_a_build_is_silent(tmp_path: Path) -> None:
    (tmp_path / "build.log").write_text(NINJA)
    command = [sys.executable, "-c", BUILD, str(tmp_path / "build.log")]
    done = subprocess.run(command, cwd=ROOT, input=b"\n", capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")
