"""The field names and habits of public data sets, brought to our row format."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from innerloop.boxed import last_boxed
from innerloop.errors import InputError
from innerloop.questions.rows import FIELDS, scalar_text

NAMES = {
    "id": ("id", "unique_id", "task_id", "question_id", "problem_id", "uid"),
    "question": ("question", "problem", "prompt", "query", "input", "instruction"),
    "answer": ("answer", "final_answer", "expected_answer", "ground_truth", "gold", "target", "output"),
    "solution": ("solution", "rationale", "reasoning", "cot", "explanation"),
}
_HASHES = re.compile(r"^(?P<solution>.*?)\s*^#### *(?P<answer>.+?)\s*$", re.DOTALL | re.MULTILINE)
_CALCULATOR = re.compile(r"<<[^<>]*>>")


def to_row(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A row with our field names; fields that no name fits are left as they are.

    Understands the final line ``#### 18`` of GSM8K, the last ``\\boxed{}`` of a worked solution (MATH) where no answer
    stands apart, a chat as prompt and ``reward_model.ground_truth`` (verl), and a list that holds one answer.
    ``InputError`` where no question or no answer can be found.
    """
    lower: dict[str, str] = {}
    known = {alias for aliases in NAMES.values() for alias in aliases}
    for written in row:
        first = lower.setdefault(written.lower(), written)
        if first != written and written.lower() in known:
            raise InputError(f"{where}: the fields {first!r} and {written!r} mean the same; rename one of them")
    source = {field: next((lower[n] for n in names if n in lower), None) for field, names in NAMES.items()}
    result = {name: value for name, value in row.items() if name not in source.values() and name not in NAMES}
    for field, name in source.items():
        if name is not None and row[name] is not None:
            result[field] = row[name]
    if isinstance(result.get("question"), list):
        result["question"] = _last_user_turn(result["question"])
    _find_answer(result)
    for field in ("question", "answer"):
        if scalar_text(result.get(field)) is None:
            raise InputError(
                f"{where}: no {field} among its fields ({_listed(row)}); copy the data to a .jsonl file with the "
                "fields question and answer"
            )
    return result


def _find_answer(row: dict[str, Any]) -> None:
    answer = row.get("answer")
    if isinstance(answer, list) and len(answer) == 1:
        answer = answer[0]
    if answer is None and isinstance(row.get("reward_model"), Mapping):
        answer = row["reward_model"].get("ground_truth")
    if isinstance(answer, str) and (split := split_hashes(answer)):
        worked, answer = split
        row.setdefault("solution", worked)
    elif isinstance(answer, str) and (boxed := last_boxed(answer)) is not None:
        row.setdefault("solution", answer)
        answer = boxed
    elif answer is None and isinstance(row.get("solution"), str):
        answer = last_boxed(row["solution"])
    row["answer"] = answer


def split_hashes(text: str) -> tuple[str, str] | None:
    """Worked solution and answer of a text that ends in ``#### 18``, or None.

    The calculator marks of GSM8K (``<<48/2=24>>``) are taken out, and the commas of a number.
    """
    match = _HASHES.match(text)
    if match is None:
        return None
    answer = match["answer"]
    plain = answer.replace(",", "")
    is_number = re.fullmatch(r"[-+]?\d+(\.\d+)?", plain) is not None
    return _CALCULATOR.sub("", match["solution"]).strip(), plain if is_number else answer


def _last_user_turn(turns: Iterable[Any]) -> Any:
    return next(
        (t.get("content") for t in reversed(list(turns)) if isinstance(t, Mapping) and t.get("role") == "user"), None
    )


def _listed(row: Mapping[str, Any]) -> str:
    names = [name for name in row if name not in FIELDS] or list(row)
    return ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
