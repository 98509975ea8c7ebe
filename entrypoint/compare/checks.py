"""What can be counted about an answer: whether it says what is right, and in which shape.

Each function is pure, but for the program of an answer, which is run. What only a judge can tell
is marked as not counted, never guessed.
"""

from __future__ import annotations

import ast
import re
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, TypeAlias

from entrypoint.answers import circles
from entrypoint.answers.questions import LETTERS, Checker, Dimension, Question
from entrypoint.answers.results import Answer
from entrypoint.common.language import _
from entrypoint.compare import cage, points, sandbox

Kind: TypeAlias = Literal["point", "program", "choice", "language", "repetition", "whole", "format"]

FORM: tuple[Dimension, ...] = ("form",)
RUNS = 10  # of a program that throws dice: an answer of 0 or 7 shows among so many
ENOUGH = 10  # seconds of all runs of a program: after these no further one begins
ECHO, ECHOED = 6, 0.7  # characters in a row, and the share of a text that is such rows of another
SHORT = 40  # characters: a text so short may end without a full stop

FENCE = re.compile(
    r"^[ \t]*```[ \t]*+([\w+#-]*+)[^\n]*+\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE
)
# The first line of a program that nobody put into a block.
OPENING = re.compile(r"^(import \w|from \w+ import |def \w+\(|class \w+|print\(|\w+ = )")
# Lines that go on with the statement above them.
INNER = re.compile(r"\s|[)\]}]|(else|elif|except|finally)\b")
FLUSH = re.compile(r"[^\s#]")
LONGEST = 50  # lines without indentation in a statement: a bracket that nobody closes ends there
# What counts in a line of Python: comments, strings, of which long ones may go on, and brackets.
TOKEN = re.compile(
    r"""\#.* | (?P<open>\"{3}|'{3}).*?(?P<end>(?P=open)|$) |
    "(?:\\.|[^"\\])*"? | '(?:\\.|[^'\\])*'? | [()\[\]{}]""",
    re.VERBOSE,
)
FOREIGN = re.compile(r"#include|public (static|class)|console\.log|Math\.random|func main|\busing ")
HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")
KANA = re.compile(r"[\u3040-\u30ff\uac00-\ud7af]")
WORD = re.compile(r"[A-Za-z]{2,}")
# Letters of choices, one or several; where a text says that they are the answer, where it begins
# with them, and where one stands alone.
CHOSEN = re.compile(r"[A-Z]")
SOME = r"([A-Z](?:\s*[,，、和及与&]?\s*[A-Z])*)(?![A-Za-z'’])"
STATED = re.compile(
    r"(?:(?<!不)答案|正确的?选项|(?<![不可])(?:应该?|故|因此|所以)?选择?(?![项择题])"
    r"|(?i:\banswer|\bcorrect (?:option|choice))(?: (?!not\b)[a-z]+){0,4})[^A-Za-z\n]{0,8}" + SOME
)
BEGUN = re.compile(r"[\s*(（“\"'`]*" + SOME + r"(?=\s*(?:[.。)）:：,，、\"”'`*\n]|$))")
ALONE = re.compile(r"(?<![A-Za-z])([A-Z])(?![A-Za-z'’]|\s[a-z])")
FULL_STOPS = "。！？.!?…：:；;）)】]」』”’\"'`*|>～~}"


@dataclass(frozen=True)
class Check:
    """What was looked for (`what`), whether it is there, and `why` that is the verdict.

    `passed` is None if it was not counted, `opposite` tells that the answer says the opposite of a
    point. It counts for `dimensions`.
    """

    kind: Kind
    what: str
    passed: bool | None
    why: str
    dimensions: tuple[Dimension, ...]
    opposite: bool = False


def check(question: Question, answer: Answer) -> tuple[Check, ...]:
    """Check the answer to a question, in several turns the last one.

    One that only repeats the question is no answer, and passes nothing.
    """
    checks = tuple(_all(question, answer))
    right = any(each.passed for each in checks if each.kind in {"point", "program", "choice"})
    if right or not echoes(question.asks[-1], answer.text):
        return checks
    why = _("It only repeats the question.")
    return tuple(replace(each, passed=False, opposite=False, why=why) for each in checks)


