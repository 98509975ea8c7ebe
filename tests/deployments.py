"""What deployments in tests say of their platform."""

from typing import Final

from builder.launch.platforms.ecs import Ecs

ECS: Final = Ecs(
    instance_type="ecs.g8i.large",
    image_id="debian_12",
    vpc="vpc-1",
    vswitch="vsw-1",
    cidr="10.0.0.0/8",
    ram_role="puller",
)
