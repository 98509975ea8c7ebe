"""ModelScope's SDK in a process of its own; its arguments: REPOSITORY REVISION FOLDER FILE...

Its threads are waited for at its end; an interrupt that falls into one of its locks would leave
them waiting for ever. A process can be killed, and the next one goes on where this one was.
"""

from __future__ import annotations

import ctypes
import logging
import signal
import sys
from pathlib import Path

from builder.models import sources
from builder.models.intents import ModelScope
from entrypoint.common.errors import DownloadFailure

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>

if __name__ == "__main__":
    # Nor does it outlive a fetch that is killed: the next one would find it writing there.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    repository, revision, folder, *paths = sys.argv[1:]
    logging.disable()  # the last line on stderr is the reason
    try:
        sources.snapshot(ModelScope(repository, revision), paths, Path(folder))
    except DownloadFailure as failure:
        sys.exit(failure.what)
