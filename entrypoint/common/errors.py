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
    """What was typed cannot be understood."""

    code, meaning = 2, "unknown task, command or option, or a wrong value for one"


class UnknownModel(Failure):
    """The named model does not exist."""

    code, meaning = 3, "the model is not in the catalogue"


class ConfigFailure(Failure):
    """A file that a person writes has a mistake."""

    code, meaning = 4, "a settings, models or questions file is malformed"


class HashMismatch(Failure):
    """What was downloaded is not what the lock names."""

    code, meaning = 5, "content does not match its locked hash"


class DownloadFailure(Failure):
    """A download failed or stayed incomplete."""

    code, meaning = 6, "no source delivered the whole file"


class UnsafeArchive(Failure):
    """An archive was refused before anything was written."""

    code, meaning = 7, "an archive has members that would be written outside its folder"


class DiskFull(Failure):
    """A stage needs more space than there is."""

    code, meaning = 8, "not enough disk space"


class NoContainerEngine(Failure):
    """Docker is not installed or not running."""

    code, meaning = 9, "no container engine answers"


class EnginePermission(Failure):
    """Docker runs, but not for this user."""

    code, meaning = 10, "the container engine refuses this user"


class ImageMissing(Failure):
    """A container was asked for before its image was built."""

    code, meaning = 11, "the image does not exist"


class NotEnoughMemory(Failure):
    """A model would be killed by the kernel, so it is not loaded."""

    code, meaning = 12, "not enough memory for the model"


class NotEnoughMemoryLeft(NotEnoughMemory):
    """An answer would take more than is free; the engine, which was not asked for it, goes on."""


class DamagedModel(Failure):
    """A model file is not what the catalogue says."""

    code, meaning = 13, "a model file is missing, truncated or damaged"


class NotWritable(Failure):
    """The operating system refuses a write."""

    code, meaning = 14, "a file or folder cannot be written"


class NotUtf8(Failure):
    """Text has bytes that are not text."""

    code, meaning = 15, "standard input or a text file is not UTF-8"


class StageMissing(Failure):
    """The files that a stage reads are not there yet."""

    code, meaning = 16, "an earlier stage has not run"


class UnsupportedCpu(Failure):
    """The CPU cannot run even the most basic kernel."""

    code, meaning = 17, "the CPU lacks the needed instructions"


class EngineCrashed(Failure):
    """The inference engine ended while it was needed."""

    code, meaning = 18, "the inference engine stopped unexpectedly"


class CommandFailed(Failure):
    """A program that we call ended with an error."""

    code, meaning = 19, "a program that a stage runs has failed"


class LockDrift(Failure):
    """An intent file was edited and its lock was not regenerated."""

    code, meaning = 20, "a lock does not match its intent file"


class MessageTooLong(Failure):
    """A message does not fit even into an empty conversation."""

    code, meaning = 21, "a message is longer than the model's context"


class AddressInUse(Failure):
    """The requested address cannot be listened on."""

    code, meaning = 22, "the address to serve on is taken, or not this machine's"


class NotSupported(Failure):
    """The engine or the model cannot do what a request asks for, `option` where it has a name."""

    code, meaning = 23, "the engine or the model cannot do what was asked for"

    def __init__(self, what: str, why: str = "", next: str = "", *, option: str = "") -> None:
        super().__init__(what, why, next)
        self.option = option


class EndpointFailure(Failure):
    """A model behind an endpoint did not answer."""

    code, meaning = 24, "an endpoint refused a request or broke off an answer"


class BrokenAnswer(EndpointFailure):
    """An endpoint's answer broke off or was malformed; other answers may be fine."""


class NotReady(Failure):
    """A launched service did not answer; what was made for it has been undone."""

    code, meaning = 30, "a launched service did not become ready"


class Refused(Failure):
    """A registry, a cluster or a cloud refused a request."""

    code, meaning = 31, "a registry, cluster or cloud refused a request"


class Unverified(Failure):
    """An image does not match its signature."""

    code, meaning = 32, "a signature or provenance is missing, or belongs to another key or recipe"


class Vulnerable(Failure):
    """Something in the image has a vulnerability that a database knows."""

    code, meaning = 33, "a part of the image has a known vulnerability"


EXIT_CODES: dict[int, str] = {
    0: "success",
    Failure.code: Failure.meaning,
    **{kind.code: kind.meaning for kind in Failure.__subclasses__()},
    130: "interrupted with Ctrl-C",
    143: "ended by SIGTERM, as docker stop does",
}
