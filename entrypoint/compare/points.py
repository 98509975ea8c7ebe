"""What an answer says of each reference point: it meets it, says the opposite, or leaves it out.

A point is decided by patterns, within the passage that is about it, and only by what the answer
asserts there in words of its own: not by what it repeats of the question, supposes, asks, guesses
or denies. An answer that says both a point and its opposite leaves it open, as one does of which
no pattern is sure: only a judge or a person can tell.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from entrypoint.answers.questions import Point

Outcome: TypeAlias = Literal["met", "opposite", "left out", "open"]

# A sentence that is quoted ends nothing: “你这是什么意思？”是问他的用意。
SENTENCE = re.compile(r"[；;。！？!?]+(?![。！？!?”\"」』])|\n+|\.(?=\s)")
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
# A clause that supposes, guesses or asks asserts nothing.
HEDGED = re.compile(
    r"如果|假[如设定使]|倘若|若(?!干)|也许|可能是|或许|是否"
    r"|\b(?:if|suppose|maybe|perhaps|might|whether)\b",
    re.IGNORECASE,
)
CLAUSE = re.compile(r"[，,；;。：:\n]|[？?]")
UNIT = re.compile(r"[a-z0-9]+|[^\s*“”\"「」『』]", re.IGNORECASE)  # a word, or another sign
QUOTED = re.compile(r"[“\"「『]([^“”\"「」『』\n]+)[”\"」』]")
REPEATED = 8  # units in a row that an answer has of the question, and not of itself
QUOTATION = 3  # characters that do in quotation marks
BLANK = "□"
DENIAL = 24  # characters before a word that may deny it
LONGEST = 80  # characters of the words that are quoted


@dataclass(frozen=True)
class Reading:
    """What became of a point, and the `words` of the answer that decide it, "" if none do."""

    outcome: Outcome
    words: str = ""


@dataclass
class _Findings:
    """The first words of a text in which a pattern is found: asserted, denied, or hedged."""

    asserted: str = ""
    denied: str = ""
    hedged: str = ""


def read(points: Sequence[Point], text: str, asked: str = "") -> tuple[Reading, ...]:
    """Return what a text says of each point of the question that was `asked`, in their order."""
    alone = [_alone(point, points, text, asked) for point in points]
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


def _own(text: str, asked: str) -> str:
    """Return a text with what it repeats of the question blanked, its length kept.

    That is what it has in a row as the question has it, and what it quotes, unless the question
    quotes it, too: then it is what the question is about.
    """
    units, theirs = list(UNIT.finditer(text)), [each[0].lower() for each in UNIT.finditer(asked)]
    runs = {tuple(theirs[n : n + REPEATED]) for n in range(len(theirs) - REPEATED + 1)}
    again: set[int] = set()
    for n in range(len(units) - REPEATED + 1):
        if tuple(unit[0].lower() for unit in units[n : n + REPEATED]) in runs:
            again.update(at for unit in units[n : n + REPEATED] for at in range(*unit.span()))
    topics = {quoted[1] for quoted in QUOTED.finditer(asked)}
    for quoted in QUOTED.finditer(text):
        if quoted[1] in asked and quoted[1] not in topics and len(quoted[1]) >= QUOTATION:
            again.update(range(*quoted.span(1)))
    return "".join(BLANK if at in again else sign for at, sign in enumerate(text))


def _alone(point: Point, points: Sequence[Point], text: str, asked: str) -> Reading:
    """Read a text for one point, whatever it says of those that the point needs."""
    if not (point.must or point.never or point.formula):
        return Reading("open")
    if not text.strip():
        return Reading("left out")
    claim = bool(point.never)  # which can be said the other way round, and not only be mentioned
    passages = list(_passages(point, points, text))
    own = [_own(passage, asked) for passage in passages]
    contrary = _find(point.never, own, claim=claim).asserted
    if point.last:
        own = [_own(sentence, asked) for sentence in _sentences(text)[-1:]]
    assertion = _find(point.must, own, claim=claim)
    doubts = assertion.asserted and assertion.denied if claim else ""
    repeated = _find(point.must, passages).asserted
    tries: Sequence[tuple[Outcome, str]] = (
        ("met", _find(point.formula, [plain(text)]).asserted),
        ("opposite", contrary),
        ("open", doubts),
        ("met", assertion.asserted),
        ("open", assertion.hedged or repeated or _find(point.maybe, [text]).asserted),
    )
    sure = next((Reading(outcome, words) for outcome, words in tries if words), None)
    return sure or Reading("left out" if point.must or point.formula else "met")


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


def _find(pattern: str, passages: Sequence[str], *, claim: bool = False) -> _Findings:
    """Return what a pattern finds, told apart by how it is said."""
    findings = _Findings()
    for passage in passages if pattern else ():
        for found in re.finditer(pattern, passage, re.IGNORECASE):
            words = " ".join(found[0].split()) or "…"
            words = words if len(words) <= LONGEST else words[:LONGEST] + "…"
            if NEGATED.search(passage, max(0, found.start() - DENIAL), found.start()):
                findings.denied = findings.denied or words
            elif claim and _hedged(passage, *found.span()):
                findings.hedged = findings.hedged or words
            else:
                findings.asserted = findings.asserted or words
    return findings


def _hedged(passage: str, start: int, end: int) -> bool:
    """Tell whether what stands before in the clause, or its question mark, takes it back."""
    clauses = [mark.end() for mark in CLAUSE.finditer(passage, 0, start)]
    mark = CLAUSE.search(passage, start)
    if mark and mark.end() < end:  # it has its supposition, and what follows from it
        return False
    asks = mark is not None and mark[0] in "？?"
    return asks or bool(HEDGED.search(passage, clauses[-1] if clauses else 0, start))
