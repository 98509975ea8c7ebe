"""What a virtual machine is told at its first start: cloud-init's user data.

The files of vm/ go in as they are; what differs between deployments is in service.env alone. No
secret is among it: whoever can use the machine can read its user data.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any, Final

import yaml

from builder.launch import service
from builder.launch.deployment import Deployment
from entrypoint.common.errors import ConfigFailure
from entrypoint.common.language import _

FILES: Final = Path(__file__).with_name("vm")
LARGEST: Final = 16 << 10  # bytes before base64, by the older of two limits that are documented
PLACES: Final = {
    "llmdeploy.service": ("/etc/systemd/system/llmdeploy.service", "0644"),
    "prepare.sh": ("/usr/local/lib/llmdeploy/prepare.sh", "0755"),
    "role.py": ("/usr/local/lib/llmdeploy/role.py", "0644"),
}
HEADER: Final = "#cloud-config\n"  # cloud-init looks for it


def render(
    deployment: Deployment,
    image: str,
    *,
    role: str = "",
    secret: str = "",
    registry_instance: str = "",
) -> str:
    """Return the user data; raise ConfigFailure if it is larger than a cloud takes.

    With the RAM role `role` the machine logs in to the ACR instance, and reads the KMS secret.
    """
    variables = {
        "IMAGE": image,
        "PORT": deployment.port,
        "CPUS": deployment.cpus,
        "MEMORY": f"{deployment.memory}m",
        "WORDS": shlex.join(service.words(deployment, keys=service.KEYS)),
        "REGION": deployment.region,
        "ROLE": role,
        "SECRET": secret,
        "INSTANCE": registry_instance,
    }
    settings = "".join(f"{name}={shlex.quote(str(value))}\n" for name, value in variables.items())
    files = [
        {"path": "/etc/llmdeploy/service.env", "permissions": "0644", "content": settings},
        *(
            {
                "path": path,
                "permissions": mode,
                "content": (FILES / name).read_text(encoding="utf-8"),
            }
            for name, (path, mode) in PLACES.items()
        ),
    ]
    config: dict[str, Any] = {
        "write_files": files,
        # Not waited for: it takes as long as the image takes to come.
        "runcmd": [["systemctl", "enable", "--now", "--no-block", "llmdeploy.service"]],
    }
    text = (
        HEADER
        + service.GENERATED.format(target="ecs")
        + yaml.dump(config, Dumper=_Readable, sort_keys=False, width=100)
    )
    if len(text.encode()) > LARGEST:
        raise ConfigFailure(
            _("The user data has {size} bytes, and a cloud takes {largest}.").format(
                size=len(text.encode()), largest=LARGEST
            )
        )
    return text


class _Readable(yaml.SafeDumper):
    """Writes files as blocks, as a person would."""


def _block(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style="|" if "\n" in text else None
    )


_Readable.add_representer(str, _block)
