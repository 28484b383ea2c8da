"""An engine that says what it was told to say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from innerloop.models import LoadedModel
    from innerloop.rollout.engine import Completion, Request, Sampling


class ScriptedEngine:
    """Gives back scripted texts instead of sampling: the whole rollout path without a model.

    ``script`` maps a request's id to a text (or to a finished ``Completion``), or is called with the request and gives
    one. ``loaded`` lends its tokenizer; without it a token is one UTF-8 byte, and without its end token. ``requests``
    collects everything that was asked for, in order.
    """

    def __init__(
        self,
        script: Mapping[str, str | Completion] | Callable[[Request], str | Completion],
        *,
        loaded: LoadedModel | None = None,
        name: str = "scripted",
    ) -> None:
        self._script = script
        self._loaded = loaded
        self._name = name
        self.requests: list[Request] = []

    @property
    def name(self) -> str:
        """What the trajectories' ``model`` field says."""
        return self._name

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
        """One completion per request, in order, each when it is asked for.

        A text of more than ``sampling.max_tokens`` tokens (the end token included) is cut there and truncated. A
        request without a scripted text ends with status ``error`` and the reason.
        """
        for request in requests:
            self.requests.append(request)
            yield self._complete(request, sampling)

    def _complete(self, request: Request, sampling: Sampling) -> Completion:
        from innerloop.rollout.engine import Completion
        from innerloop.schema import Status

        said = self._script(request) if callable(self._script) else self._script.get(request.id)
        if isinstance(said, Completion):
            return said
        status, reason = Status.COMPLETE, None
        ids = self._encode(said or "")
        if said is None:
            status, reason, ids = Status.ERROR, f"no scripted text for request {request.id!r}", []
        elif len(ids) > sampling.max_tokens:
            status, reason, ids = Status.TRUNCATED, "max_tokens", ids[: sampling.max_tokens]
            said = self._decode(ids)
        return Completion(
            id=request.id, token_ids=tuple(ids), text=said or "", status=status, reason=reason, seed=request.seed
        )

    def _encode(self, text: str) -> list[int]:
        if self._loaded is None:
            return list(text.encode())
        end = self._loaded.tokenizer.eos_token_id
        return [*self._loaded.encode(text), *([] if end is None else [end])]

    def _decode(self, ids: Sequence[int]) -> str:
        return bytes(ids).decode(errors="replace") if self._loaded is None else self._loaded.decode(ids)
