"""An engine that says what it was told to say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from innerloop.rollout.engine import Completion, Request, Sampling


class ScriptedEngine:
    """Gives back scripted texts instead of sampling: the whole rollout path without a model.

    ``script`` maps a request's id to a text or is called with the request. ``encode`` turns a text into token ids (one
    per UTF-8 byte by default). ``calls`` records every request that was generated, in order.
    """

    name = "scripted"

    def __init__(
        self,
        script: Mapping[str, str] | Callable[[Request], str | Completion],
        *,
        encode: Callable[[str], Sequence[int]] | None = None,
    ) -> None:
        self._script = script
        self._encode = encode or (lambda text: list(text.encode()))
        self.calls: list[Request] = []

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
        """One completion per request, in order; a text longer than ``sampling.max_tokens`` tokens is truncated.

        A request whose id is missing in the script ends with status ``error`` and the reason.
        """
        for request in requests:
            self.calls.append(request)
            yield self._complete(request, sampling)

    def _complete(self, request: Request, sampling: Sampling) -> Completion:
        from innerloop.rollout.engine import Completion
        from innerloop.schema import Status

        if callable(self._script):
            said = self._script(request)
        elif request.id in self._script:
            said = self._script[request.id]
        else:
            reason = f"no scripted text for request {request.id!r}"
            return Completion(id=request.id, token_ids=(), text="", status=Status.ERROR, reason=reason, logprob=None)
        if not isinstance(said, str):
            return said
        ids = tuple(self._encode(said))
        status = Status.COMPLETE if len(ids) <= sampling.max_tokens else Status.TRUNCATED
        if status is Status.TRUNCATED:
            ids = ids[: sampling.max_tokens]
            said = bytes(ids).decode(errors="replace") if max(ids, default=0) < 256 else said
        return Completion(id=request.id, token_ids=ids, text=said, status=status, reason=None, logprob=None)
