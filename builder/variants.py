"""The variants of the product, one for each engine: its environment, its image, what they cost."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from entrypoint.common.errors import UsageFailure
from entrypoint.common.language import _


@dataclass(frozen=True)
class Variant:
    """What is built for one engine.

    `environment` is the NAME of env/NAME.lock. `compiled` tells whether the wheel that is made of
    env/llamacpp/ goes in too. `packing` is the disk space that building the environment takes, in
    bytes. `bounds` are the promised megabytes of the image without weights, unpacked and
    compressed. `python` is the one version that the wheels are for, if there is one, and `torch`
    the one that the engine was compiled against. `kernel` is the name by which Jupyter in the image
    offers its Python, if it has Jupyter.
    """

    engine: str
    environment: str
    compiled: bool
    packing: int
    bounds: tuple[int, int]
    python: str = ""
    torch: str = ""
    kernel: str = ""


VARIANTS: Final[Mapping[str, Variant]] = {
    each.engine: each
    for each in (
        # Packing has the files three times, the tar once.
        Variant(
            "itrex",
            "itrex",
            compiled=False,
            packing=8_000_000_000,
            bounds=(2000, 700),
            python="3.11",
            torch="2.3.0",
            kernel="itrex",
        ),
        Variant("llamacpp", "runtime", compiled=True, packing=500_000_000, bounds=(200, 80)),
        Variant("openvino", "openvino", compiled=False, packing=1_000_000_000, bounds=(240, 80)),
    )
}
DEFAULT: Final = "llamacpp"


def find(engine: str) -> Variant:
    """Return the variant of an engine; raise UsageFailure with a suggestion if there is none."""
    if engine in VARIANTS:
        return VARIANTS[engine]
    raise _unknown(_("There is no engine called {name}.").format(name=engine), engine, VARIANTS)


def of_environment(name: str) -> Variant:
    """Return the variant of an environment; raise UsageFailure if there is none of that name."""
    by_environment = {each.environment: each for each in VARIANTS.values()}
    if name in by_environment:
        return by_environment[name]
    raise _unknown(
        _("There is no environment called {name}.").format(name=name), name, by_environment
    )


def _unknown(what: str, name: str, known: Mapping[str, Variant]) -> UsageFailure:
    near = difflib.get_close_matches(name, known, n=1)
    return UsageFailure(
        what,
        _("It is one of: {names}.").format(names=", ".join(known)),
        _("Did you mean {name}?").format(name=near[0]) if near else "",
    )
