"""How likely tokens were, in the two shapes that OpenAI's API has for it."""

from __future__ import annotations

from collections.abc import Sequence

from entrypoint.engines import ScoredToken
from entrypoint.serve import objects


def of_chat(tokens: Sequence[ScoredToken]) -> objects.ChatScores | None:
    """Return the scores of a piece of a chat, None where there are none."""
    if not tokens:
        return None
    return objects.ChatScores(
        [
            objects.TokenScore(
                *_likely(token.data, token.logprob or 0.0),
                [objects.TopToken(*_likely(*each)) for each in token.top],
            )
            for token in tokens
        ]
    )


def of_text(tokens: Sequence[ScoredToken], offset: int) -> objects.TextScores | None:
    """Return the scores of a piece of a text that begins at character `offset` of it."""
    if not tokens:
        return None
    texts = objects.TextScores([], [], [], [])
    data = b""
    for token in tokens:
        texts.tokens.append(_named(token.data))
        texts.token_logprobs.append(token.logprob)
        texts.top_logprobs.append(_top(token))
        texts.text_offset.append(offset + len(data.decode(errors="ignore")))
        data += token.data
    return texts


def _top(token: ScoredToken) -> dict[str, float] | None:
    """Return the likeliest tokens and, as OpenAI does, the token itself."""
    if token.logprob is None:
        return None
    return {_named(data): score for data, score in (*token.top, (token.data, token.logprob))}


def _likely(data: bytes, logprob: float) -> tuple[str, float, list[int]]:
    return _named(data), logprob, list(data)


def _named(data: bytes) -> str:
    """Return a token in words; a part of a character has none, but OpenAI's way to write it."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)
