"""An outside judge: lm-eval's log-likelihoods of the same contexts and answers."""

import json
from dataclasses import replace

import pytest

from innerloop.inner.probe import ProbeItem, probe

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def real_item(data_dir, smollm2):
    """A real chain of thought on a real question."""
    with (data_dir / "gsm8k_test.jsonl").open() as file:
        questions = {row["id"]: row for row in map(json.loads, file)}
    with (data_dir / "gsm8k_test_long_cot.jsonl").open() as file:
        row = json.loads(file.readline())
    question = questions[row["question_id"]]
    return ProbeItem(
        trajectory_id=f"{question['id']}/file-0",
        question_id=question["id"],
        prompt=tuple(smollm2.prompt(question["question"])),
        trajectory=tuple(smollm2.encode(row["text"]))[:200],
        answer=question["answer"],
    )


@pytest.mark.filterwarnings("ignore")
def test_the_probe_equals_lm_eval(smollm2, real_item):
    from lm_eval.models.huggingface import HFLM

    every = tuple(range(0, 200, 10))
    assert len(every) == 20
    [curve] = probe(smollm2, [real_item], every=every)

    judge = HFLM(pretrained=smollm2.model, tokenizer=smollm2.tokenizer, batch_size=1, max_length=2048)
    answer = smollm2.answer_ids(real_item.answer)
    requests = [(("", ""), [*real_item.prompt, *real_item.trajectory[:i], *smollm2.suffix_ids], answer) for i in every]
    judged = judge._loglikelihood_tokens(requests, disable_tqdm=True)
    for loss, (log_likelihood, _) in zip(curve.loss, judged, strict=True):
        assert -loss * curve.answer_tokens == pytest.approx(log_likelihood, abs=1e-3)


def test_shared_equals_plain_on_a_real_chain(smollm2, real_item):
    every = tuple(range(0, 200, 23))
    [fast] = probe(smollm2, [real_item], every=every)
    [plain] = probe(smollm2, [real_item], every=every, method="plain")
    assert fast.loss == pytest.approx(plain.loss, abs=1e-4)


def test_a_worked_solution_brings_the_model_closer(smollm2, real_item, data_dir):
    with (data_dir / "gsm8k_test.jsonl").open() as file:
        questions = {row["id"]: row for row in map(json.loads, file)}
    solution = tuple(smollm2.encode(questions[real_item.question_id]["solution"]))
    [curve] = probe(smollm2, [replace(real_item, trajectory=solution)], every="sentence")
    assert curve.loss[0] - curve.loss[-1] > 0.5
