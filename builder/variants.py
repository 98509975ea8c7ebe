"""The variants of the product, one for each engine: its environment, its image, what they cost.

Each is described by variant.toml in the engine's package: adding an engine changes nothing here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from entrypoint.common import tomlfile
from entrypoint.common.errors import UsageFailure
from entrypoint.common.language import _
from entrypoint.common.suggestions import did_you_mean

PLACE: Final = Path(__file__).with_name("quantizers")
RECORD: Final = "variant.toml"


@dataclass(frozen=True)
class Variant:
    """What is built for one engine.

    `engine` is the name of its package, `environment` the NAME of env/NAME.lock. `packing` is the
    disk space that building the environment takes, in bytes. `bounds` are the promised megabytes of
    the image without weights, unpacked and compressed. `compiled` tells for about how many minutes
    the wheel of env/ENGINE/ is compiled on 2 cores, 0 if the engine has none such. `python` is the
    one version that the wheels are for, if there is one, and `torch` the one that the engine was
    compiled against. `kernel` is the name by which Jupyter in the image offers its Python, if it
    has Jupyter.
    """

    engine: str
    environment: str
    packing: int
    bounds: tuple[int, int]
    compiled: int = 0
    python: str = ""
    torch: str = ""
    kernel: str = ""

    @property
    def package(self) -> str:
        """The package that the compiled wheel installs."""
        return f"llmdeploy_{self.engine}"


def _load() -> dict[str, Variant]:
    """Return the variants that the engines' packages describe, by name."""
    return {
        path.parent.name: tomlfile.record(
            Variant, {"engine": path.parent.name, **tomlfile.read(path)}, path.name
        )
        for path in sorted(PLACE.glob(f"*/{RECORD}"))
    }


VARIANTS: Final[Mapping[str, Variant]] = _load()
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
    return UsageFailure(
        what,
        _("It is one of: {names}.").format(names=", ".join(known)),
        did_you_mean(known, name),
    )
