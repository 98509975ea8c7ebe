"""catalog.json: all that the program knows about the models beside it.

`builder.quantizers.quantize` writes it, the image carries it at /models/catalog.json.
"""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from entrypoint.common import files
from entrypoint.common.errors import ConfigFailure, DamagedModel, UnknownModel
from entrypoint.common.language import _
from entrypoint.common.suggestions import did_you_mean

SCHEMA = 1
# How a model is told to think: as `thought` reads it.
THINK: Final = re.compile(r"off|on|[1-9][0-9]{0,5}")
ENDLESS: Final = 1_000_000  # tokens of a thought that ends when the model ends it


@dataclass(frozen=True)
class ModelFile:
    """One file of a model: `path` relative to the model's folder or absolute, `size` in bytes.

    `sha256` is empty where nobody has recorded it.
    """

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class SamplingAdvice:
    """How a model's publisher advises to sample its answers; None where nothing is said.

    `temperature`, `top_p` and `min_p` as OpenAI's API has them, `top_k` a number of tokens (0:
    all), `repeat_penalty` divides the likelihood of what was said already (1: none).
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None


NO_ADVICE = SamplingAdvice()


@dataclass(frozen=True)
class Model:
    """One model, ready for one engine.

    `files[0]` is what the engine opens. `memory` is what it needs to run at `context` tokens, in
    bytes, and `memory_each` what each further conversation at once adds. `stop` are texts that end
    an answer besides the model's own end token; an empty `chat_template` means that the file
    carries its own. `task` is "chat" or "embedding". `think` says whether it reasons before it
    answers unless told otherwise: "off", "on", a number of tokens, or "" where it cannot.
    """

    name: str
    display_name: str
    engine: str
    quantization: str
    context: int
    memory: int
    languages: tuple[str, ...]
    license: str
    source: str
    revision: str
    chat_template: str
    stop: tuple[str, ...]
    files: tuple[ModelFile, ...]
    memory_each: int = 0
    task: str = "chat"
    think: str = ""
    sampling: SamplingAdvice = NO_ADVICE


@dataclass(frozen=True)
class Catalog:
    """The models of one image; `default` is the one that `chat` opens."""

    default: str
    models: tuple[Model, ...]

    def find(self, name: str | None) -> Model:
        """Return the model called `name` (None: the default); raise UnknownModel otherwise."""
        key = name or self.default
        for model in self.models:
            if model.name == key:
                return model
        names = [model.name for model in self.models]
        raise UnknownModel(
            _("There is no model called {name}.").format(name=key),
            _("Models here: {names}.").format(names=", ".join(names)),
            did_you_mean(names, key),
        )


def thought(think: str) -> int:
    """Return how many tokens a model may think that is told "off", "on" or their number.

    Raises ValueError for anything else.
    """
    if not THINK.fullmatch(think):
        raise ValueError(think)
    return {"off": 0, "on": ENDLESS}[think] if think.isalpha() else int(think)


def load(folder: Path) -> Catalog:
    """Read `folder`/catalog.json; raise DamagedModel without it, ConfigFailure if malformed."""
    path = folder / "catalog.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["schema"] != SCHEMA:
            raise ConfigFailure(
                _("{path} has format {found}; this program reads format {known}.").format(
                    path=path, found=data["schema"], known=SCHEMA
                ),
                next=_("Build the image and its models with the same version of llmdeploy."),
            )
        return Catalog(data["default"], tuple(_model(entry) for entry in data["models"]))
    except FileNotFoundError:
        raise DamagedModel(
            _("{path} does not exist.").format(path=path),
            _("It lists the models of this image."),
            _("Build one with: ./llmdeploy quantize MODEL"),
        ) from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigFailure(
            _("{path} is malformed: {error}").format(path=path, error=repr(error)),
            next=_("Write it anew with: ./llmdeploy quantize MODEL"),
        ) from None


def dump(catalog: Catalog, folder: Path) -> None:
    """Write `folder`/catalog.json in one step; equal catalogues give equal bytes."""
    data = {"schema": SCHEMA, **dataclasses.asdict(catalog)}
    text = json.dumps(data, ensure_ascii=False, indent=2, sort_keys=True) + "\n"
    files.write(folder / "catalog.json", text.encode())


def _model(entry: dict[str, Any]) -> Model:
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()
    }
    values["files"] = tuple(ModelFile(**file) for file in entry["files"])
    values["sampling"] = SamplingAdvice(**entry.get("sampling", {}))
    return Model(**values)