def _all(question: Question, answer: Answer) -> Iterator[Check]:
    text = answer.text
    yield from _points(question, text)
    if question.checker:
        verdict = program(question.checker, text)
        yield _made("program", _("The program does it."), *verdict, question.dimensions)
    if question.right:
        expectation = _("It chooses {letters}.").format(letters=question.right)
        verdict = choice(question.right, question.choices, text)
        yield _made("choice", expectation, *verdict, question.dimensions)
    if question.format == "code":
        yield _made("format", _("It has a block of code."), *_block(answer), FORM)
    if question.language:
        expectation = (
            _("It is in Chinese.") if question.language == "zh" else _("It is in English.")
        )
        yield _made("language", expectation, *language(question.language, text), FORM)
    yield _made("repetition", _("It does not go round in circles."), *repetition(text), FORM)
    yield _made("whole", _("It is whole."), *whole(text, answer.finish_reason), FORM)


def _block(answer: Answer) -> tuple[bool | None, str]:
    if answer.run.engine == "import":
        return None, _("A printed answer shows no blocks.")  # it has lost its fences
    return code_block(answer.text)


def _points(question: Question, text: str) -> Iterator[Check]:
    readings = points.read(question.points, text, question.asks[-1])
    for point, reading in zip(question.points, readings, strict=True):
        passed, why = _told(reading)
        opposite = reading.outcome == "opposite"
        yield Check("point", point.says, passed, why, question.dimensions, opposite)


def _told(reading: points.Reading) -> tuple[bool | None, str]:
    """Return whether a point is met, None if it is open, and why."""
    passed = {"met": True, "opposite": False, "left out": False, "open": None}[reading.outcome]
    texts = {
        "met": _("It says: {words}") if reading.words else _("It does not say the contrary."),
        "opposite": _("It says the opposite: {words}"),
        "left out": _("It does not say so."),
        "open": _("Only a judge can tell: {words}")
        if reading.words
        else _("Only a judge can tell."),
    }
    return passed, texts[reading.outcome].format(words=reading.words)


def _made(
    kind: Kind, what: str, passed: bool | None, why: str, dimensions: tuple[Dimension, ...]
) -> Check:
    return Check(kind, what, passed, why, dimensions)


def echoes(asked: str, text: str) -> bool:
    """Tell whether a text says next to nothing but the question over again."""
    question, plain = (re.sub(r"\W+", "", each) for each in (asked, text))
    again: set[int] = set()
    for start in range(len(plain) - ECHO + 1):
        if plain[start : start + ECHO] in question:
            again.update(range(start, start + ECHO))
    return len(again) > ECHOED * len(plain)


def choice(right: str, choices: Sequence[str], text: str) -> tuple[bool | None, str]:
    """Tell whether a text chooses the letters that are right, and no others.

    It does by what it calls the answer, else by the letters that it begins with, else by the only
    ones that it names, else by the words of a choice.
    """
    if not text.strip():
        return False, _("There is no answer.")
    letters = LETTERS[: len(choices)]
    begun = BEGUN.match(text)
    ways = (
        STATED.findall(text),
        [begun[1]] if begun else [],
        ALONE.findall(text),
        [letter for letter, each in zip(letters, choices, strict=True) if each in text],
    )
    candidates = (
        {"".join(sorted(set(CHOSEN.findall(each)) & {*letters})) for each in way} for way in ways
    )
    named = next((each for some in candidates if (each := some - {""})), set())
    if not named:
        return False, _("It names none of the choices.")
    if len(named) > 1:
        return None, _("It names several: {letters}.").format(letters=", ".join(sorted(named)))
    (chosen,) = named
    return chosen == right, _("It names {letters}.").format(letters=chosen)


