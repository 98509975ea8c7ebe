r"""Patterns of JSON Schemas, written so that the engine's grammar means what they mean.

llama.cpp takes a pattern apart itself, and not always as JavaScript does: its dot matches the quote
that ends the string, `\d` and look-around let any string through, and a part that may be empty,
repeated 200 times, keeps it busy for minutes. So a pattern is read here, measured, and written anew
of nothing but classes of characters, groups and repetitions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from entrypoint.common.language import _

LONGEST = 2000  # repetitions: the engine refuses more
OPEN = 256  # ways in which an answer may go on at once: each is tried for every token
SKIPS = 32  # parts that may be left out: the engine's time grows with their third power
DEPTH = 20  # groups inside each other
INFINITE: Final = math.inf

Range: TypeAlias = tuple[int, int]
# What stands for itself in a JSON string: no quote, no backslash, no control character.
PLAIN: Final[tuple[Range, ...]] = (
    (0x20, 0x21), (0x23, 0x5B), (0x5D, 0x7E), (0x80, 0xD7FF), (0xE000, 0x10FFFF),
)  # fmt: skip
DIGITS: Final[tuple[Range, ...]] = ((0x30, 0x39),)
WORD: Final[tuple[Range, ...]] = (*DIGITS, (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A))
SPACE: Final[tuple[Range, ...]] = (
    (0x09, 0x0D), (0x20, 0x20), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A),
    (0x2028, 0x2029), (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000), (0xFEFF, 0xFEFF),
)  # fmt: skip
CLASSES: Final = {"d": DIGITS, "w": WORD, "s": SPACE}
CONTROLS: Final = {"t": 0x09, "n": 0x0A, "v": 0x0B, "f": 0x0C, "r": 0x0D, "0": 0x00}
ESCAPED: Final = {0x08: "b", 0x09: "t", 0x0A: "n", 0x0C: "f", 0x0D: "r", 0x22: '"', 0x5C: r"\\"}


class UnfitPattern(ValueError):
    """A pattern that the engine cannot follow, or not in a bearable time."""


@dataclass(frozen=True)
class Part:
    """A piece of a pattern, as `text` for the engine, and what it costs.

    `length` is its number of characters if that is always the same. `alone` is in how many ways an
    answer can be inside it at once if its begin is known, `states` if it is not. `skips` counts the
    parts that may be left out; it is `empty` if all of it may be.
    """

    text: str
    length: int | None
    alone: float
    states: float
    skips: int = 0
    empty: bool = False


NOTHING: Final = Part("", 0, 0, 0, empty=True)


def rewrite(pattern: str) -> tuple[str, float]:
    """Return a pattern for the engine, and in how many ways it can be matched at once.

    Raises UnfitPattern if there is none within the bounds.
    """
    reader = _Reader(pattern)
    whole = _choice([_anchored(branch) for branch in reader.branches()])
    if not reader.ended:
        raise UnfitPattern(_("a parenthesis is closed that was not opened"))
    if whole.alone > OPEN or whole.skips > SKIPS:
        raise UnfitPattern(_("it can be matched in too many ways"))
    return f"^{whole.text}$", whole.alone


class _Reader:
    """Reads a pattern from the left to the right."""

    def __init__(self, pattern: str) -> None:
        self._pattern, self._at, self._depth = pattern, 0, 0

    @property
    def ended(self) -> bool:
        return self._at == len(self._pattern)

    def branches(self) -> list[list[Part | str]]:
        """Read what stands between bars, each as its parts; an anchor is its own sign."""
        branches: list[list[Part | str]] = [[]]
        while not self.ended and self._peek() != ")":
            if self._take("|"):
                branches.append([])
            elif self._peek() in "^$":
                branches[-1].append(self._next())
            else:
                branches[-1].append(self._repeated(self._atom()))
        return branches

    def _peek(self) -> str:
        return self._pattern[self._at : self._at + 1]

    def _next(self) -> str:
        if self.ended:
            raise UnfitPattern(_("it ends too soon"))
        self._at += 1
        return self._pattern[self._at - 1]

    def _take(self, text: str) -> bool:
        matches = self._pattern.startswith(text, self._at)
        self._at += len(text) * matches
        return matches

    def _atom(self) -> Part:
        sign = self._next()
        match sign:
            case "(":
                return self._group()
            case "[":
                return self._class()
            case ".":
                return _characters(_inverse(((0x0A, 0x0A), (0x0D, 0x0D), (0x2028, 0x2029))))
            case "*" | "+" | "?" | "{":
                raise UnfitPattern(_("there is nothing to repeat"))
            case "\\":
                meant = self._escape()
                return _characters(meant) if isinstance(meant, tuple) else _character(meant)
        return _character(ord(sign))

    def _group(self) -> Part:
        self._take("?:")
        if self._peek() == "?":
            raise UnfitPattern(_("it looks ahead or behind, or names a group"))
        self._depth += 1
        if self._depth > DEPTH:
            raise UnfitPattern(_("its groups are nested too deeply"))
        inside = _choice([_sequence(_parts(branch)) for branch in self.branches()])
        self._depth -= 1
        if not self._take(")"):
            raise UnfitPattern(_("a parenthesis is not closed"))
        return inside

    def _class(self) -> Part:
        negated = self._take("^")
        ranges: list[Range] = []
        while not self._take("]"):
            first = self._member()
            if isinstance(first, tuple):
                ranges += first
                continue
            last: int | tuple[Range, ...] = first
            if self._peek() == "-" and self._pattern[self._at + 1 : self._at + 2] not in ("]", ""):
                self._next()
                last = self._member()
            if isinstance(last, tuple) or last < first:
                raise UnfitPattern(_("a range of characters has no right end"))
            ranges.append((first, last))
        return _characters(_inverse(tuple(ranges)) if negated else tuple(ranges))

    def _member(self) -> int | tuple[Range, ...]:
        sign = self._next()
        if sign == "\\":
            return 0x08 if self._take("b") else self._escape()
        return ord(sign)

    def _escape(self) -> int | tuple[Range, ...]:
        """Read what follows a backslash: a character, or a class of them."""
        sign = self._next()
        if sign.lower() in CLASSES:
            members = CLASSES[sign.lower()]
            return members if sign.islower() else _inverse(members)
        if sign in CONTROLS:
            return CONTROLS[sign]
        if digits := {"x": 2, "u": 4}.get(sign):
            code = self._pattern[self._at : self._at + digits]
            if not re.fullmatch(f"[0-9a-fA-F]{{{digits}}}", code):
                raise UnfitPattern(_("a character is not written as a number"))
            self._at += digits
            return int(code, 16)
        if sign.isalnum():  # an assertion such as \b, a reference such as \1, a property \p
            raise UnfitPattern(_("{sign} is not supported").format(sign=f"\\{sign}"))
        return ord(sign)

    def _repeated(self, part: Part) -> Part:
        least, most = 1.0, 1.0
        if counts := re.compile(r"\{([0-9]{1,6})(,([0-9]{1,6})?)?\}").match(
            self._pattern, self._at
        ):
            self._at = counts.end()
            least = int(counts[1])
            most = INFINITE if counts[2] == "," else int(counts[3] or counts[1])
        elif self._peek() and self._peek() in "*+?":
            least, most = {"*": (0, INFINITE), "+": (1, INFINITE), "?": (0, 1)}[self._next()]
        else:
            return part
        self._take("?")  # who takes few first matches the same strings
        if self._peek() and self._peek() in "*+?{":
            raise UnfitPattern(_("a repetition is repeated"))
        return _repeat(part, least, most)


def _parts(branch: Sequence[Part | str]) -> list[Part]:
    """Return the parts of a branch without anchors; raise UnfitPattern for one that has any."""
    parts = [part for part in branch if isinstance(part, Part)]
    if len(parts) < len(branch):
        raise UnfitPattern(_("an anchor stands inside it"))
    return parts


def _anchored(branch: list[Part | str]) -> Part:
    """Return a branch that matches whole strings, with anything where it has no anchor."""
    anything = _repeat(_characters(PLAIN), 0, INFINITE)
    begins, ends = branch[:1] == ["^"], branch[-1:] == ["$"] and len(branch) > 1
    inside = _parts(branch[begins : len(branch) - ends])
    before, after = [anything] * (not begins), [anything] * (not ends)
    return _sequence([*before, *inside, *after] if inside or begins or ends else [anything])


def _inverse(ranges: tuple[Range, ...]) -> tuple[Range, ...]:
    """Return all other characters."""
    others, begin = [], 0
    for first, last in sorted(ranges):
        if begin < first:
            others.append((begin, first - 1))
        begin = max(begin, last + 1)
    return (*others, (begin, 0x10FFFF)) if begin <= 0x10FFFF else tuple(others)  # noqa: PLR2004


def _characters(ranges: tuple[Range, ...]) -> Part:
    """Return one character of those that stand for themselves in JSON."""
    cut = [
        (max(first, low), min(last, high))
        for first, last in ranges
        for low, high in PLAIN
        if max(first, low) <= min(last, high)
    ]
    if not cut:
        raise UnfitPattern(_("a class of characters has none that a string could have"))
    return Part("[" + "".join(map(_span, cut)) + "]", 1, 1, 1)


def _span(ends: Range) -> str:
    first, last = ends
    return f"\\U{first:08X}" + (f"-\\U{last:08X}" if last > first else "")


def _character(code: int) -> Part:
    """Return one character, escaped as JSON does it where that must be."""
    if any(low <= code <= high for low, high in PLAIN):
        return _characters(((code, code),))
    if code not in ESCAPED:
        raise UnfitPattern(_("a character is one that no string can have"))
    return Part(f"(\\\\{ESCAPED[code]})", 2, 2, 2)


def _sequence(parts: Sequence[Part]) -> Part:
    """Return parts one after the other."""
    alone, length = 0.0, 0
    for place, part in enumerate(parts):
        alone = max(alone, part.alone)
        if part.length is None:  # from here on nobody knows where the next one begins
            rest = parts[place + 1 :]
            after = sum(each.states for each in rest)
            return _joined(parts, None, alone + after)
        length += part.length
    return _joined(parts, length, alone)


def _joined(parts: Sequence[Part], length: int | None, alone: float) -> Part:
    return Part(
        "".join(part.text for part in parts),
        length,
        alone,
        sum(part.states for part in parts),
        sum(part.skips for part in parts),
        all(part.empty for part in parts),
    )


def _choice(branches: Sequence[Part]) -> Part:
    """Return one of several."""
    if sum(branch.empty for branch in branches) > 1:
        raise UnfitPattern(_("more than one alternative may be empty"))
    lengths = {branch.length for branch in branches}
    total: Callable[[str], float] = lambda name: sum(getattr(each, name) for each in branches)  # noqa: E731
    return Part(
        "(" + "|".join(branch.text for branch in branches) + ")",
        lengths.pop() if len(lengths) == 1 else None,
        total("alone"),
        total("states"),
        int(total("skips")),
        any(branch.empty for branch in branches),
    )


def _repeat(part: Part, least: float, most: float) -> Part:
    """Return a part so many times; raise UnfitPattern for counts that make no sense or too much."""
    if most < least or most == 0:
        raise UnfitPattern(_("a repetition asks for more than its maximum"))
    if least > LONGEST or LONGEST < most < INFINITE:
        raise UnfitPattern(_("a repetition has more than {most} times").format(most=LONGEST))
    if part.empty:
        raise UnfitPattern(_("what may be empty is repeated"))
    times = 1 if most == INFINITE else most
    fixed = part.length is not None
    upper = "" if most == INFINITE else int(most)
    return Part(
        f"{part.text}{{{int(least)},{upper}}}",
        int(part.length * least) if part.length is not None and least == most else None,
        part.alone if fixed else part.states * times,
        part.states * max(times, least),
        part.skips + (least == 0),
        least == 0,
    )
