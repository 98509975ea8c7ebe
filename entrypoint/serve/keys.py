"""Who may ask: the keys, compared in a time that tells nothing about them."""

from __future__ import annotations

import hashlib
import hmac
import stat
from pathlib import Path

from entrypoint.common.errors import ConfigFailure
from entrypoint.common.language import _
from entrypoint.serve import journal


class Keys:
    """The keys from a variable and from a file, which is read again when it changes.

    Without any from the beginning, everybody may ask; with a file that lost its keys, nobody may.
    """

    def __init__(self, variable: str, file: Path | None) -> None:
        self._fixed = _digests(variable)
        self._file = file
        self._stamp = _stamp(file)
        self._known = self._read()
        self._wanted = bool(self._known)
        if file and file.stat().st_mode & stat.S_IROTH:
            hint = _("Every user of this machine can read it: chmod o= {path}").format(path=file)
            journal.write("keys open to others", "warning", hint=hint)

    def __bool__(self) -> bool:
        return self._wanted

    def allow(self, authorization: str) -> bool:
        """Tell whether the value of an Authorization header has a key, with or without Bearer."""
        self._refresh()
        scheme, _space, rest = authorization.partition(" ")
        key = rest if scheme.lower() == "bearer" else authorization
        digest = hashlib.sha256(key.strip().encode()).digest()
        # Each is compared, so that the time does not tell which one matched.
        matches = [hmac.compare_digest(digest, known) for known in self._known]
        return not self._wanted or any(matches)

    def _refresh(self) -> None:
        """Read a changed file again; one that is gone, empty or unreadable takes its keys back."""
        stamp = _stamp(self._file)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._known = self._read()
            journal.write("keys read", count=len(self._known))
        except ConfigFailure as failure:
            self._known = self._fixed
            journal.write("keys revoked", "error", error=failure.what)

    def _read(self) -> tuple[bytes, ...]:
        if self._file is None:
            return self._fixed
        try:
            digests = _digests(self._file.read_text(encoding="utf-8-sig"))
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or _("It is not UTF-8.")
            raise ConfigFailure(
                _("{path} cannot be read.").format(path=self._file),
                reason,
                _("Write one key a line into it."),
            ) from None
        if not digests:
            raise ConfigFailure(
                _("{path} has no key in it.").format(path=self._file),
                next=_("Write one key a line into it."),
            )
        return self._fixed + digests


def _digests(text: str) -> tuple[bytes, ...]:
    """Return the digest of each line; empty lines and those that begin with # are none."""
    lines = (line.strip() for line in text.splitlines())
    return tuple(
        hashlib.sha256(line.encode()).digest() for line in lines if line and line[0] != "#"
    )


def _stamp(file: Path | None) -> tuple[int, int, int] | None:
    try:
        state = file.stat() if file else None
    except OSError:
        return None
    return (state.st_mtime_ns, state.st_ino, state.st_size) if state else None