def language(wanted: str, text: str) -> tuple[bool | None, str]:
    """Tell whether a text is Chinese ("zh") or English ("en"); code does not count.

    A Han character weighs as much as an English word. Code or numbers alone are of no language.
    """
    prose = _prose(text)
    han, other, words = (len(each.findall(prose)) for each in (HAN, KANA, WORD))
    counts = {"zh": han if other * 5 < han else 0, "en": words}
    why = _("Han characters: {han}, words in Latin letters: {words}.").format(han=han, words=words)
    if text.strip() and not han + words + other:
        return None, why
    return counts[wanted] * 2 > han + words + other, why


def repetition(text: str) -> tuple[bool, str]:
    """Tell whether a text says new things: a model that is stuck says the same again and again."""
    if not circles.LINES.sub("", text):
        return False, _("There is no answer.")
    share = circles.share(text)
    return share <= circles.MOST, _("{share:.0%} of it was there before.").format(share=share)


def whole(text: str, finish_reason: str) -> tuple[bool | None, str]:
    """Tell whether an answer ended by itself.

    Of a transcript nobody knows that: there, a long text that ends in mid-sentence was cut off.
    """
    if finish_reason == "error":
        return False, _("It broke off.")
    if not text.strip():
        return False, _("There is no answer.")
    if finish_reason == "length":
        return False, _("It reached its limit of tokens.")
    if finish_reason == "stop":
        return True, _("The model ended it.")
    return _looks_whole(text.rstrip())


