r"""Prompts by name: what a question's user turn says around the question, and what a system turn says before it.

A question's own template comes first (``Question.prompt_template``: its benchmark's, its file's, or the one that a
command named), then that of its kind of answer (`default`), and for everything whose answer stands in a box the model's
instruction, which is the paper's where nobody gave another. A system turn is the question's own
(``Question.system_turn``), else the model's; mostly there is none.
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
    """A template with one place ``{question}``, what it is for, and where its words are from (``None``: ours).

    ``system`` is the turn before it; ``None`` leaves that to the model.
    """

    template: str
    about: str
    source: str | None = None
    system: str | None = None


#: Filled by `register`.
PROMPTS: dict[str, Prompt] = {}


def register(name: str, prompt: Prompt) -> None:
    """Make a prompt known by name. `ValueError` for a name that is taken and for a template without its place."""
    if name in PROMPTS or SLOT in name:
        raise ValueError(f"there is a prompt {name!r} already; choose another name")
    if prompt.template.count(SLOT) != 1:
        raise ValueError(f"the prompt {name!r} needs one place {SLOT} in its template")
    PROMPTS[name] = prompt


register(
    "paper",
    Prompt(
        template=f"{SLOT}\n\n{INSTRUCTION}",
        about="an answer in a box; the default for mathematics",
        source="RaML",
    ),
)
register(
    "conclusion",
    Prompt(
        template=(
            f"{SLOT}\n\nReason about the question in full first. Then give your conclusion between <conclusion> and "
            "</conclusion>, with the final answer within \\boxed{} in it."
        ),
        about="reasoning, then tags around a boxed answer: the format that RaML's evaluation code asks for",
    ),
)
register(
    "livemathbench",
    Prompt(
        template=(
            f"Here is a math question, please reasoning step by step, and put your answer in \\boxed{{}}.\n{SLOT}\n"
        ),
        about="an answer in a box, asked for in front of the question",
        source="OpenCompass, LiveMathBench",
    ),
)
register(
    "livemathbench-cn",
    Prompt(
        template=f"下面是一个数学问题，请逐步推理，并把最终答案放置于\\boxed{{}}中。\n{SLOT}\n",
        about="the same in Chinese; the default of livemathbench-hard-cn",
        source="OpenCompass, LiveMathBench",
    ),
)
register(
    "choice",
    Prompt(
        template=f"{SLOT}\n\nPlease reason step by step, and put the letter of the right option within \\boxed{{}}.",
        about="the letter of an option in a box; the default for multiple choice",
    ),
)
register(
    "choice-line",
    Prompt(
        template=(
            f"Choose the right option. Think step by step, and end with a line of the form 'Answer: LETTER'.\n\n{SLOT}"
        ),
        about="the letter in a last line, as simple-evals and OpenCompass ask for it",
    ),
)
register(
    "function",
    Prompt(
        template=f"{SLOT}\n\nThink step by step. Then write the function with all that it needs {_BLOCK}",
        about="a Python function or class; the default where tests call it",
    ),
)
register(
    "completion",
    Prompt(
        template=(
            f"```python\n{SLOT}\n```\n\nThink step by step how to complete this function. Then write it whole, "
            f"from its imports on, {_BLOCK}"
        ),
        about="a whole function that begins as given; the default of HumanEval",
    ),
)
register(
    "program",
    Prompt(
        template=(
            f"{SLOT}\n\nThink step by step. Then write a program that reads its input from standard input and prints "
            f"what is asked for, and nothing more, {_BLOCK}"
        ),
        about="a program from standard input to standard output; the default where tests compare what it prints",
    ),
)
register(
    "literal",
    Prompt(
        template=(
            f"{SLOT}\n\nThink step by step. Then give the Python literal alone between [ANSWER] and [/ANSWER], without "
            "any expression that is still to be computed."
        ),
        about="a Python literal between tags; the default of CRUXEval",
    ),
)
register(
    "bare",
    Prompt(template=SLOT, about="the question and nothing else, as for base models"),
)
register(
    "raml-grpo",
    Prompt(
        system=(
            "You answer a user's question. First think it through, from the question to the result, between <think> "
            "and </think>. Then state your conclusion between <conclusion> and </conclusion>, and put the final answer "
            "in it within \\boxed{}. Nothing else stands outside the two blocks:\n\n"
            "<think>\nyour reasoning\n</think>\n<conclusion>\nyour conclusion: \\boxed{the final answer}\n</conclusion>"
        ),
        template=SLOT,
        about="the form of RaML's GRPO, in a system turn: a thinking block, then tags around a boxed answer",
    ),
)
register(
    "raml-synthesis",
    Prompt(
        template=(
            "Please solve the following mathematical problem step by step and put your final answer in \\boxed{}."
            f"\n\n{SLOT}"
        ),
        about="what RaML's teachers were asked to sample the trajectories of SFT",
        source="RaML, appendix C.2",
    ),
)
register(
    "raml-evaluation",
    Prompt(
        system=(
            "You answer a user's question. First reason about it in full. Then state your conclusion between "
            "<conclusion> and </conclusion>, and put the final answer in it within \\boxed{}, like this:\n\n"
            "your reasoning\n<conclusion>\nyour conclusion: \\boxed{the final answer}\n</conclusion>"
        ),
        template=SLOT,
        about="the form of RaML's evaluation code, in a system turn: reasoning, then tags around a boxed answer",
    ),
)


def resolve(text: str, where: str) -> Prompt:
    """The prompt that is called ``text``, or one with ``text`` as template where it has the place for the question.

    `InputError` that begins with ``where`` for anything else.
    """
    if text in PROMPTS:
        return PROMPTS[text]
    if SLOT in text:
        return Prompt(template=text, about="given")
    hint = meant(text, PROMPTS)
    raise InputError(f"{where} {text[:60]!r}: {hint}There are {', '.join(PROMPTS)}; or write a text with {SLOT} in it")


def named(template: str, system: str | None = None) -> str:
    """The name of a prompt, or its text where it has none; ``system`` is the turn before it, where there is one."""
    for name, prompt in PROMPTS.items():
        if (prompt.template, prompt.system) == (template, system or None):
            return name
    return f"system: {system}\n\nuser: {named(template)}" if system else template


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


def system_turn(question: str | Question, system: str | None) -> str | None:
    """What is said before the user's turn: by the question, else by ``system``, the model's; None for nothing."""
    own = question.system_turn if isinstance(question, Question) else None
    return (system if own is None else own) or None


def turns(question: str | Question, instruction: str, system: str | None) -> list[dict[str, str]]:
    """The turns of a chat up to the model's."""
    before = system_turn(question, system)
    first = [] if before is None else [{"role": "system", "content": before}]
    return [*first, {"role": "user", "content": user_turn(question, instruction)}]


def used(questions: Iterable[Question], instruction: str, system: str | None = None) -> dict[str, int]:
    """How many of the questions are put with which prompt, by its name where it has one."""
    plain = f"{SLOT}\n\n{instruction}" if instruction else SLOT
    return dict(
        Counter(
            named(question.prompt_template or default(question) or plain, system_turn(question, system))
            for question in questions
        )
    )
