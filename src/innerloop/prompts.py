r"""Prompt templates by name: what a question's user turn says around the question.

A question's own template comes first (``Question.prompt_template``: its benchmark's, its file's, or the one that a
command named), then that of its kind of answer (`default`), and for everything whose answer stands in a box the model's
instruction, which is the paper's where nobody gave another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from innerloop import plain_json
from innerloop.errors import InputError
from innerloop.nearest import meant
from innerloop.schema import Question

SLOT = "{question}"
INSTRUCTION = "Please reason step by step, and put your final answer within \\boxed{}."

_BLOCK = "in one fenced Python block (```python … ```), and nothing else in a block."


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A template with one place ``{question}``, what it is for, and where its words are from (``None``: ours)."""

    template: str
    about: str
    source: str | None = None


PROMPTS: dict[str, Prompt] = {
    "paper": Prompt(
        template=f"{SLOT}\n\n{INSTRUCTION}",
        about="an answer in a box; the default for mathematics",
        source="RaML",
    ),
    "conclusion": Prompt(
        template=(
            f"{SLOT}\n\nReason about the question in full first. Then give your conclusion between <conclusion> and "
            "</conclusion>, with the final answer within \\boxed{} in it."
        ),
        about="reasoning, then tags around a boxed answer: the format that RaML's evaluation code asks for",
    ),
    "livemathbench": Prompt(
        template=(
            f"Here is a math question, please reasoning step by step, and put your answer in \\boxed{{}}.\n{SLOT}\n"
        ),
        about="an answer in a box, asked for in front of the question",
        source="OpenCompass, LiveMathBench",
    ),
    "livemathbench-cn": Prompt(
        template=f"下面是一个数学问题，请逐步推理，并把最终答案放置于\\boxed{{}}中。\n{SLOT}\n",
        about="the same in Chinese; the default of livemathbench-hard-cn",
        source="OpenCompass, LiveMathBench",
    ),
    "choice": Prompt(
        template=f"{SLOT}\n\nPlease reason step by step, and put the letter of the right option within \\boxed{{}}.",
        about="the letter of an option in a box; the default for multiple choice",
    ),
    "choice-line": Prompt(
        template=(
            f"Choose the right option. Think step by step, and end with a line of the form 'Answer: LETTER'.\n\n{SLOT}"
        ),
        about="the letter in a last line, as simple-evals and OpenCompass ask for it",
    ),
    "function": Prompt(
        template=f"{SLOT}\n\nThink step by step. Then write the function with all that it needs {_BLOCK}",
        about="a Python function or class; the default where tests call it",
    ),
    "completion": Prompt(
        template=(
            f"```python\n{SLOT}\n```\n\nThink step by step how to complete this function. Then write it whole, "
            f"from its imports on, {_BLOCK}"
        ),
        about="a whole function that begins as given; the default of HumanEval",
    ),
    "program": Prompt(
        template=(
            f"{SLOT}\n\nThink step by step. Then write a program that reads its input from standard input and prints "
            f"what is asked for, and nothing more, {_BLOCK}"
        ),
        about="a program from standard input to standard output; the default where tests compare what it prints",
    ),
    "literal": Prompt(
        template=(
            f"{SLOT}\n\nThink step by step. Then give the Python literal alone between [ANSWER] and [/ANSWER], without "
            "any expression that is still to be computed."
        ),
        about="a Python literal between tags; the default of CRUXEval",
    ),
    "bare": Prompt(template=SLOT, about="the question and nothing else, as for base models"),
}


def resolve(text: str, where: str) -> str:
    """The template that is called ``text``, or ``text`` itself where it has the place for the question.

    `InputError` that begins with ``where`` for anything else.
    """
    if text in PROMPTS:
        return PROMPTS[text].template
    if SLOT in text:
        return text
    hint = meant(text, PROMPTS)
    raise InputError(f"{where} {text[:60]!r}: {hint}There are {', '.join(PROMPTS)}; or write a text with {SLOT} in it")


def named(template: str) -> str:
    """The name of a template, or the template itself where it has none."""
    return next((name for name, prompt in PROMPTS.items() if prompt.template == template), template)


def default(question: Question) -> str | None:
    """The template that fits how the question is judged; ``None`` where the model's instruction does."""
    name = {"choice": "choice", "literal": "literal"}.get(question.verifier or "")
    if question.verifier == "code":
        name = _code(question)
    return None if name is None else PROMPTS[name].template


def _code(question: Question) -> str:
    return "completion" if plain_json.mapping(question.metadata).get("entry_point") else "function"


def user_turn(question: str | Question, instruction: str) -> str:
    """What the user's turn says. A text is followed by a blank line and the instruction, where that is not empty."""
    if isinstance(question, Question):
        template = question.prompt_template or default(question)
        if template is not None:
            return template.replace(SLOT, question.question)  # no str.format: LaTeX is full of braces
        question = question.question
    return f"{question}\n\n{instruction}" if instruction else question


def used(questions: Iterable[Question], instruction: str) -> dict[str, int]:
    """How many of the questions are put with which template, by its name where it has one."""
    plain = f"{SLOT}\n\n{instruction}" if instruction else SLOT
    return dict(Counter(named(question.prompt_template or default(question) or plain) for question in questions))