def code_block(text: str) -> tuple[bool, str]:
    """Tell whether a text has a block of code, and ends each that it begins."""
    fences = len(re.findall(r"^[ \t]*```", text, re.MULTILINE))
    if not fences:
        return False, _("There is no block of code.")
    if fences % 2:
        return False, _("A block of code has no end.")
    return True, _("Blocks of code: {n}.").format(n=fences // 2)


def program(checker: Checker, text: str) -> tuple[bool | None, str]:
    """Run the Python program in a text several times, each with dice of its own."""
    source = extract(text)
    if not source:
        if FOREIGN.search(text):
            return None, _("The program is in another language than Python.")
        return False, _("There is no program.")
    outcome = sandbox.Outcome("")
    begun = time.monotonic()
    for seed in range(RUNS):
        outcome = sandbox.run(source, typed=checker.input, seed=seed)
        if not outcome.ran:
            return None, _("Programs cannot be run safely here: {why}").format(why=outcome.error)
        if outcome.error.startswith("ModuleNotFoundError") and _needs_more(source):
            return None, _("It needs what is not here: {error}").format(error=outcome.error)
        if not _find(checker.prints, outcome.output):
            return False, outcome.error or _("It prints: {words}").format(
                words=_short(outcome.output)
            )
        # A program without an end has none another time either.
        if not outcome.ended or time.monotonic() - begun > ENOUGH:
            break
    return True, _("It prints: {words}").format(words=_short(outcome.output))


def extract(text: str) -> str:
    """Return the Python program in a text, "" without one.

    It is all blocks that are Python, in order: a later one may use what an earlier one defines.
    Without blocks it is the longest run of lines that is Python. If no block is, the first one is
    returned as it stands: running it tells what is wrong.
    """
    blocks = [
        (tag.lower(), _dedent(code))
        for tag, code in FENCE.findall(text)
        if tag.lower() in {"", "py", "python", "python3"}
    ]
    good = [code for _tag, code in blocks if _parses(code)]
    programs = [code for tag, code in blocks if tag]
    return "\n".join(good) or (programs[0] if programs else _unfenced(text))


def _needs_more(source: str) -> bool:
    """Tell whether a program imports what does not come with Python."""
    return any(
        name.partition(".")[0] not in sys.stdlib_module_names for name in cage.imports(source)
    )


def _looks_whole(text: str) -> tuple[bool | None, str]:
    if text[-1] in FULL_STOPS or len(text) <= SHORT:
        return True, _("It ends as a sentence does.")
    last = text.splitlines()[-1].strip()
    if HAN.search(last):
        return False, _("It ends in mid-sentence: {words}").format(words=last[-SHORT:])
    return None, _("Only a judge can tell.")  # code, a formula, a name


def _unfenced(text: str) -> str:
    """Return the longest run of whole lines that is Python and begins like it.

    It is put together from statements, each of which is parsed once or twice: the work grows with
    the text, whatever is in it.
    """
    return max(_runs(text.splitlines()), key=lambda run: len(run.splitlines()))


def _runs(lines: Sequence[str]) -> Iterator[str]:
    """Yield the runs of statements that begin with a line that looks like Python."""
    run: list[str] = []
    at = 0
    while at < len(lines):
        end = _statement(lines, at) if run or OPENING.match(lines[at]) else at
        run += lines[at:end]
        if end == at:
            yield "\n".join(run).rstrip()
            run = []
        at = max(end, at + 1)
    yield "\n".join(run).rstrip()


def _statement(lines: Sequence[str], start: int) -> int:
    """Return the line after the statement that begins at `start`; `start` itself without one."""
    if not lines[start].strip() or lines[start].startswith("#"):
        return start + 1
    end = _closed(lines, start)
    fault = _fault(lines[start:end])
    if not fault:
        return end
    end = start + fault - 1  # prose in a program's indentation
    return start if _fault(lines[start:end]) else end


def _closed(lines: Sequence[str], start: int) -> int:
    """Return the line after that with which a statement's brackets, strings and blocks end.

    If they don't, it is the line after the first one.
    """
    depth = flush = 0
    quote = ""
    for at in range(start, len(lines)):
        opened, quote = _lexed(lines[at], quote)
        depth += opened
        flush += bool(FLUSH.match(lines[at]))
        going_on = depth > 0 or quote or lines[at].endswith("\\") or lines[at].startswith("@")
        if flush > LONGEST:
            break
        if not (going_on or INNER.match(_code(lines, at + 1))):
            return at + 1
    return start + 1


def _code(lines: Sequence[str], start: int) -> str:
    """Return the first line from `start` on that is neither empty nor a comment."""
    for at in range(start, len(lines)):
        if lines[at].strip() and not lines[at].startswith("#"):
            return lines[at]
    return ""


@lru_cache(1 << 14)
def _lexed(line: str, quote: str) -> tuple[int, str]:
    """Return how many more brackets a line opens than it closes, and which string goes on after it.

    `quote` is the triple quote that ends the string in which the line begins, "" without one.
    """
    begin = line.find(quote)
    if begin < 0:
        return 0, quote
    depth = 0
    for token in TOKEN.finditer(line, begin + len(quote)):
        depth += (token[0] in "([{") - (token[0] in ")]}")
        if token["open"] and not token["end"]:
            return depth, token["open"]
    return depth, ""


def _parses(code: str) -> bool:
    return not _fault(code.splitlines())


def _fault(lines: Sequence[str]) -> int:
    """Return the number of the first line that is wrong, from 1; 0 if all is Python."""
    try:
        with warnings.catch_warnings(action="ignore"):
            return 0 if ast.parse("\n".join(lines)).body else 1
    except SyntaxError as error:
        return error.lineno or 1
    except (ValueError, RecursionError, MemoryError):
        return 1


def _dedent(code: str) -> str:
    """Take away the indentation of the first line: a block may stand in a list."""
    first = next((line for line in code.splitlines() if line.strip()), "")
    indent = first[: len(first) - len(first.lstrip())]
    return "\n".join(line.removeprefix(indent) for line in code.splitlines())


def _prose(text: str) -> str:
    """Return a text without its code."""
    return FENCE.sub("", text) if FENCE.search(text) else text.replace(_unfenced(text), "")


def _find(pattern: str, text: str) -> str:
    """Return what a pattern finds in a text, in short; "" if nothing."""
    match = re.search(pattern, text, re.IGNORECASE)
    return _short(match[0]) or "…" if match else ""


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 2 * SHORT else line[: 2 * SHORT] + "…"
