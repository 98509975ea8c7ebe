"""How the service shows itself: under which names, to pages of which sites, with which orders."""

from __future__ import annotations

from dataclasses import dataclass

ANY = "*"


@dataclass(frozen=True)
class Front:
    """`aliases` are further names of the first model, ANY all names that nobody has.

    Pages of `origins` may ask from a browser. `system` begins each conversation that has no
    system message of its own.
    """

    aliases: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    system: str = ""
