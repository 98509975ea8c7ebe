"""Which docker command line builds, tried on small programs that answer as docker would."""

from pathlib import Path

import pytest

from builder.image import daemon
from entrypoint.common.errors import CommandFailed

OLD = 'echo 20.10.24+dfsg1; [ "$1" = version ]'
NEW_ALONE = 'echo 28.2.2; [ "$1" = version ]'
NEW_WITH_BUILDX = "echo 28.2.2"


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return the places of three docker command lines, in the order of PATH."""
    places = []
    for name, script in {"a": NEW_ALONE, "b": OLD, "c": NEW_WITH_BUILDX}.items():
        place = tmp_path / name / "docker"
        place.parent.mkdir()
        place.write_text(f"#!/bin/sh\n{script}\n")
        place.chmod(0o755)
        places.append(place)
    monkeypatch.setenv("PATH", ":".join(str(place.parent) for place in places))
    return places


def test_a_new_client_without_buildx_is_passed_over_for_an_old_one(on_path: list[Path]) -> None:
    assert daemon.building_client() == daemon.Client(on_path[1], {"DOCKER_BUILDKIT": "1"})


def test_a_new_client_with_buildx_needs_nothing(on_path: list[Path]) -> None:
    on_path[1].unlink()
    assert daemon.building_client() == daemon.Client(on_path[2], {})


def test_without_a_client_that_can_build_buildx_is_named(on_path: list[Path]) -> None:
    on_path[1].unlink()
    on_path[2].unlink()
    with pytest.raises(CommandFailed, match="BuildKit") as failure:
        daemon.building_client()
    assert "docker-buildx" in failure.value.next
