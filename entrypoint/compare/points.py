"""What an answer says of each reference point: it meets it, says the opposite, or leaves it out.

A point is decided by patterns, within the passage that is about it. Where these are not sure, the
point stays open: only a judge or a person can tell.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from entrypoint.answers.questions import Point

Outcome: TypeAlias = Literal["met", "opposite", "left out", "open"]

# A sentence that is quoted ends nothing: “你这是什么意思？”是问他的用意。
SENTENCE = re.compile(r"[。！？!?]+(?![。！？!?”\"」』])|\n+|\.(?=\s)")
GOES_ON = re.compile(
    r"[\s\-*>]*(?:这(?:是|意味|表示|表明|说明|里|就|会|样|指)|它|他们|人们|也就是|即|意思是|含义|本意"
    r"|表示|指的?是|意味|那么|则)"
)
# The last signs of a line that tells what the next one is about.
HEADS = ("：", ":", "”", "」", "』", "**")
NEGATED = re.compile(
    r"(?:(?<!不得)(?<!差)不(?:可能|可以|需要|必须|应该|[能会用必需应要再])?[是为被穿有]?|没有|无需"
    r"|(?:并非|而非|而不是)[^。，]{0,16})(?:特别|非常|真正|[很太])?[“\"]?$"
)
FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{")
VERTICAL = re.compile(r"\\(?:mid|vert)|[∣｜]")
SIGNS = str.maketrans({"（": "(", "）": ")", "÷": "/", "＝": "="})
DENIAL = 24  # characters before a word that may deny it
LONGEST = 80  # characters of the words that are quoted


@dataclass(frozen=True)
class Reading:
    """What became of a point, and the `words` of the answer that decide it, "" if none do."""

    outcome: Outcome
    words: str = ""


def read(points: Sequence[Point], text: str) -> tuple[Reading, ...]:
    """Return what a text says of each of a question's points, in their order."""
    alone = [_alone(point, points, text) for point in points]
    return tuple(
        _together(reading, [alone[number - 1] for number in point.needs])
        for point, reading in zip(points, alone, strict=True)
    )


def plain(text: str) -> str:
    r"""Return a text with its formulas written plainly: P(A|B)=P(B|A)P(A)/P(B).

    Signs of multiplication, blanks and LaTeX's commands are left out, a fraction has a slash.
    """
    text = FRACTION.sub(r"\1/{", text).translate(SIGNS)
    return re.sub(
        r"\\(?:left|right|cdot|times|,|;|!|quad)|[\s*×·⋅∗✕$]", "", VERTICAL.sub("|", text)
    )


def _alone(point: Point, points: Sequence[Point], text: str) -> Reading:
    """Read a text for one point, whatever it says of those that the point needs."""
    if not (point.must or point.never or point.formula):
        return Reading("open")
    if not text.strip():
        return Reading("left out")
    passages = list(_passages(point, points, text))
    tries: Sequence[tuple[Outcome, str, Sequence[str]]] = (
        ("met", point.formula, [plain(text)]),
        ("opposite", point.never, passages),
        ("met", point.must, passages),
        ("open", point.maybe, [text]),
    )
    for outcome, pattern, where in tries:
        if pattern and (words := _first(pattern, where)):
            return Reading(outcome, words)
    return Reading("left out" if point.must or point.formula else "met")


def _together(reading: Reading, needed: Sequence[Reading]) -> Reading:
    """Return a reading as it stands if all that the point needs is met."""
    if reading.outcome != "met" or all(each.outcome == "met" for each in needed):
        return reading
    unsure = all(each.outcome in {"met", "open"} for each in needed)
    return Reading("open" if unsure else "left out", reading.words)


def _passages(point: Point, points: Sequence[Point], text: str) -> Iterator[str]:
    """Yield what a text says about a point: all of it, or from each cue to the next one's.

    A passage ends with its sentence, and where another point's begins.
    """
    if not point.about:
        yield text
        return
    others = [each.about for each in points if each.about and each is not point]
    for sentence in _sentences(text):
        ends = sorted(
            cue.start() for about in others for cue in re.finditer(about, sentence, re.IGNORECASE)
        )
        for cue in re.finditer(point.about, sentence, re.IGNORECASE):
            end = next((each for each in ends if each >= cue.end()), len(sentence))
            yield sentence[cue.end() : end]


def _sentences(text: str) -> list[str]:
    """Return a text's sentences; one that goes on with the matter of the last belongs to it."""
    sentences: list[str] = []
    for sentence in filter(str.strip, SENTENCE.split(text)):
        if sentences and (GOES_ON.match(sentence) or sentences[-1].rstrip().endswith(HEADS)):
            sentences[-1] += "，" + sentence
        else:
            sentences.append(sentence)
    return sentences


def _first(pattern: str, passages: Sequence[str]) -> str:
    """Return what a pattern finds in the first passage that has it, in short; "" if none has.

    What is denied, as 真 in 不可能是真的, is not found.
    """
    for passage in passages:
        for found in re.finditer(pattern, passage, re.IGNORECASE):
            if not NEGATED.search(passage, max(0, found.start() - DENIAL), found.start()):
                line = " ".join(found[0].split()) or "…"
                return line if len(line) <= LONGEST else line[:LONGEST] + "…"
    return ""
