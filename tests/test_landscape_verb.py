"""``innerloop landscape`` from the command line: what it writes, how it goes on, what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from innerloop.errors import InputError
from innerloop.schema import Landscape
from innerloop.store import Run
from innerloop.verbs.landscape import LandscapeSettings

Cli = Callable[..., Any]
PLANES = ("random-filter", "random-tensor", "path", "path-line", "gradient-line")


@pytest.fixture
def arguments(tiny_model: Path, questions_file: Path) -> list[str]:
    return [
        *("landscape", "--model", str(tiny_model), "--threads", "1", "--questions", str(questions_file)),
        *("--limit", "3", "--points", "3", "--positions", "parts:3"),
    ]


def planes(*names: str) -> list[str]:
    return [word for name in names for word in ("--plane", name)]


class TestSettings:
    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"points": 2}, "--points 2: must be 3 or more"),
            ({"span": 0.0}, "--span 0.0: must be a number above 0"),
            ({"span": float("nan")}, "--span nan: must be a number above 0"),
            ({"products": 1}, "--products 1: must be 2 or more"),
            ({"plane": ("random",)}, "--plane random: did you mean random-"),
            ({"plane": ()}, "--plane: nothing given"),
            ({"positions": "often"}, "--positions often: write end, all"),
        ],
    )
    def test_what_makes_no_sense(self, fields: dict[str, Any], said: str) -> None:
        with pytest.raises(InputError) as error:
            LandscapeSettings(questions="q.jsonl", **fields)
        assert said in str(error.value)

    def test_each_plane_once(self) -> None:
        settings = LandscapeSettings(plane=("path", "random-filter", "path", "random-filter"))
        assert settings.random == ("random-filter",)
        assert settings.along_paths == ("path",)


@pytest.mark.model
class TestRuns:
    def test_every_plane_and_a_page(self, cli: Cli, arguments: list[str], tmp_path: Path) -> None:
        out = tmp_path / "R"
        ran = cli(*arguments, *planes(*PLANES), "--out", out, "--json")
        assert ran.status == 0, ran.err
        result = json.loads(ran.out)
        assert (result["landscapes"], result["new"], result["questions"]) == (15, 15, 3)
        assert [row["plane"] for row in result["planes"]] == list(PLANES)
        centres = [row["centre"] for row in result["planes"]]
        assert centres == pytest.approx([centres[0]] * 5, abs=1e-4), "all are around the same weights"
        run = Run.open(out)
        assert {question.id for question in run.questions()} == {"q-0", "q-1", "q-2"}
        assert len(run.trajectories()) == 3
        records = {record.id: record for record in run.landscapes()}
        assert records.keys() == {
            *(f"q-{i}/{plane}" for i in range(3) for plane in PLANES[:2]),
            *(f"q-{i}/solution/{plane}" for i in range(3) for plane in PLANES[2:]),
        }
        first = records["q-0/random-filter"]
        assert (first.alpha, first.beta, len(first.loss), first.seed) == ((-1, 0, 1), (-1, 0, 1), 9, 0)
        path = records["q-0/solution/path"]
        assert (path.position[0], path.path_alpha[0], len(path.position)) == (0, pytest.approx(0, abs=1e-3), 4)
        assert first.top_eigenvalue is None
        assert cli("report", out).status == 0

    def test_random_planes_need_no_trajectories(self, cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
        file = tmp_path / "bare.jsonl"
        file.write_text('{"id": "a", "question": "What is 1 and 1?", "answer": "2"}\n')
        common = ("landscape", "--model", tiny_model, "--threads", "1", "--questions", file, "--points", "3")
        assert cli(*common, "--out", tmp_path / "R").status == 0
        ran = cli(*common, "--plane", "path", "--out", tmp_path / "S")
        assert ran.status == 2
        assert "solution" in ran.err
        assert not (tmp_path / "S").exists()

    def test_sharpness_is_measured_once_per_question(
        self, cli: Cli, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out = tmp_path / "R"
        more = (*planes("random-filter", "path-line"), "--sharpness", "--products", "3", "--out", out)
        from innerloop.inner.landscape import sharpness as module

        real, asked = module.sharpness, []

        def stops(loaded: Any, row: Any, **options: Any) -> Any:
            asked.append(row.question_id)
            if len(asked) == 2:
                raise KeyboardInterrupt
            return real(loaded, row, **options)

        monkeypatch.setattr(module, "sharpness", stops)
        assert cli(*arguments, *more).status == 130
        with_numbers = [record for record in Run.open(out).landscapes() if record.trace is not None]
        assert {record.question_id for record in with_numbers} == {asked[0]}
        assert len(Run.open(out).landscapes()) == 6, "the grids are kept"
        ran = cli(*arguments, *more, "--json")
        assert ran.status == 0, ran.err
        assert json.loads(ran.out)["new"] == 0
        assert len(asked) == len(set(asked)) + 1, "only the one that was interrupted is asked again"
        assert all(record.low_eigenvalue <= record.top_eigenvalue for record in Run.open(out).landscapes())  # type: ignore[operator]
        assert json.loads(ran.out)["sharpness"]["questions"] == 3

    def test_an_interrupted_run_goes_on(
        self, cli: Cli, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        more = planes("random-filter", "path")
        assert cli(*arguments, *more, "--out", tmp_path / "whole").status == 0
        from innerloop.inner.landscape import figures

        real, calls = figures.grid_losses, []

        def stops(*given: Any, **options: Any) -> Any:
            calls.append(1)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return real(*given, **options)

        monkeypatch.setattr(figures, "grid_losses", stops)
        ran = cli(*arguments, *more, "--out", tmp_path / "R")
        assert ran.status == 130
        assert len(Run.open(tmp_path / "R").landscapes()) == 4
        ran = cli(*arguments, *more, "--out", tmp_path / "R", "--json")
        assert (ran.status, json.loads(ran.out)["new"]) == (0, 2)
        assert _numbers(tmp_path / "R") == _numbers(tmp_path / "whole")
        ran = cli(*arguments, *more, "--out", tmp_path / "R")
        assert "nothing to do" in ran.err

    def test_another_configuration_is_refused(self, cli: Cli, arguments: list[str], tmp_path: Path) -> None:
        assert cli(*arguments, "--out", tmp_path / "R").status == 0
        ran = cli(*arguments, "--span", "2", "--out", tmp_path / "R")
        assert ran.status == 2
        assert "span: 1.0 → 2.0" in ran.err

    def test_a_run_brings_its_questions_and_trajectories(self, cli: Cli, arguments: list[str], tmp_path: Path) -> None:
        common = arguments[1:5]
        source = arguments[5:9]
        assert cli("probe", *common, *source, "--every", "50", "--out", tmp_path / "P").status == 0
        given = ("--trajectories", tmp_path / "P", "--points", "3", "--positions", "end")
        ran = cli(
            "landscape", *common, *given, *planes("random-filter", "path-line"), "--out", tmp_path / "P", "--json"
        )
        assert ran.status == 0, ran.err
        assert json.loads(ran.out)["landscapes"] == 6
        assert len(Run.open(tmp_path / "P").curves()) == 3, "into the same folder, beside the curves"

    def test_positions_beyond_a_trajectory(self, cli: Cli, arguments: list[str], tmp_path: Path) -> None:
        ran = cli(*arguments[:-2], "--plane", "path", "--positions", "0,999", "--out", tmp_path / "R")
        assert ran.status == 2
        assert "position 999 lies outside" in ran.err
        assert not (tmp_path / "R").exists()

    def test_what_people_read(self, cli: Cli, arguments: list[str], tmp_path: Path) -> None:
        ran = cli(*arguments, "--sharpness", "--products", "2", "--out", tmp_path / "R")
        assert "random-filter" in ran.out
        assert "Hessian, mean of 3 questions: eigenvalues" in ran.out
        assert "next: innerloop report" in ran.out


def _numbers(folder: Path) -> dict[str, Any]:
    def rounded(record: Landscape) -> tuple[float, ...]:
        return tuple(round(value, 4) for value in (*record.loss, *record.path_alpha, *record.path_beta))

    return {record.id: rounded(record) for record in Run.open(folder).landscapes()}
