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
echo "==> Weights" >&2
echo "    took 0.4 s" >&2
sleep 1  # which is read before the answer is
printf "$1 $LLMDEPLOY_MIRROR $(cat)"
exec sleep 60
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "llmdeploy").write_text(ANSWERS)
    (tmp_path / "llmdeploy").chmod(0o755)
    return tmp_path


def test_the_stages_of_a_start_are_those_that_up_tells_of(checkout: Path) -> None:
    begun = fresh.start(checkout, {"LLMDEPLOY_MIRROR": "http://m"})
    assert list(begun.stages) == ["Python packages", "Weights", "the answer's first letter"]
    assert 0 < sum(begun.stages.values()) <= begun.total


def test_stages_last_until_their_end_or_until_the_next() -> None:
    lines = [
        (1.0, "==> Python packages"),
        (3.0, "==> Environment runtime"),
        (3.0, "    nothing changed"),
        (3.5, "    took 0.5 s"),
        (4.0, "==> Weights"),
        (8.0, "    took 4.0 s"),
        (10.0, "==> too late"),
    ]
    assert dict(fresh._stages(lines, 9.0)) == {
        "Python packages": 2.0,
        "Environment runtime": 0.5,
        "Weights": 4.0,
        "the answer's first letter": 1.0,
    }


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
