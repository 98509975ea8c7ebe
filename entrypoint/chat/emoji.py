"""Emoji in the line that a person types, so that the prompt stays where it is."""

from __future__ import annotations

import re
from bisect import bisect_left
from string import ascii_uppercase

from prompt_toolkit.layout.processors import Processor, Transformation, TransformationInput
from prompt_toolkit.layout.utils import explode_text_fragments

# What follows the first code point of an emoji: more of them that are joined, a colour of skin, ...
FOLLOWING = re.compile(
    "\u200d[\u2190-\u2bff\U0001f000-\U0001faff]|[\ufe0f\u20e3\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]"
)
FLAGS = {0x1F1E6 + at: letter for at, letter in enumerate(ascii_uppercase)}


class FirstCodePoints(Processor):
    """Shows of each emoji its first code point, and the letters of a flag.

    How wide several code points are together, terminals disagree.
    """

    def apply_transformation(self, transformation_input: TransformationInput) -> Transformation:
        """Return what is shown, and which place in it is which in what was typed."""
        fragments = explode_text_fragments(transformation_input.fragments)
        text = "".join(fragment[1] for fragment in fragments)
        hidden = {at for match in FOLLOWING.finditer(text) for at in range(*match.span())}
        visible = [at for at in range(len(text) + 1) if at not in hidden]
        return Transformation(
            [(fragments[at][0], text[at].translate(FLAGS)) for at in visible[:-1]],
            source_to_display=lambda at: bisect_left(visible, at),
            display_to_source=lambda at: visible[min(at, len(visible) - 1)],
        )
