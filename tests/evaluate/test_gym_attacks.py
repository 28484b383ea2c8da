"""Answers and question files that try to run code: none of it is executed, none gets a file onto the host."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import innerloop
from innerloop.evaluate.verify import Attempt, Verifier, code, gym
from innerloop.evaluate.verify.job import NOT_SCORED, Job, Program
from innerloop.evaluate.verify.pool import Pool
from innerloop.evaluate.verify.sandbox import Choice, Kind, choose, service
from innerloop.evaluate.verify.verifier import JUDGES
from innerloop.questions import load
from innerloop.questions.gym import create
from innerloop.schema import Outcome, Question

pytestmark = pytest.mark.model  # worker processes: second tier

PROGRAM = Path(__file__).with_name("gym_attacks.py")
WORKERS = {"plain": (False, False), "weaker": (False, True), "bubblewrap": (True, False)}


@pytest.fixture(params=WORKERS, scope="module")
def verifier(request):
    """A verifier whose workers are in no sandbox, in the weaker one, or in bubblewrap."""
    found, weaker = WORKERS[request.param]
    if found and choose().kind is None:
        pytest.skip(choose().reason)
    with pytest.MonkeyPatch.context() as patch, Verifier(time_limit=20, weaker_sandbox=weaker) as verifier:
        if not found:
            patch.setattr(code, "choose", choose_anew)
        verifier.kind = request.param
        yield verifier


def choose_anew(*, weaker: bool) -> Choice:
    return Choice(kind=Kind.WEAKER) if weaker else Choice(kind=None, reason="install bubblewrap (--weaker-sandbox)")


@pytest.fixture
def marker(tmp_path, monkeypatch):
    """A file that attacks try to make, in the folder where the program runs."""
    tmp_path.chmod(0o777)
    for folder in tmp_path.parents:
        if folder.is_relative_to("/tmp") and folder != Path("/tmp"):  # so that another user could make it
            folder.chmod(folder.stat().st_mode | 0o011)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "marker"


@pytest.mark.slow
@pytest.mark.parametrize("part", range(2))
def test_nothing_that_is_handed_over_is_executed(part, tmp_path):
    """Every family and verifier gets code in every place, in a process without any sandbox; an audit hook watches."""
    environment = os.environ | {"PYTHONPATH": str(Path(innerloop.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(part), "2"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout.rpartition("\n")[2])
    assert said["seen"] == []
    assert said["right"] == [], "no attack is a right answer"
    assert said["count"] > 4000
    assert list(tmp_path.iterdir()) == []


def calling(config: str, text: str) -> str:
    """Python that runs a shell command and has no round bracket, so that it looks like a list."""
    hidden = f"__import__('os').system({text!r})".replace("(", "\\x28").replace(")", "\\x29")
    return f'[[0 for {config}.__class_getitem__ in [exec]], {config}["{hidden}"]]'


CONFIGURATIONS = {
    "binary_matrix": "BinaryMatrixConfig",
    "n_queens": "NQueensConfig",
    "spiral_matrix": "SpiralMatrixConfig",
    "string_insertion": "StringInsertionConfig",
}


def test_a_list_without_calls_runs_nothing(verifier, marker):
    items = []
    for family, config in CONFIGURATIONS.items():
        (question,) = load(f"gym:{family}?size=1")
        answer = calling(config, f"touch {marker}")
        assert "(" not in answer
        items.append((question, f"<answer>{answer}</answer>"))
    assert [verdict.outcome for verdict in verifier.verify(items)] == [Outcome.WRONG] * 4
    assert not marker.exists()


def test_an_answer_does_not_score_itself(verifier, marker):
    """Were the answer evaluated, it could replace the scorer, for itself and for those after it."""
    items = []
    for family, name in (("countdown", "CountdownDataset"), ("puzzle24", "Puzzle24Dataset")):
        (question,) = load(f"gym:{family}?size=1")
        patch = f"setattr({name}, 'score_answer', lambda *a: 1.0)"
        texts = [f"__import__('builtins').exec({patch!r})", patch, f"[{patch}]", "1 + 1"]
        items += [(question, f"<answer>{text}</answer>") for text in texts]
    expected = Outcome.UNDECIDED if verifier.kind == "plain" else Outcome.WRONG
    assert [verdict.outcome for verdict in verifier.verify(items)] == [expected] * len(items)


def row(family: str, entry: dict, answer: str = "x**2", parameters: dict | None = None) -> Question:
    """A question as a file may hold it."""
    record = {"family": family, "entry": entry, "parameters": parameters or {}}
    return Question(id="q", question="?", answer=answer, verifier=f"gym:{family}", metadata=json.dumps(record))


def hostile(marker: Path) -> list[Question]:
    shell = f"__import__('os').system('touch {marker}')"
    integral = {"variable": "x", "integrand": shell}
    return [
        Question(id="a", question="Sort 3 1 2", answer=shell, verifier="gym:number_sorting"),
        row("number_sorting", {"question": "?", "answer": shell, "metadata": {"direction": "ascending"}}),
        row("number_sorting", {"question": "?", "answer": f"[{shell}]", "metadata": {"direction": "ascending"}}),
        row("simple_integration", {"question": "?", "answer": "x**2", "metadata": integral}),
        row("intermediate_integration", {"question": "?", "answer": "x**2", "metadata": integral}),
        row("simple_integration", {"answer": "x", "metadata": {"variable": shell, "integrand": "x"}}),
        row("polynomial_multiplication", {"question": "?", "answer": shell, "metadata": {}}),
        row("bitwise_arithmetic", {"question": "?", "answer": "0x7", "metadata": {"problem": shell}}),
        row("n_queens", {"question": "?", "answer": "Q", "metadata": {"valid_answers": shell}}),
        row("countdown", {"question": "?", "answer": shell, "metadata": {"numbers": [shell], "target": shell}}),
        row("gcd", {"question": "?", "answer": "1", "metadata": {}}, parameters={"size": shell}),
        row("spell_backward", {"answer": "1", "metadata": {}}, parameters={"data_file": "/etc/passwd"}),
        row("composite", {"answer": "1", "metadata": {}}, parameters={"datasets": shell}),
        row("../countdown", {"question": "?", "answer": shell, "metadata": {}}),
        row("os", {"question": "?", "answer": shell, "metadata": {}}),
    ]


def test_question_files_run_nothing(verifier, marker):
    questions = hostile(marker)
    answers = ("1", "['1','2','3']", "[1, 2, 3]", "x**2 + 1", "0x2")
    items = [(question, f"<answer>{answer}</answer>") for question in questions for answer in answers]
    verdicts = verifier.verify(items)
    assert not marker.exists()
    assert not any(verdict.outcome is Outcome.RIGHT for verdict in verdicts)
    assert all(verdict.reason for verdict in verdicts if verdict.outcome is Outcome.UNDECIDED)


def test_without_a_sandbox_scorers_that_evaluate_are_refused_and_the_others_work(verifier, monkeypatch):
    families = sorted(gym.EVALUATING)
    questions = [
        load(f"gym:{family}?size=1&seed=5")[0] for family in (*families, "gcd", "n_queens", "prime_factorization")
    ]
    wrong = verifier.verify([Attempt(question=question, text="<answer>10 + 1</answer>") for question in questions])
    if verifier.kind != "plain":
        assert [verdict.outcome for verdict in wrong] == [Outcome.WRONG] * len(questions)
        return
    refused, judged = wrong[: len(families)], wrong[len(families) :]
    assert [verdict.outcome for verdict in judged] == [Outcome.WRONG] * 3
    for verdict in refused:
        assert verdict.outcome is Outcome.UNDECIDED
        assert verdict.reason.startswith(NOT_SCORED)
        assert "bubblewrap" in verdict.reason
        assert "--weaker-sandbox" in verdict.reason
    assert verifier.verify([(questions[0], f"<answer>{questions[0].answer}</answer>")])[0].outcome is Outcome.RIGHT
    algebra = Question(id="m", question="?", answer="x + 1")
    assert verifier.verify([(algebra, r"\boxed{1 + x}")])[0].outcome is Outcome.RIGHT


NAMES = [
    "gym:",
    "gym:../x",
    "gym:os.system",
    "os",
    "code ",
    "innerloop.verbs.eval",
    "math\n",
    "GYM:gcd",
    "gym:composite",
]


@pytest.mark.parametrize("name", [*NAMES, "__import__('os')", "gym:" + "a" * 100_000, "x" * 100_000])
def test_a_verifiers_name_chooses_among_those_there_are(name):
    """A job names one of our own modules, whatever a file says."""
    question = Question(id="q", question="?", answer="x+1", verifier=name, metadata='{"module": "os"}')
    with Verifier() as verifier:
        work = verifier._judge(Attempt(question=question, text=r"\boxed{1+x}"))
    if isinstance(work, Job):
        assert work.module in {judge.__module__ for judge in JUDGES.values()} | {gym.__name__}
    else:
        assert not isinstance(work, Program)
        assert work.outcome is Outcome.UNDECIDED
        assert len(work.reason) < 300


@pytest.mark.parametrize("file", ["/etc/passwd", "../dataset.py", "a/b", ".hidden", "/dev/zero"])
def test_parameters_name_no_files_of_the_host(file):
    with pytest.raises(innerloop.InputError, match=r"data_file is '.*': .* data file that reasoning-gym ships"):
        create("spell_backward", {"data_file": file})
    assert len(create("spell_backward", {"data_file": "words3to10.txt"})) > 0


ESCAPE = """
import os, socket, sys
sys.dont_write_bytecode = True

