"""docker/Dockerfile, with what varies: a layer for each model, and another base if one is named."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from builder.settings import ROOT
from entrypoint.common.errors import ConfigFailure
from entrypoint.common.language import _

FILE: Final = ROOT / "docker/Dockerfile"
BASE: Final = re.compile(r"^FROM scratch AS base\nADD .*\bbase\.tar /\n", re.MULTILINE)
MODEL: Final = re.compile(r"^(ADD .*)\bmodel(\.tar /\n)", re.MULTILINE)


def render(template: str, base: str, models: Sequence[str]) -> str:
    """Return a Dockerfile with an ADD for each of the model layers, on the image `base` if named.

    Raises ConfigFailure if `template` has no place for them.
    """
    text = _replace(MODEL, "".join(rf"\g<1>{name}\g<2>" for name in models), template)
    return _replace(BASE, f"FROM {base} AS base\n", text) if base else text


def _replace(place: re.Pattern[str], new: str, text: str) -> str:
    result, count = place.subn(new, text)
    if count != 1:
        raise ConfigFailure(
            _("{path} cannot be filled in.").format(path=FILE.relative_to(ROOT)),
            _("The place of the base or of the models is not where this program looks."),
            _("Restore it: git checkout {path}").format(path=FILE.relative_to(ROOT)),
        )
    return result
