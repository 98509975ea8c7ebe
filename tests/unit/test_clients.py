"""What `clients` makes of programs that ask a server, without a server."""

import sys
from pathlib import Path

from builder import clients
from builder.clients import Attempt

SAYS = 'print(\'{"client": "parrot", "version": "1", "tried": "ask", "error": ""}\')'


def program(place: Path, *lines: str) -> list[str | Path]:
    path = place / "parrot_python.py"
    path.write_text("\n".join(lines))
    return [sys.executable, path]


def test_what_a_client_tried_is_told_and_its_other_words_are_not(tmp_path: Path) -> None:
    argv = program(tmp_path, "print('Thank you for using parrot!')", SAYS)
    assert clients.attempt(argv, {}) == [Attempt("parrot", "1", "ask", "")]


def test_a_client_that_cannot_even_begin_is_told_as_failed(tmp_path: Path) -> None:
    (told,) = clients.attempt(program(tmp_path, SAYS, "import no_such_package"), {})
    assert told.client == "parrot_python"
    assert told.error == "ModuleNotFoundError: No module named 'no_such_package'"


def test_a_client_that_says_nothing_is_told_as_failed(tmp_path: Path) -> None:
    (told,) = clients.attempt(program(tmp_path, "print('Thank you!')"), {})
    assert told.error


def test_an_error_cannot_break_the_table() -> None:
    attempts = [Attempt("parrot", "1", "ask", ""), Attempt("parrot", "1", "call", "a | b\nc" * 99)]
    rows = clients.table(attempts).splitlines()
    assert rows[2] == "| parrot | 1 | `ask` | ✓ |"
    assert rows[3].startswith("| parrot | 1 | `call` | a \\| b c")
    assert len(rows) == 4
    assert len(rows[3]) < 300


def test_every_program_is_run() -> None:
    known = {path.stem for path in clients.PROGRAMS.iterdir() if "_" in path.stem.strip("_")}
    run = [*(name for names in clients.PYTHON.values() for name in names), *clients.NODE]
    assert sorted(run) == sorted(known)