def prepare():
    pass

def run(payload):
    got = []
    def attempt(name, act):
        try:
            act()
        except BaseException:
            return
        got.append(name)
    def connect():
        with socket.socket() as client:
            client.settimeout(2)
            client.connect(("127.0.0.1", payload["port"]))
    attempt("write", lambda: open(payload["marker"], "w").close())
    attempt("read", lambda: open(payload["secret"]).read())
    attempt("list", lambda: os.listdir(payload["folder"]))
    attempt("signal", lambda: os.kill(payload["program"], 0))
    attempt("fork", os.fork)
    attempt("thread", lambda: __import__("_thread").start_new_thread(print, ()))
    attempt("connect", connect)
    attempt("change", lambda: open(payload["package"], "a").close())
    attempt("environment", lambda: os.environ["SECRET_KEY"])
    attempt("debug", lambda: open("/proc/%d/mem" % os.getppid(), "rb").read(1))
    attempt("shell", lambda: 1 / (os.system("touch " + payload["marker"]) == 0))
    return {"outcome": "wrong", "reason": " ".join(got)}
"""


@pytest.mark.skipif(sys.platform != "linux", reason="bubblewrap is for Linux")
@pytest.mark.parametrize("kind", [Kind.BUBBLEWRAP, Kind.WEAKER])
def test_a_worker_that_turned_bad_is_shut_in(kind, tmp_path, marker, monkeypatch):
    """Code in a worker finds a closed door everywhere, should it ever get there."""
    if choose(weaker=kind is Kind.WEAKER).kind is None:
        pytest.skip(choose().reason)
    secret = tmp_path / "private" / "secret"  # the folder above is the way to the package
    secret.parent.mkdir()
    secret.parent.chmod(0o700)
    secret.write_text("secret")
    secret.chmod(0o600)
    package = tmp_path / "package"
    package.mkdir()
    (package / "escape.py").write_text(ESCAPE)
    known = service.sources()
    monkeypatch.setattr(service, "sources", lambda: known | {str(package): str(package)})
    monkeypatch.setenv("SECRET_KEY", "secret")
    pool = Pool(1, time_limit=20, memory_limit=2048, find=lambda: Choice(kind=kind))
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        payload = {
            "port": server.getsockname()[1],
            "marker": str(marker),
            "secret": str(secret),
            "folder": str(secret.parent),
            "program": os.getpid(),
            "package": str(package / "escape.py"),
        }
        try:
            (reply,) = pool.run([Job(module="escape", answer="", payload=payload, inside=True)])
            assert pool.workers[0]._choice().kind is kind
        finally:
            pool.close()
    assert reply["outcome"] == "wrong", reply
    assert reply["reason"] == ""
    assert not marker.exists()


@pytest.mark.parametrize(
    "reply", ["[]", '{"outcome": "perfect"}', "right", "x" * 200_000, "[" * 60_000, '{"outcome": null}']
)
def test_a_reply_that_is_none_decides_nothing(reply, tmp_path, monkeypatch):
    """What a worker writes is not believed beyond its form."""
    liar = tmp_path / "liar.py"
    said = f"{reply}\n".encode()
    liar.write_text(f"import os\nprepare = list\ndef run(payload):\n    os.write(3, {said!r})\n    os._exit(0)\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(tmp_path), str(Path(innerloop.__file__).parents[1]))))
    pool = Pool(1, time_limit=20, memory_limit=2048, find=lambda: Choice(kind=None))
    try:
        (answer,) = pool.run([Job(module="liar", answer="", payload={})])
    finally:
        pool.close()
    assert (answer["outcome"], answer["keep"]) == ("undecided", "no")
