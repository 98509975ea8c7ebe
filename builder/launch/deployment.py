"""What is launched, told once for every platform, and what a platform's table of it must have."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields, replace
from typing import ClassVar, Final, TypeVar

from entrypoint.common.errors import ConfigFailure
from entrypoint.common.language import _

NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,25}[a-z0-9]")  # the narrowest of the platforms' rules
WORD: Final = re.compile(r"\*|[\w.:/-]+")  # a model's further name
ORIGIN: Final = re.compile(r"https?://[\w.:\[\]-]+", re.ASCII)
HAZARD: Final = re.compile(r"[\x00-\x1f\x7f\\$]")
PORTS: Final = range(1, 65536)
UNSET: Final = "NOT-SET-YET"  # a placeholder that nobody takes for a name


@dataclass(frozen=True)
class Table:
    """A platform's table of deploy.toml; `pulls` tells whether its image comes from a registry."""

    pulls: ClassVar[bool] = True

    def misfits(self) -> Iterator[tuple[str, str]]:
        """Name each key whose value cannot be meant, with the reason or ""."""
        yield from ()

    def draft(self, deployment: Deployment) -> Deployment:
        """Return the deployment to show: what the platform requires has a placeholder, told so."""
        return deployment


Kind = TypeVar("Kind", bound=Table)


@dataclass(frozen=True)
class Description:
    """What deploy.toml says to all platforms, outside of their tables.

    `cpus`, `memory` in MiB and `parallel` answers are those of each replica.
    `engine` chooses among the images that are built here; `image` names another local one, or one
    by digest in a registry. `registry` is a host and a namespace.
    `keys` names a file of API keys, relative to deploy.toml. `alias` are further names of the
    model, `system` begins conversations, pages of `origin` may ask. `patience` is in seconds.
    """

    name: str
    engine: str = ""
    image: str = ""
    registry: str = ""
    model: str = ""
    replicas: int = 1
    cpus: float = 2
    memory: int = 2048
    parallel: int = 4
    port: int = 8000
    keys: str = ""
    alias: tuple[str, ...] = ()
    system: str = ""
    origin: tuple[str, ...] = ()
    patience: int = 300
    region: str = "cn-shanghai"

    def misfits(self) -> Iterator[tuple[str, str]]:
        """Name each key whose value cannot be meant, with the reason or ""."""
        for key in ("replicas", "cpus", "memory", "parallel", "patience"):
            if getattr(self, key) <= 0:
                yield key, ""
        if self.port not in PORTS:
            yield "port", ""
        if not all(WORD.fullmatch(name) for name in self.alias):
            yield "alias", ""
        if not NAME.fullmatch(self.name):
            yield (
                "name",
                _("A name has 2 to 27 lower-case letters, digits and hyphens, a letter first."),
            )
        if HAZARD.search(self.system):
            yield "system", _("Platforms read line breaks, backslashes and $ in their own ways.")
        if not all(ORIGIN.fullmatch(site) for site in self.origin):
            yield "origin", _("An origin is http:// or https:// and a host, without a path.")


@dataclass(frozen=True)
class Deployment(Description):
    """One deployment: the description, and the tables of the platforms that deploy.toml names."""

    tables: tuple[Table, ...] = ()

    def table(self, kind: type[Kind]) -> Kind:
        """Return a platform's table, of defaults if deploy.toml has none.

        Raises ConfigFailure if the table has keys without a default.
        """
        for each in self.tables:
            if type(each) is kind:
                return each
        if any(each.default is MISSING for each in fields(kind)):
            raise ConfigFailure(
                _("deploy.toml has no table [{name}].").format(name=kind.__name__.lower()),
                next=_("deploy.example.toml shows what belongs in it."),
            )
        return kind()

    def having(self, table: Table) -> Deployment:
        """Return the deployment with this table in the place of the one of its kind."""
        others = (each for each in self.tables if type(each) is not type(table))
        return replace(self, tables=(*others, table))


def is_network(cidr: str) -> bool:
    """Tell whether a text is an address with the length of a network's prefix."""
    try:
        ipaddress.ip_network(cidr)
    except ValueError:
        return False
    return True
