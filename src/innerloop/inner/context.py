"""What a measurement reads of a trajectory: the tokens before it, and its own.

Of what the model itself sampled these are the very tokens that it sampled; other texts are encoded. Position 0 is right
after the opening thinking delimiter, where there is one, whoever wrote it: a line break after it in the prompt is part
of the trajectory. The closing delimiter belongs to the trajectory too: the curve ends where thinking has ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from innerloop.rollout.retokenise import covering, own_tokens
from innerloop.schema import Mode, Question, Status, Trajectory

if TYPE_CHECKING:
    from innerloop.speaker import Speaker

Ids = tuple[int, ...]


def context(speaker: Speaker, question: Question, trajectory: Trajectory) -> tuple[Ids, Ids]:
    """The prompt up to position 0, and the trajectory's tokens t₁…tₙ."""
    prompt = tuple(speaker.prompt(question, mode=trajectory.mode))
    opened = speaker.decode(prompt).rstrip().endswith(speaker.think_start)
    own = own_tokens(speaker, trajectory)
    opening: Ids = ()
    if own is None or trajectory.source.is_control:
        ids = _given(speaker, trajectory, own)
    else:
        opening, ids = _sampled(speaker, trajectory, own, opened=opened)
    if not opened:
        return (*prompt, *opening), ids
    end = len(prompt)
    while end > 1 and not speaker.decode(prompt[end - 1 : end]).strip():
        end -= 1
    return prompt[:end], (*prompt[end:], *ids)


def _given(speaker: Speaker, trajectory: Trajectory, own: Ids | None) -> Ids:
    """A text, or a control's own tokens, with the closing delimiter where its thinking ends."""
    ids = own if own is not None else tuple(speaker.encode(trajectory.text))
    if trajectory.mode is not Mode.THINKING or trajectory.status is Status.TRUNCATED:
        return ids
    return (*ids, *speaker.encode(f"\n{speaker.think_end}"))


def _sampled(speaker: Speaker, trajectory: Trajectory, tokens: Ids, *, opened: bool) -> tuple[Ids, Ids]:
    """What was sampled up to the opening delimiter, where the model wrote it, and the trajectory's tokens."""
    said = speaker.decode(tokens)
    start, end = _place(speaker, trajectory, said, opened=opened)
    if end < 0:
        return (), tuple(speaker.encode(trajectory.text))
    first = covering(speaker, tokens, start)
    if len(speaker.decode(tokens[:first])) != start:  # a token reaches over the delimiter's end
        return tuple(speaker.encode(said[:start])), tuple(speaker.encode(said[start:end]))
    last = max(first, covering(speaker, tokens, end))
    if last > first and len(speaker.decode(tokens[:last])) > end:  # this token reaches beyond the trajectory
        last -= 1
    rest = said[len(speaker.decode(tokens[:last])) : end]
    return tokens[:first], (*tokens[first:last], *speaker.encode(rest))


def _place(speaker: Speaker, trajectory: Trajectory, said: str, *, opened: bool) -> tuple[int, int]:
    """Where the trajectory begins and ends in what was sampled; an end of −1 where it is not to be found."""
    opening = said.find(speaker.think_start)
    if trajectory.mode is Mode.NO_THINKING or not (opened or opening >= 0):
        return 0, len(trajectory.text) if said.startswith(trajectory.text) else -1
    start = 0 if opened else opening + len(speaker.think_start)
    closing = said.rfind(speaker.think_end, start)
    if closing >= 0 and trajectory.final is not None:
        return start, closing + len(speaker.think_end)
    place = said.find(trajectory.text, start)  # thinking never ended; what follows it are end tokens
    return start, place + len(trajectory.text) if place >= 0 else -1
