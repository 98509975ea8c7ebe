"""From an image to a service: deploy.toml describes it once, each platform has one module.

`render` turns the description into what the platform reads and is pure; `apply` makes it so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

# Each platform's name and its module, which is a `targets.Target`.
PLATFORMS: Final[Mapping[str, str]] = {
    "compose": "builder.launch.compose",
    "swarm": "builder.launch.swarm",
    "k8s": "builder.launch.k8s",
    "ecs": "builder.launch.alibaba.ecs",
    "eas": "builder.launch.alibaba.eas",
    "dsw": "builder.launch.alibaba.dsw",
}
