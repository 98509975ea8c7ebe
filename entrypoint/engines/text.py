"""What engines share that turn tokens into text themselves: stop words, and a template by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

# The one template that llama.cpp knows by name and models.toml may name.
TEMPLATES: Final = {
    "chatml": "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
}


def cut(text: str, stop: Sequence[str]) -> tuple[str, str, bool]:
    """Split text into what can be shown and what may begin a stop word; tell whether one came."""
    places = [place for word in stop if (place := text.find(word)) >= 0]
    if places:
        return text[: min(places)], "", True
    begun = (n for word in stop for n in range(1, len(word)) if text.endswith(word[:n]))
    length = len(text) - max(begun, default=0)
    return text[:length], text[length:], False
