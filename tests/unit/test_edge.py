"""Whatever goes wrong in a task ends as one message with an exit code."""

import errno

import pytest
from invoke import Context, Exit

from builder.stage.edge import stage
from entrypoint.common.errors import UnknownModel


def run(error: BaseException) -> Exit:
    """Return how a task ends in which `error` is raised."""

    @stage()
    def task(_: Context) -> None:
        raise error

    with pytest.raises(Exit) as caught:
        task(Context())
    return caught.value


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (UnknownModel("There is no such model."), 3, "llmdeploy: There is no such model."),
        (OSError(errno.ENOSPC, "No space left", "/full"), 8, "The disk is full: /full."),
        (OSError(errno.EDQUOT, "Quota exceeded", "/full"), 8, "The disk is full: /full."),
        (PermissionError(errno.EACCES, "Permission denied", "/own"), 14, "/own cannot be written"),
        (OSError(errno.EROFS, "Read-only file system", "/own"), 14, "/own cannot be written"),
        (FileExistsError(errno.EEXIST, "File exists", "/dev/null"), 14, "/dev/null cannot be"),
        (OSError(errno.EIO, "Input/output error", "/bad"), 1, "Input/output error"),
        (RuntimeError("what a library says"), 1, "LLMDEPLOY_DEBUG=1"),
        (KeyboardInterrupt(), 130, "again to go on"),
    ],
)
def test_an_error_is_a_message_and_a_code(error: BaseException, code: int, told: str) -> None:
    end = run(error)
    assert end.code == code
    assert told in str(end.message)


def test_debug_shows_where_an_error_came_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMDEPLOY_DEBUG", "1")
    with pytest.raises(RuntimeError, match="what a library says"):
        run(RuntimeError("what a library says"))
