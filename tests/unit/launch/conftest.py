"""One deployment for all platforms, and the files that each renders of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.launch import targets
from builder.launch.deployment import Deployment

GOLDEN = Path(__file__).with_name("golden")
IMAGE = "registry.example.com/team/llmdeploy@sha256:" + "0123456789abcdef" * 4


@pytest.fixture
def deployment() -> Deployment:
    return Deployment(
        name="chat",
        registry="registry.example.com/team",
        model="qwen2.5-coder-0.5b",
        cpus=2,
        memory=3072,
        keys="/deploy.keys",
        alias=("gpt-4o-mini",),
        system="You are a helpful assistant.",
        origin=("https://chat.example.com",),
    )


@pytest.fixture
def golden() -> Callable[[str, Deployment], None]:
    """Return a check that a platform's files are those kept in golden/.

    With the variable GOLDEN=write they are written instead; look at the difference in git.
    """

    def check(target: str, deployment: Deployment) -> None:
        rendered = targets.find(target).render(deployment, IMAGE)
        folder = GOLDEN / target
        if os.environ.get("GOLDEN") == "write":
            folder.mkdir(parents=True, exist_ok=True)
            for name, text in rendered.items():
                (folder / name).write_text(text, encoding="utf-8")
        kept = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}
        assert rendered == kept

    return check
