"""A tokenizer that needs no download: one token per UTF-8 byte, and a few markers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPECIAL = ("<pad>", "<bos>", "<eos>", "<user>", "<assistant>")
THINKING = ("<think>", "</think>")  # ordinary added tokens, as in Qwen3: decoding never drops them
VOCABULARY = 256 + len(SPECIAL) + len(THINKING)

_TURNS = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message.role == 'assistant' %}<assistant>{% else %}<user>{% endif %}{{ message.content }}{{ eos_token }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<assistant>"
)
TEMPLATE = _TURNS + "{% endif %}"
TEMPLATE_WITH_SWITCH = (
    _TURNS + "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)


def byte_tokenizer(*, thinking_switch: bool = False) -> PreTrainedTokenizerFast:
    """A tokenizer whose first 256 tokens are the bytes; every text decodes to itself.

    The text of a marker (``<think>``) becomes the marker's one token, as in real tokenizers. ``<bos>`` is put in
    front where special tokens are asked for. ``thinking_switch`` chooses a chat template that reads
    ``enable_thinking``.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    backend.add_tokens([AddedToken(token, special=False, normalized=False) for token in THINKING])
    backend.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A $B", special_tokens=[("<bos>", backend.token_to_id("<bos>"))]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        additional_special_tokens=["<user>", "<assistant>"],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = TEMPLATE_WITH_SWITCH if thinking_switch else TEMPLATE
    assert len(tokenizer) == VOCABULARY
    return tokenizer
