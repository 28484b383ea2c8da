"""Whether two tokenizers are the same one: token ids mean nothing to any other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Spaces, digits, formulas, other scripts: tokenizers with one vocabulary differ in how they cut these.
_SAMPLE = (
    " Is 12345 + 0x7fff = 3.14159?  Naïve tokenizers: \t\\boxed{46}\r\n\n\n    if x != -1:\n"
    "東京, Москва, e\u0301té … don't AGREE 🙂 ½ \\frac{1}{2}"
)


def tokenizer_identity(
    tokenizer: PreTrainedTokenizerBase, encode: Callable[[str], Sequence[int]], decode: Callable[[Sequence[int]], str]
) -> str:
    """16 hexadecimal digits that tell tokenizers apart by what they do, not by the file that they were read from.

    They cover the whole vocabulary with its added tokens, and how a sample text and the added tokens are encoded and
    decoded. Chat template, padding and the class in Python do not count: none of them changes what an id stands for.
    """
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda entry: (entry[1], entry[0]))
    text = _SAMPLE + " ".join(sorted(tokenizer.get_added_vocab()))
    ids = list(encode(text))
    said = json.dumps([vocabulary, ids, decode(ids)])
    return hashlib.blake2b(said.encode(), digest_size=8, person=b"tokenizer").hexdigest()
