"""How likely tokens are: those of a text that is there, and those of an answer as it comes.

llama.cpp's server tells the scores of tokens that it chooses, so a text's tokens are chosen for it,
one after the other: that takes as long as to write the text anew.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from entrypoint.common.errors import NotSupported
from entrypoint.common.language import _
from entrypoint.engines import ScoredText, ScoredToken

Ask = Callable[[str, Mapping[str, Any]], Any]  # posts to a path of the server, returns its reply
FORCED: Final = 1e6  # added to what a token scores, far above every score
ALL: Final = 1 << 24  # tokens, more than any vocabulary has
GREEDY: Final = {"temperature": 0, "samplers": ["top_k"], "top_k": 1, "cache_prompt": True}


class Scorer:
    """Reads a text as the server does, and scores its tokens."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def numbers(self, text: str, *, begin: bool) -> list[int]:
        """Return the tokens of a raw text, with what the model puts before each if `begin`."""
        body = {"content": text, "add_special": begin}
        numbers: list[int] = self._ask("/tokenize", body)["tokens"]
        return numbers

    def text(self, numbers: Sequence[int]) -> str:
        """Return the text of tokens."""
        text: str = self._ask("/detokenize", {"tokens": list(numbers)})["content"]
        return text

    def scored(self, numbers: Sequence[int], top: int, hidden: int) -> Iterator[ScoredText]:
        """Yield the tokens after the first `hidden` ones as text, each with `top` likeliest.

        Raises NotSupported for a number that is no token.
        """
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for place in range(hidden, len(numbers)):
            token = self._score(numbers[:place], numbers[place], top)
            yield ScoredText(decoder.decode(token.data), [token])

    def _score(self, before: Sequence[int], number: int, top: int) -> ScoredToken:
        if not before:
            return ScoredToken(self.text([number]).encode(), None)
        entry = self._chosen(before, number, max(top, 1))
        if entry is None:
            return self._unfinished(before, number, top)
        if entry["id"] != number:
            raise NotSupported(
                _("{number} is not a token of the model.").format(number=number), option="prompt"
            )
        # The server shows no control words.
        data = bytes(entry["bytes"]) or self.text([number]).encode()
        return ScoredToken(data, entry["logprob"], _likeliest(entry, top))

    def _unfinished(self, before: Sequence[int], number: int, top: int) -> ScoredToken:
        """Score a token that ends within a character, of which the server never tells when chosen.

        So another one is chosen, and this one found in the list of all.
        """
        (other, *_rest) = self.numbers("a", begin=False)
        entry = self._chosen(before, other, ALL) or {"top_logprobs": []}
        each = next(each for each in entry["top_logprobs"] if each["id"] == number)
        return ScoredToken(bytes(each["bytes"]), each["logprob"], _likeliest(entry, top))

    def _chosen(self, before: Sequence[int], number: int, top: int) -> dict[str, Any] | None:
        body = {
            **GREEDY,
            "prompt": list(before),
            "n_predict": 1,
            "n_probs": top,
            "logit_bias": [[number, FORCED]],
        }
        entries = self._ask("/completion", body).get("completion_probabilities")
        return dict(entries[0]) if entries else None


class Scores:
    """Puts the scores of an answer's tokens to its text, `top` likeliest to each, None: none.

    The server holds text back that may begin a stop word, and does not tell of tokens that end
    within a character: the one that ends it stands for all of it.
    """

    def __init__(self, top: int | None) -> None:
        self._top = top
        self._held: list[ScoredToken] = []

    def on(self, text: str, event: Mapping[str, Any] | None) -> str:
        """Return a piece of text with what the server told of its tokens, and of those before."""
        if self._top is None:
            return text
        for entry in (event or {}).get("content", ()):
            own = next((each for each in entry["top_logprobs"] if each["id"] == entry["id"]), entry)
            if own["bytes"] or own is entry:  # else it is a control word, which is not shown
                data = bytes(own["bytes"])
                self._held.append(ScoredToken(data, entry["logprob"], _likeliest(entry, self._top)))
        if not text:
            return ""
        tokens, self._held = self._held, []
        return ScoredText(text, _whole(text.encode(), tokens))


def _whole(data: bytes, tokens: Sequence[ScoredToken]) -> list[ScoredToken]:
    """Return tokens, the first of them with what the server did not tell of `data` before it."""
    spelling = b"".join(token.data for token in tokens)
    missing = data.removesuffix(spelling)
    if not tokens or missing == data:
        return list(tokens)
    first, *rest = tokens
    return [ScoredToken(missing + first.data, first.logprob, first.top), *rest]


def _likeliest(entry: Mapping[str, Any], top: int) -> tuple[tuple[bytes, float], ...]:
    return tuple((bytes(each["bytes"]), each["logprob"]) for each in entry["top_logprobs"][:top])
