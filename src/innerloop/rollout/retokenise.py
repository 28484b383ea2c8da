"""What was sampled, in the tokens of whoever reads it: a teacher's token ids say nothing to another tokenizer."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING

from innerloop.schema import Mode, Source, Trajectory

if TYPE_CHECKING:
    from innerloop.speaker import Speaker


def own_tokens(speaker: Speaker, trajectory: Trajectory) -> tuple[int, ...] | None:
    """The stored token ids, where they are those of the speaker's tokenizer; None where the text has to be encoded.

    Older runs do not say which tokenizer it was. There the name of the model decides, and a control was made with the
    tokenizer of the run that holds it.
    """
    if not trajectory.token_ids:
        return None
    if trajectory.tokenizer is None:
        known = trajectory.source.is_control or trajectory.model == speaker.name
    else:
        known = trajectory.tokenizer == speaker.tokenizer_identity
    return trajectory.token_ids if known else None


def sampled_text(speaker: Speaker, trajectory: Trajectory) -> str:
    """What a model said after the prompt of the trajectory's mode, without its end token.

    In the speaker's own words where the tokens are its own; else thought and answer with the speaker's thinking
    delimiters around the thought, where its prompt has not opened or closed the thinking already.
    """
    own = own_tokens(speaker, trajectory)
    if own is not None:
        return speaker.decode(own).removesuffix(speaker.tokenizer.eos_token or "")
    shown = trajectory.final
    if trajectory.mode is Mode.NO_THINKING and speaker.switches_off:  # the prompt holds an empty thinking part
        return trajectory.text if shown is None else shown
    if not _has_thought(trajectory):
        return shown or trajectory.text
    inside = trajectory.mode is Mode.NO_THINKING or speaker.opens_thinking(trajectory.mode)
    thought = ("" if inside else f"{speaker.think_start}\n") + trajectory.text
    return thought if shown is None else f"{thought}\n{speaker.think_end}\n\n{shown}"


def is_sampled(trajectory: Trajectory) -> bool:
    """Whether a model said all of it, its final answer included, so that nothing is to be added to it."""
    return trajectory.source is Source.SAMPLE and (bool(trajectory.token_ids) or trajectory.final is not None)


def covering(speaker: Speaker, tokens: Sequence[int], length: int) -> int:
    """The least number of leading tokens whose text has ``length`` characters, half characters not counted."""
    return bisect_left(range(len(tokens)), length, key=lambda count: len(speaker.decode(tokens[:count]).rstrip("�")))


def _has_thought(trajectory: Trajectory) -> bool:
    """Whether the sample has a thinking part; without one its text is the beginning of what was shown."""
    if trajectory.mode is Mode.THINKING:
        return True
    return bool(trajectory.text) and not (trajectory.final or "").startswith(trajectory.text)
