"""The process that an engine computes in: it never outlives us, and its death is a Failure."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from entrypoint.common.errors import EngineCrashed, Failure, NotEnoughMemory, UnsupportedCpu
from entrypoint.common.language import _

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
TAIL = 12  # lines of the log in a message


class Child:
    """A running program; what it prints is kept in memory, for messages."""

    def __init__(
        self,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        handed: Sequence[int] = (),
    ) -> None:
        """Start it out of Ctrl-C's reach, with the file descriptors `handed` open.

        The kernel kills it when the thread that started it ends.
        """
        prctl = ctypes.CDLL(None).prctl
        self._log = os.fdopen(os.memfd_create("engine.log"), "rb")
        self._given_up = False
        try:
            self._process = subprocess.Popen(
                argv,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                pass_fds=handed,
                process_group=0,
                # One call into libc, which takes no lock: safe between fork and exec.
                preexec_fn=lambda: prctl(PR_SET_PDEATHSIG, signal.SIGKILL),  # noqa: PLW1509
            )
        except BaseException:
            self._log.close()
            raise

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def alive(self) -> bool:
        """Tell whether it runs, and nobody has begun to stop it."""
        return not self._given_up and self._process.poll() is None

    def halted(self) -> bool:
        """Tell whether somebody stopped it with a signal: it is there, and does nothing."""
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return False
        return stat.rpartition(")")[2].split()[0] == "T"

    def stop(self) -> None:
        """Kill it: it keeps nothing, and would wait for answers under way; safe to call twice."""
        self._given_up = self._given_up or self.alive()
        self._process.kill()
        self._process.wait()
        self._log.close()

    def death(self) -> Failure:
        """Say why it is gone."""
        try:
            code = self._process.wait(5)  # the kernel closes its sockets before it has exited
        except subprocess.TimeoutExpired:
            return EngineCrashed(_("The inference engine broke off the connection."), self._tail())
        if self._given_up:
            return EngineCrashed(_("The inference engine stopped responding and was terminated."))
        if code == -signal.SIGKILL:
            return NotEnoughMemory(
                _("The inference engine was killed."),
                _("Most likely it needed more memory than the machine or the container has."),
                _("Use a smaller model, or give the container more: docker run -m"),
            )
        if code == -signal.SIGILL:
            return UnsupportedCpu(
                _("This CPU lacks instructions that the inference engine needs."),
                next=_("See what it has with: llmdeploy doctor"),
            )
        return EngineCrashed(
            _("The inference engine stopped with exit code {code}.").format(code=code),
            self._tail(),
        )

    def _tail(self) -> str:
        if self._log.closed:
            return ""
        text = os.pread(self._log.fileno(), os.fstat(self._log.fileno()).st_size, 0)
        return "\n  ".join(text.decode("utf-8", "replace").splitlines()[-TAIL:])
