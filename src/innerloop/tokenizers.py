"""Tokenizers that need no download: one token per UTF-8 byte or per character, and a few markers.

Made for models from scratch (`innerloop.outer.init`) and for tests. Both have a chat template and thinking delimiters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from innerloop.errors import InputError

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

SPECIAL = ("<pad>", "<bos>", "<eos>", "<user>", "<assistant>")
THINKING = ("<think>", "</think>")  # ordinary added tokens, as in Qwen3: decoding never drops them
UNKNOWN = "<unk>"
PRINTABLE = "\n" + "".join(map(chr, range(32, 127)))
VOCABULARY = 256 + len(SPECIAL) + len(THINKING)  # of the byte tokenizer

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


def byte_tokenizer(*, thinking_switch: bool = False, whole: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """A tokenizer whose first 256 tokens are the bytes; every text decodes to itself.

    The text of a marker (``<think>``) becomes the marker's one token, as in real tokenizers, and so do the texts in
    ``whole``. ``<bos>`` is put in front where special tokens are asked for. ``thinking_switch`` chooses a chat template
    that reads ``enable_thinking``.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return _with_markers(backend, whole, TEMPLATE_WITH_SWITCH if thinking_switch else TEMPLATE)


def character_tokenizer(alphabet: str = PRINTABLE, *, whole: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """A tokenizer with a token for each character of ``alphabet`` and each text in ``whole``; others are ``<unk>``."""
    from tokenizers import Tokenizer, decoders, models

    letters = sorted(set(alphabet))
    if not letters:
        raise InputError("the alphabet is empty: a character tokenizer needs at least one character")
    vocabulary = {letter: i for i, letter in enumerate((*letters, UNKNOWN))}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=UNKNOWN))
    backend.decoder = decoders.Fuse()
    return _with_markers(backend, whole, TEMPLATE, unk_token=UNKNOWN)


def _with_markers(backend: Tokenizer, whole: Sequence[str], template: str, **special: str) -> PreTrainedTokenizerFast:
    """Adds the markers, the texts that are one token, and the chat template."""
    from tokenizers import AddedToken, processors
    from transformers import PreTrainedTokenizerFast

    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    backend.add_tokens([AddedToken(token, special=False, normalized=False) for token in (*THINKING, *whole)])
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
        **special,
    )
    tokenizer.chat_template = template
    return tokenizer
