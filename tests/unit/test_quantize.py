"""What `quantize` decides before it touches a file."""

from __future__ import annotations

from typing import Any

import pytest

from builder.models.intents import Intent
from builder.quantizers import ggufs, llamacpp, quantize
from builder.settings import Settings
from entrypoint.common import footprint
from entrypoint.common.errors import ConfigFailure, UnknownModel, UsageFailure
from entrypoint.common.gguf import Header, Tensor

QWEN: dict[str, Any] = {
    "general.architecture": "qwen2",
    "qwen2.block_count": 24,
    "qwen2.embedding_length": 896,
    "qwen2.feed_forward_length": 4864,
    "qwen2.attention.head_count": 14,
    "qwen2.attention.head_count_kv": 2,
}
Q4_0, Q6_K, F32 = 2, 14, 0


def model(*types: int, **metadata: Any) -> Header:
    tensors = [Tensor(f"{index}.weight", (64, 64), number, 0) for index, number in enumerate(types)]
    return Header({**QWEN, **metadata}, (Tensor("norm.weight", (64,), F32, 0), *tensors))


@pytest.mark.parametrize(("name", "near"), [("Q8_O", "Q8_0"), ("q4km", "Q4_K_M"), ("int4", None)])
def test_an_unknown_type_is_refused_with_a_suggestion(name: str, near: str | None) -> None:
    with pytest.raises(UsageFailure) as caught:
        quantize.quantize(Settings(), ["smollm2-135m"], type=name)
    assert "Q4_0, Q4_1" in caught.value.why
    assert caught.value.next == (f"Did you mean {near}?" if near else "")


def test_an_unknown_model_is_refused_with_a_suggestion() -> None:
    with pytest.raises(UnknownModel) as caught:
        quantize.quantize(Settings(), ["smollm2-135"])
    assert caught.value.next == "Did you mean smollm2-135m?"


def test_a_type_may_be_written_in_small_letters() -> None:
    assert llamacpp.known_type("q4_k_m") == "Q4_K_M"


def test_only_a_model_of_nothing_but_the_type_has_it() -> None:
    assert llamacpp.recipe._has_type(model(Q4_0, Q4_0), "Q4_0")
    assert not llamacpp.recipe._has_type(model(Q4_0, Q6_K), "Q4_0")
    assert not llamacpp.recipe._has_type(model(F32, F32), "Q4_0")


def test_a_mixture_is_known_by_its_name() -> None:
    mixture = model(Q4_0, Q6_K, **{"general.file_type": 15})
    assert llamacpp.recipe._has_type(mixture, "Q4_K_M")
    assert not llamacpp.recipe._has_type(mixture, "Q4_K_S")


def test_a_model_without_a_chat_template_needs_one_in_its_recipe() -> None:
    def recipe(template: str) -> Intent:
        return Intent("old", "Old", "MIT", ("en",), (), "gguf", 512, "Q4_0", template)

    ggufs.require_template(recipe("chatml"), model())
    ggufs.require_template(recipe(""), model(**{"tokenizer.chat_template": "{{ x }}"}))
    with pytest.raises(ConfigFailure) as caught:
        ggufs.require_template(recipe(""), model())
    assert "chat_template" in caught.value.next


def test_memory_grows_with_weights_and_context_by_what_they_take() -> None:
    header = model()
    small = footprint.whole(header, 1000, 2048)
    assert footprint.whole(header, 2000, 2048) - small == 1000
    # Keys and values: 24 layers, 2 groups of 64 numbers each, 16 bits; and the mask of one batch.
    assert footprint.whole(header, 1000, 4096) - small == 2048 * (24 * 2 * 64 * 2 * 2 + 512 * 2)
    assert footprint.each(header, 2048) == 2048 * 24 * 2 * 64 * 2 * 2


def test_memory_of_a_model_that_reads_and_writes_with_one_tensor_has_it_twice() -> None:
    def weights(*names: str) -> Header:
        return Header(QWEN, tuple(Tensor(name, (64, 64), Q4_0, 0) for name in names))

    apart = footprint.whole(weights("token_embd.weight", "output.weight"), 1000, 2048)
    tied = footprint.whole(weights("token_embd.weight", "blk.0.attn_q.weight"), 1000, 2048)
    assert tied - apart == 500


def test_memory_of_models_that_state_heads_for_each_layer_or_their_width() -> None:
    context = 4096
    plain = footprint.whole(model(), 0, context)
    listed = model(**{"qwen2.attention.head_count_kv": [2] * 24})
    assert footprint.whole(listed, 0, context) == plain
    wide = model(**{"qwen2.attention.key_length": 128, "qwen2.attention.value_length": 128})
    assert footprint.whole(wide, 0, context) - plain == context * 24 * 2 * 64 * 2 * 2
    unshared = model(**{"qwen2.attention.head_count_kv": 14})
    assert footprint.whole(unshared, 0, context) - plain == context * 24 * 12 * 64 * 2 * 2


def test_memory_of_a_model_that_attends_in_one_of_four_layers() -> None:
    """Qwen3.5: 18 of 24 layers keep a state of 2048 rows of 128 numbers, and three tokens past."""
    context = 4096
    every = model()
    fourth = model(
        **{
            "qwen2.full_attention_interval": 4,
            "qwen2.ssm.inner_size": 2048,
            "qwen2.ssm.state_size": 128,
            "qwen2.ssm.conv_kernel": 4,
            "qwen2.ssm.group_count": 16,
        }
    )
    state = 18 * 4 * (2048 * 128 + 3 * (2048 + 2 * 16 * 128))
    assert footprint.each(fourth, context) == footprint.each(every, context) // 4 + state
    whole = footprint.whole(every, 1000, context) - footprint.each(every, context)
    assert footprint.whole(fourth, 1000, context) == whole + footprint.each(fourth, context)
    assert footprint.each(model(**{"qwen2.full_attention_interval": 0}), context) > 0, "nonsense"
