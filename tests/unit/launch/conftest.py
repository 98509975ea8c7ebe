"""One deployment for all platforms."""

from __future__ import annotations

import pytest

from builder.launch.deployment import Deployment


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
