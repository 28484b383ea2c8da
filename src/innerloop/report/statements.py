"""What the aggregate says, in plain sentences that claim no more than the intervals allow."""

from __future__ import annotations

from typing import Any

from innerloop.schema import Mode, Outcome, Source

_NOUNS = {
    Source.SOLUTION: "worked solutions",
    Source.ORACLE: "oracle trajectories",
    Source.FILE: "trajectories from file",
    Source.SAMPLE: "samples",
    Source.OTHER_QUESTION: "trajectories of another question",
    Source.SHUFFLED: "the same tokens shuffled",
    Source.FILLER: "filler of the same length",
}
_FEW_QUESTIONS = 5


def statements(groups: list[dict[str, Any]], differences: list[dict[str, Any]]) -> list[str]:
    """The lead sentence first, on the first group that is no control; then controls, differences, cautions."""
    if not groups:
        return []
    ordered = sorted(groups, key=lambda row: row["control"])
    said = [_lead(ordered[0])]
    said += [_copying(row) for row in ordered if _may_be_copying(row)]
    said += [_control(row) for row in ordered[1:] if row["control"]]
    said += [_difference(row, groups) for row in differences if row["gain"]["mean"] is not None]
    if any(1 < row["gain"]["questions"] < _FEW_QUESTIONS for row in groups):
        said.append(
            f"An interval over fewer than {_FEW_QUESTIONS} questions understates the doubt; "
            "take it as a first look, not as evidence."
        )
    return said


def _lead(row: dict[str, Any]) -> str:
    """The main sentence on one group."""
    subject, gain = _capital(_noun(row)), row["gain"]
    if gain["mean"] is None:
        return f"{subject}: the gain is undefined, because the loss before the trajectory was not measured."
    level = ""
    if row["start"]["mean"] is not None and row["end"]["mean"] is not None:
        level = f", from {row['start']['mean']:.2f} to {row['end']['mean']:.2f}"
    moved = f"{_moves(gain)} by {_size(gain)} nats per answer token{level}"
    over = f"on average over {_questions(gain)}"
    if gain["low"] is None:
        return f"{subject}: {over} the answer loss {moved}; no interval, because {gain['reason']}."
    if gain["away_from_zero"]:
        verb = "lower" if gain["mean"] > 0 else "raise"
        return f"{subject} {verb} the answer loss: {over} it {moved} ({_interval(gain)} of the gain, away from zero)."
    return (
        f"{subject} do not clearly move the answer loss: {over} it {moved}, "
        f"but the gain's {_interval(gain)} includes zero."
    )


def _may_be_copying(row: dict[str, Any]) -> bool:
    return row["written"] > 0 and not row["control"] and (row["gain"]["mean"] or 0) > 0


def _copying(row: dict[str, Any]) -> str:
    """How much of a group's gain came before the answer could be copied from the text."""
    before = row["before"]
    said = f"{_capital(_noun(row))}: {row['written']} of {row['trajectories']} write the answer itself"
    if before["mean"] is None:
        return f"{said}; what they gain before it is undefined."
    if before["low"] is None:
        return f"{said}; before it the gain is {signed(before['mean'])}; no interval, because {before['reason']}."
    gain = f"before it the gain is {signed(before['mean'])} ({_interval(before)})"
    if before["away_from_zero"] and before["mean"] > 0:
        return f"{said}; {gain}, which copying it does not explain."
    return f"{said}; {gain}, so the fall cannot be told from copying it."


def _control(row: dict[str, Any]) -> str:
    """What a control did, and what that means for the claim."""
    gain = row["gain"]
    subject = f"Control, {_noun(row)}"
    if gain["mean"] is None:
        return f"{subject}: undefined."
    if gain["low"] is None:
        return f"{subject}: the loss {_moves(gain)} by {_size(gain)}; no interval, because {gain['reason']}."
    if not gain["away_from_zero"]:
        return f"{subject}: no clear effect (gain {signed(gain['mean'])}, {_interval(gain)})."
    if gain["mean"] < 0:
        return f"{subject}: the loss rises by {_size(gain)} (gain {_interval(gain)}): it leads away from the answer."
    return (
        f"{subject}: the loss falls by {_size(gain)} ({_interval(gain)}), "
        "a fall that needs no reasoning about the question."
    )


def _difference(row: dict[str, Any], groups: list[dict[str, Any]]) -> str:
    """Whether one group gains more than another."""
    nouns = {group["key"]: _noun(group) for group in groups}
    gain = row["gain"]
    a = _capital(nouns[row["minuend"]])
    b = nouns[row["subtrahend"]] if row["control"] else "wrong ones"
    if gain["low"] is None:
        return f"{a} against {b}: {signed(gain['mean'])} nats; no interval, because {gain['reason']}."
    if not gain["away_from_zero"]:
        return f"{a} and {b} do not clearly differ (gain {signed(gain['mean'])}, {_interval(gain)})."
    more = "more" if gain["mean"] > 0 else "less"
    return f"{a} gain {_size(gain)} nats {more} than {b} ({_interval(gain)})."


def _noun(row: dict[str, Any]) -> str:
    source: Source = row["source"]
    outcome: Outcome | None = row["outcome"]
    mode: Mode | None = row["mode"]
    judged = [str(outcome)] if outcome else []
    made_of = [f"(made of {_NOUNS[row['of']]})"] if row["of"] else []
    return " ".join([*judged, _NOUNS[source], *made_of, *([f"({mode})"] if mode else [])])


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _questions(gain: dict[str, Any]) -> str:
    return f"{gain['questions']} question{'' if gain['questions'] == 1 else 's'}"


def _moves(gain: dict[str, Any]) -> str:
    return "falls" if gain["mean"] >= 0 else "rises"


def _size(gain: dict[str, Any]) -> str:
    return f"{abs(gain['mean']):.2f}"


def _interval(gain: dict[str, Any]) -> str:
    return f"95 % interval {signed(gain['low'])} to {signed(gain['high'])}"


def signed(value: float | None, digits: int = 2) -> str:
    """A number with a true minus sign; a dash where it is undefined."""
    if value is None:
        return "–"
    text = f"{value:.{digits}f}"
    return text.replace("-", "" if float(text) == 0 else "−")
