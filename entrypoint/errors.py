"""The failures that users see: one base class, one exit code per kind.

Each program catches `Failure` once, at its edge. A message says what failed, why, and what to do
next. The table in README.md is generated from `EXIT_CODES`.
"""

from __future__ import annotations

from typing import ClassVar


class Failure(Exception):
    """A problem that the user can understand and act on.

    `what` failed, `why`, and what to do `next`: each a full sentence in the user's language.
    """

    code: ClassVar[int] = 1
    meaning: ClassVar[str] = "unexpected error (a bug: please report it)"

    def __init__(self, what: str, why: str = "", next: str = "") -> None:
        super().__init__(what)
        self.what, self.why, self.next = what, why, next

    def __str__(self) -> str:
        return "\n  ".join(part for part in (self.what, self.why, self.next) if part)


class UsageFailure(Failure):
    code, meaning = 2, "unknown task, command or option, or a wrong value for one"


class UnknownModel(Failure):
    code, meaning = 3, "the model is not in the catalogue"


class ConfigFailure(Failure):
    code, meaning = 4, "a settings, models or questions file is malformed"


class HashMismatch(Failure):
    code, meaning = 5, "content does not match its locked hash"


class DownloadFailure(Failure):
    code, meaning = 6, "no source delivered the whole file"


class UnsafeArchive(Failure):
    code, meaning = 7, "an archive has members that would escape its folder"


class DiskFull(Failure):
    code, meaning = 8, "not enough disk space"


class NoContainerEngine(Failure):
    code, meaning = 9, "no container engine answers"


class EnginePermission(Failure):
    code, meaning = 10, "the container engine refuses this user"


class ImageMissing(Failure):
    code, meaning = 11, "the image does not exist"


class NotEnoughMemory(Failure):
    code, meaning = 12, "not enough memory for the model"


class DamagedModel(Failure):
    code, meaning = 13, "a model file is missing, truncated or damaged"


class NotWritable(Failure):
    code, meaning = 14, "a file or folder cannot be written"


class NotUtf8(Failure):
    code, meaning = 15, "standard input or a text file is not UTF-8"


class StageMissing(Failure):
    code, meaning = 16, "an earlier stage has not run"


class UnsupportedCpu(Failure):
    code, meaning = 17, "the CPU lacks the needed instructions"


class EngineCrashed(Failure):
    code, meaning = 18, "the inference engine stopped unexpectedly"


class CommandFailed(Failure):
    code, meaning = 19, "a program that a stage runs has failed"


class LockDrift(Failure):
    code, meaning = 20, "a lock does not match its intent file"


EXIT_CODES: dict[int, str] = {
    0: "success",
    Failure.code: Failure.meaning,
    **{kind.code: kind.meaning for kind in Failure.__subclasses__()},
    130: "interrupted with Ctrl-C",
}
