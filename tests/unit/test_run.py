"""The programs that stages run: how their end is told."""

import errno
import os
import sys

import pytest

from builder.stage.run import run
from entrypoint.common.errors import CommandFailed, DiskFull, Failure


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (os.strerror(errno.ENOSPC), DiskFull),
        (os.strerror(errno.EDQUOT), DiskFull),
        ("error: no space left on device (os error 28)", DiskFull),
        (os.strerror(errno.EIO), CommandFailed),
    ],
)
def test_a_program_that_finds_the_disk_full_says_so(words: str, kind: type[Failure]) -> None:
    with pytest.raises(Failure) as caught:
        run([sys.executable, "-c", f"raise SystemExit({words!r})"])
    assert type(caught.value) is kind
    assert caught.value.why == words
