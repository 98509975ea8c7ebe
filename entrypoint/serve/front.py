"""How the service shows itself: under which names, to pages of which sites, with which orders."""

from __future__ import annotations

from dataclasses import dataclass

ANY = "*"


@dataclass(frozen=True)
class Front:
    """`aliases` are further names of the first model, ANY all names that nobody has.

    Pages of `origins` may ask from a browser. `system` begins each conversation that has no
    system message of its own. With `any_name`, others reach us by names that we don't know (see
    `Hosts`); with `open_metrics`, the metrics may be read without a key; they are
    told under the names of `metrics_alias` too.
    """

    aliases: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    system: str = ""
    any_name: bool = False
    open_metrics: bool = False
    metrics_alias: str = ""
