"""GGUF files that lie beside catalog.json: mounted into a container, and models without a build.

`docker run -v ./my.gguf:/models/my.gguf llmdeploy chat --model my`. What a catalogue would say of
such a file is read from its header. Nobody has recorded its hash, so that is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from entrypoint import engines
from entrypoint.common import catalog, facts, footprint, gguf
from entrypoint.common.catalog import Catalog, Model, ModelFile
from entrypoint.common.errors import ConfigFailure, DamagedModel, Failure
from entrypoint.common.gguf import Header
from entrypoint.common.language import _
from entrypoint.common.visible import visible

ENGINE: Final = "llamacpp"
CONTEXT: Final = 8192  # tokens, as the build side gives a model that nothing else is said of


@dataclass(frozen=True)
class Shelf(Catalog):
    """The catalogue and the mounted files that are models; of the others, what is wrong."""

    refused: Mapping[str, Failure] = field(default_factory=dict)

    def find(self, name: str | None) -> Model:
        """Return the model called `name`; raise what is wrong with it, or UnknownModel."""
        if name and name in self.refused:
            raise self.refused[name]
        return super().find(name)


def load(folder: Path) -> Shelf:
    """Read the catalogue in `folder` and the files beside it; raise what `catalog.load` raises."""
    known = catalog.load(folder)
    names = {model.name for model in known.models}
    models: list[Model] = []
    failures: dict[str, Failure] = {}
    for name, parts in _files(folder).items():
        try:
            if name in names:
                raise _named_twice(name, parts[0])
            models.append(_model(name, parts))
        except Failure as failure:
            failures[name] = failure
    return Shelf(known.default, (*known.models, *models), failures)


def unknown(model: Model) -> bool:
    """Tell whether nobody has recorded what the files of a model must be."""
    return not all(file.sha256 for file in model.files)


def _files(folder: Path) -> dict[str, list[Path]]:
    """Return the GGUF files by the name of their model; one may be in several parts."""
    if engines.find(ENGINE) is None:
        return {}
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.gguf")):
        name = _line(gguf.SHARD.sub("", path.name).removesuffix(".gguf"))
        files.setdefault(name, []).append(path)
    return files


def _model(name: str, parts: Sequence[Path]) -> Model:
    """Return what a catalogue would say of a file; raise DamagedModel or ConfigFailure."""
    header = _header(parts)
    if not facts.text(header.metadata.get("tokenizer.chat_template")):
        raise ConfigFailure(
            _("{path} does not say how a conversation is written.").format(path=parts[0]),
            _("It has no chat template."),
            _("Build it with one: ./llmdeploy up FILE --chat-template chatml"),
        )
    files = tuple(ModelFile(str(path.absolute()), path.stat().st_size, "") for path in parts)
    try:
        return _described(name, files, header)
    except (ArithmeticError, TypeError, ValueError):
        raise DamagedModel(
            _("{path} is truncated or damaged.").format(path=parts[0]),
            _("Its header has impossible values."),
        ) from None


def _described(name: str, files: tuple[ModelFile, ...], header: Header) -> Model:
    own = facts.of_gguf(header)
    context = footprint.context(header, CONTEXT)
    return Model(
        name=name,
        display_name=_line(own.display_name) or name,
        engine=ENGINE,
        quantization=footprint.type_name(header),
        context=context,
        memory=footprint.whole(header, sum(file.size for file in files), context),
        memory_each=footprint.each(header, context),
        languages=tuple(map(_line, own.languages)),
        license=_line(own.license),
        source="",
        revision="",
        chat_template="",
        stop=(),
        files=files,
        think=own.think,
        sampling=own.sampling,
    )


def _line(text: str) -> str:
    """Return a text of a stranger's file as one line that does nothing to a terminal."""
    return visible(" ".join(text.split()))


def _header(parts: Sequence[Path]) -> Header:
    """Return the header of a file; of several parts, the first one's with the tensors of all."""
    if parts[0].is_dir():
        raise DamagedModel(
            _("{path} is a folder.").format(path=parts[0]),
            _("Docker creates a folder where the file to be mounted does not exist."),
            _("Check the path on the left side of: -v FILE:{path}").format(path=parts[0]),
        )
    try:
        first, *others = map(gguf.read, parts)
    except OSError as error:
        raise DamagedModel(
            _("{path} cannot be read: {reason}.").format(path=parts[0], reason=error.strerror)
        ) from None
    count = first.metadata.get("split.count", 1)
    if isinstance(count, int) and count > len(parts):
        raise DamagedModel(
            _("{path} is one of {count} parts, of which {here} are here.").format(
                path=parts[0], count=count, here=len(parts)
            ),
            next=_("Mount all of them."),
        )
    return replace(first, tensors=sum((each.tensors for each in others), first.tensors))


def _named_twice(name: str, path: Path) -> ConfigFailure:
    return ConfigFailure(
        _("Both the catalogue and {path} have a model called {name}.").format(path=path, name=name),
        next=_("Give the file another name."),
    )
