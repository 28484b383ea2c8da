"""Why a server's answer ended, in the words of many servers and providers."""

from __future__ import annotations

from enum import Enum


class Finish(Enum):
    """What a finish reason means."""

    ENDED = "ended"  # the model was done
    CUT = "cut"  # a limit came before the end
    WITHHELD = "withheld"  # by a content filter
    REFUSED = "refused"  # by the model
    TOOL = "tool"  # the model asks for a tool, and is done as far as we are concerned
    BROKEN = "broken"  # the server gave up
    UNKNOWN = "unknown"


_WORDS = {
    Finish.ENDED: "stop eos eos_token eos_found end_turn stop_sequence stop_token endoftext complete completed",
    Finish.CUT: "length max_tokens max_length max_new_tokens max_output_tokens max_completion_tokens "
    "max_tokens_reached token_limit model_length context_length context_length_exceeded context_window_exceeded "
    "model_context_window_exceeded error_limit time_limit not_finished incomplete",
    Finish.WITHHELD: "content_filter content_filtered safety recitation blocklist prohibited_content spii "
    "guardrail_intervened error_toxic sensitive language",
    Finish.REFUSED: "refusal",
    Finish.TOOL: "tool_calls tool_call tool_use function_call",
    Finish.BROKEN: "abort aborted error cancelled canceled user_cancel network_error insufficient_system_resource",
}
_MEANINGS = {word: finish for finish, words in _WORDS.items() for word in words.split()}
_NOT_YET = ("", "null", "none")  # some servers write these where others write null


def reason_of(said: object) -> str | None:
    """The finish reason that an event tells, or ``None`` where it tells none."""
    return said if isinstance(said, str) and said.strip().lower() not in _NOT_YET else None


def meaning(reason: str) -> Finish:
    """What a finish reason means, in whatever case and spelling."""
    word = reason.strip().lower().replace("-", "_").replace(" ", "_").removeprefix("finish_reason_")
    return _MEANINGS.get(word, Finish.UNKNOWN)
