"""`bench --fresh` reads from what `up` says how long each stage took."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import pytest

from builder.bench import fresh
from builder.bench.fresh import Start
from entrypoint.common.errors import CommandFailed

ANSWERS = """#!/bin/sh
echo "==> Python packages" >&2
sleep 0.2
echo "==> Environment runtime" >&2
echo "    nothing changed" >&2
echo "    took 0.0 s" >&2
echo "==> Weights" >&2
sleep 0.4
echo "    took 0.4 s" >&2
sleep 0.1
printf "$1 $LLMDEPLOY_MIRROR $(cat)"
sleep 1
echo "==> too late" >&2
exec sleep 60
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "llmdeploy").write_text(ANSWERS)
    (tmp_path / "llmdeploy").chmod(0o755)
    return tmp_path


def test_stages_last_until_their_end_or_until_the_next(checkout: Path) -> None:
    begun = fresh.start(checkout, {"LLMDEPLOY_MIRROR": "http://m"})
    assert list(begun.stages) == [
        *("Python packages", "Environment runtime", "Weights", "the answer's first letter"),
    ]
    assert begun.stages["Python packages"] >= 0.2
    assert begun.stages["Weights"] >= 0.4
    assert begun.stages["the answer's first letter"] >= 0.1
    assert begun.total - 10 < sum(begun.stages.values()) < begun.total + 0.01


def test_no_answer_is_a_failure_that_shows_what_was_said_last(checkout: Path) -> None:
    (checkout / "llmdeploy").write_text("#!/bin/sh\necho no room >&2\nexit 8\n")
    with pytest.raises(CommandFailed, match="gave no answer") as caught:
        fresh.start(checkout, {})
    assert "no room" in caught.value.why


def test_the_table_has_every_stage_and_the_ratio() -> None:
    made = Start({"compile": 90.0, "image": 10.0}, 100.0)
    delivered = Start({"mirror": 0.0, "image": 10.0}, 20.0)
    assert fresh.table(made, delivered).splitlines()[2:] == [
        "| compile | 90.0 | - | - |",
        "| image | 10.0 | 10.0 | 1.0 |",
        "| mirror | - | 0.0 | - |",
        "| in all, to the first letter of the answer | 100.0 | 20.0 | 5.0 |",
    ]


def test_a_folder_is_served_on_loopback_while_it_is_needed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    with fresh._served(tmp_path) as address:
        assert urllib.request.urlopen(f"{address}/file").read() == b"content"
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"{address}/file")
