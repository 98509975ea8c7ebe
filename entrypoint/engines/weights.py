"""Whether the files of a model are what the catalogue says."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

from entrypoint.common.catalog import Model
from entrypoint.common.errors import DamagedModel
from entrypoint.common.language import _
from entrypoint.engines import Usage


def require_files(model: Model, folder: Path) -> None:
    """Raise DamagedModel if a file of `model` in its `folder` is missing or has another size."""
    for file in model.files:
        path = folder / file.path
        if not path.is_file():
            raise _damaged(_("{path} does not exist.").format(path=path))
        size = path.stat().st_size
        if size != file.size:
            raise _damaged(
                _("{path} is damaged.").format(path=path),
                _("It has {size} bytes instead of {right}.").format(size=size, right=file.size),
            )


def require_content(model: Model, folder: Path) -> None:
    """Raise DamagedModel if the SHA-256 of a file is another; takes 0.2 to 1 s for each GB."""
    require_files(model, folder)
    for file in filter(lambda each: each.sha256, model.files):  # of a mounted file it is unknown
        path = folder / file.path
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if digest != file.sha256:
            raise _damaged(
                _("{path} is damaged.").format(path=path),
                _("Its SHA-256 is {found} instead of {right}.").format(
                    found=digest, right=file.sha256
                ),
            )


class Content:
    """The check of a model's content: made once, beside its first answer and not before it."""

    def __init__(self, model: Model, folder: Path) -> None:
        self._of = model, folder
        self._begun = threading.Lock()
        self._ended = threading.Event()
        self._failure: Exception | None = None

    def guard(
        self, pieces: Generator[str | Usage, None, None]
    ) -> Generator[str | Usage, None, None]:
        """Yield the pieces of an answer; its Usage, with which it counts, of right files only.

        The check begins after the first piece. Raises DamagedModel.
        """
        with closing(pieces):
            for piece in pieces:
                if isinstance(piece, Usage):
                    self._begin()
                    self._ended.wait()
                    if self._failure:
                        raise self._failure
                yield piece
                self._begin()

    def _begin(self) -> None:
        if self._begun.acquire(blocking=False):
            # One that nobody waits for any more ends with the program.
            threading.Thread(target=self._check, daemon=True).start()

    def _check(self) -> None:
        try:
            require_content(*self._of)
        except Exception as error:  # noqa: BLE001 - it is raised again by who waits for it
            self._failure = error
        self._ended.set()


def _damaged(what: str, why: str = "") -> DamagedModel:
    return DamagedModel(
        what,
        why,
        _("Load the image again, or build the models anew with: ./llmdeploy quantize MODEL"),
    )
