"""The edge of the build program: the one place where failures become messages and exit codes."""

from __future__ import annotations

import errno
import functools
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from invoke import Context, Exit, task

from entrypoint.common import files
from entrypoint.common.errors import Failure, NotWritable, UsageFailure
from entrypoint.common.language import _
from entrypoint.common.suggestions import did_you_mean
from entrypoint.common.visible import visible


def stage(
    *,
    positional: tuple[str, ...] = (),
    iterable: tuple[str, ...] = (),
    help: Mapping[str, str] | None = None,
) -> Callable[[Callable[..., None]], Any]:
    """Make an Invoke task of a function; its Failure ends the program with the Failure's code.

    The function's docstring and the `help` of its options are what a person reads.
    """

    def decorate(body: Callable[..., None]) -> Any:
        @functools.wraps(body)
        def guarded(context: Context, *args: Any, **options: Any) -> None:
            try:
                body(context, *args, **options)
            except KeyboardInterrupt:
                raise Exit(_("Interrupted. Run the same task again to go on."), 130) from None
            except Exception as error:
                if os.environ.get("LLMDEPLOY_DEBUG"):
                    raise
                failure = _explain(error)
                raise Exit(visible(f"llmdeploy: {failure}"), failure.code) from None

        guarded.__doc__ = _(summary(body))
        return task(
            guarded,
            positional=positional,
            iterable=iterable,
            help=dict(help or {}),
            auto_shortflags=False,
        )

    return decorate


def summary(body: Callable[..., None]) -> str:
    """Return in English, in one line, what a task does."""
    return " ".join((inspect.unwrap(body).__doc__ or "").split())


def one_of(option: str, value: str, names: Sequence[str]) -> str:
    """Return `value` if it is allowed for `option`; raise UsageFailure with a suggestion if not."""
    if value in names:
        return value
    raise UsageFailure(
        _("{option} cannot be {value}.").format(option=option, value=repr(value)),
        _("It is one of: {names}.").format(names=", ".join(names)),
        did_you_mean(names, value),
    )


def at_most_one(options: Mapping[str, object]) -> None:
    """Raise UsageFailure if more than one of the options is set."""
    names = [name for name, value in options.items() if value]
    if len(names) > 1:
        raise UsageFailure(
            _("These options exclude each other: {names}.").format(names=", ".join(names))
        )


# What the operating system says of a place that cannot be written, or is something else.
REFUSALS = frozenset(
    {
        *(errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR, errno.EISDIR),
        *(errno.ENAMETOOLONG, errno.ELOOP, errno.EBUSY),
    }
)


def _explain(error: Exception) -> Failure:
    """Name what the operating system refused; whatever is no Failure either is a bug."""
    match error:
        case Failure():
            return error
        case OSError(errno=number) if number in files.FULL:
            return files.full(error.filename)
        case OSError(errno=number) if number in REFUSALS:
            return NotWritable(
                _("{path} cannot be written: {reason}.").format(
                    path=error.filename, reason=error.strerror
                ),
                next=_("Check who owns it, or choose another place in llmdeploy.toml."),
            )
        case _unknown:
            return Failure(
                _("Unexpected error: {error}").format(error=repr(error)),
                next=_("Run the same task with LLMDEPLOY_DEBUG=1 and report what it prints."),
            )
