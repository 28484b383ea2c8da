"""The written page: whole, alone, and safe whatever the text in it is."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innerloop.errors import InputError
from innerloop.report import page
from innerloop.report.embed import json_block, script_hash, visible
from innerloop.schema import Question, Source, Trajectory
from innerloop.testing.runs import KINDS, curve, made_up

MakeRun = Callable[..., Path]
HOSTILE = (
    "</script><script>alert(1)</script><!--<img src=x onerror=alert(2)>{{7*7}}{% x %}\x00\u202e\u2028&amp;</style>"
)


class Reader(HTMLParser):
    """Tags, and the raw content of script blocks by id."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.blocks: dict[str, str] = {}
        self.text: list[str] = []
        self._open: str | None = None
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = str(dict(attrs).get("id", "script")) if tag == "script" else self._open

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._open = None

    def handle_data(self, data: str) -> None:
        if self._open is None:
            self.text.append(data)
        else:
            self.blocks[self._open] = self.blocks.get(self._open, "") + data


texts = st.text(st.characters(exclude_categories=["Cs"])) | st.text(
    st.sampled_from(list("<>/!-&\"'\\\x00\u2028scriptSCRIPT"))
)


@given(texts)
def test_json_comes_back_and_stays_inside_its_block(text: str) -> None:
    block = str(json_block({"text": text, text: [text]}))
    assert not set(block) & set("<>&\u2028\u2029")
    assert all(character >= " " for character in block)
    assert json.loads(block) == {"text": text, text: [text]}
    inside = Reader(f'<script type="application/json" id="x">{block}</script><p>after</p>')
    assert inside.blocks["x"] == block
    assert inside.text == ["after"]


@given(texts)
def test_shown_text_has_nothing_invisible(text: str) -> None:
    shown = visible(text)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown)
    assert visible(shown) == shown
    kept = [character for character in text if character in shown]
    assert [character for character in text if visible(character) == character] == [
        character for character in kept if visible(character) == character
    ]


def test_symbols() -> None:
    assert visible("a\x00b\x1b[0m\x7f\u202e\tc\n") == "a␀b␛[0m␡⟨U+202E⟩\tc\n"


def test_numbers_that_json_lacks_are_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        json_block({"loss": float("nan")})


@pytest.fixture(scope="module")
def written(make_run: MakeRun) -> Path:
    return page.write(make_run(*made_up(questions=3, tokens=20)))


@pytest.mark.slow
def test_the_page_is_one_file_that_asks_for_nothing(written: Path) -> None:
    assert written.name == "report.html"
    read = Reader(written.read_text(encoding="utf-8"))
    for tag, attributes in read.tags:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            assert str(attributes.get(name, "#")).startswith(("#", "data:")), (tag, attributes)
    assert "@import" not in written.read_text(encoding="utf-8").split("</style>")[0]


def test_the_policy_allows_our_two_scripts_and_no_others(written: Path) -> None:
    read = Reader(written.read_text(encoding="utf-8"))
    (policy,) = (a["content"] for tag, a in read.tags if tag == "meta" and a.get("http-equiv"))
    assert policy is not None
    assert "default-src 'none'" in policy
    allowed = re.search(r"script-src ([^;]*)", policy)
    assert allowed is not None
    assert set(allowed[1].split()) == {script_hash(read.blocks["plotly"]), script_hash(read.blocks["script"])}


@pytest.mark.slow
def test_the_same_run_gives_the_same_page(written: Path) -> None:
    before = written.read_bytes()
    assert page.write(written.parent) == written
    assert written.read_bytes() == before
    assert sorted(path.name for path in written.parent.glob("*report*")) == ["report.html"]


def test_the_summary_stands_in_the_markup(written: Path) -> None:
    shown = " ".join(" ".join(Reader(written.read_text(encoding="utf-8")).text).split())
    assert "Worked solutions lower the answer loss: on average over 3 questions" in shown
    assert "fewer than 5 questions" in shown


def test_hostile_text_stays_text(make_run: MakeRun) -> None:
    question = Question(id=HOSTILE, question=HOSTILE, answer=HOSTILE, domain=HOSTILE)
    told = Trajectory(id=f"{HOSTILE}/s", question_id=HOSTILE, text=HOSTILE, source=Source.SOLUTION, model=HOSTILE)
    measured = curve(told, list(HOSTILE), [1.0] * (len(HOSTILE) + 1))
    run = make_run([question], [told], [measured], configuration={"questions": HOSTILE}, command=["innerloop", HOSTILE])
    html = page.write(run).read_text(encoding="utf-8")
    read = Reader(html)
    assert [tag for tag, _ in read.tags].count("img") == 0
    assert {a.get("type") for tag, a in read.tags if tag == "script"} == {"application/json", "text/plain", None}
    assert [a for tag, a in read.tags if tag == "script" and a.get("type") is None] == [{}]
    assert "\x00" not in html
    assert "{{7*7}}" in "".join(read.text)  # the command and the title, not evaluated
    (block,) = json.loads(read.blocks["data-t0"])
    assert "".join(block["curve"]["tokens"]) == HOSTILE
    assert not any(name.startswith("on") for _, attributes in read.tags for name in attributes)


@pytest.mark.slow
def test_a_page_for_every_empty_state(make_run: MakeRun) -> None:
    asked, told, measured = made_up(questions=1, tokens=6, kinds=KINDS[:1])
    nothing = page.write(make_run()).read_text(encoding="utf-8")
    assert "no trajectories yet" in nothing
    unprobed = page.write(make_run(asked, told)).read_text(encoding="utf-8")
    assert "no answer-loss curves yet" in unprobed
    assert 'id="curves"' not in unprobed
    single = page.write(make_run(asked, told, measured)).read_text(encoding="utf-8")
    assert "an interval needs at least 2 questions" in single


def test_a_folder_that_cannot_be_written_is_named(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(*made_up(questions=1, tokens=3, kinds=KINDS[:1]))
    old = page.write(run).read_bytes()

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.write", full)
    with pytest.raises(InputError, match=re.escape("report.html")):
        page.write(run)
    assert (run / "report.html").read_bytes() == old


@pytest.mark.slow
def test_two_hundred_trajectories_are_written_quickly(make_run: MakeRun) -> None:
    run = make_run(*made_up(questions=40, tokens=100))
    start = time.process_time()
    page.write(run)
    assert time.process_time() - start < 5
