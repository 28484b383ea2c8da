"""reasoning-gym families as questions."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innerloop.errors import InputError
from innerloop.questions import gym, gym_entry, load


def test_questions_carry_what_their_scorer_needs():
    questions = load("gym:chain_sum?size=4&seed=3&max_terms=3")
    assert len(questions) == 4
    for question in questions:
        digest = hashlib.sha1(question.question.encode()).hexdigest()[:10]
        assert question.id == f"gym-chain_sum-{digest}"
        assert question.verifier == "gym:chain_sum"
        assert question.domain == "arithmetic"
        record = gym_entry.from_json(question.metadata)
        assert record["family"] == "chain_sum"
        assert record["parameters"] == {"size": "4", "seed": "3", "max_terms": "3"}
        assert record["entry"]["answer"] == question.answer
        assert eval(record["entry"]["metadata"]["expression"]) == int(question.answer)


def test_worked_solutions_are_reasoning_without_the_answers_mark():
    for question in load("gym:gsm_symbolic?size=40&seed=5"):
        assert question.solution
        assert "####" not in question.solution
        assert question.answer in question.solution.splitlines()[-1].replace(",", "")


def test_states_make_a_solution_that_ends_in_the_answer():
    for family in ("string_manipulation", "string_splitting", "string_synthesis"):
        for question in load(f"gym:{family}?size=4&seed=5"):
            assert question.solution.splitlines()[-1] == question.answer


def test_limit_size_and_seed():
    assert len(load("gym:gcd")) == gym.SIZE
    assert load("gym:gcd", limit=3) == load("gym:gcd")[:3]
    assert len(load("gym:gcd", limit=60)) == 60
    assert len(load("gym:gcd?size=5", limit=60)) == 5
    by_argument = load("gym:gcd", limit=3, seed=8)
    assert [q.id for q in by_argument] == [q.id for q in load("gym:gcd?seed=8", limit=3)]
    assert [q.id for q in by_argument] != [q.id for q in load("gym:gcd", limit=3)]
    assert [q.id for q in load("gym:gcd?seed=8", limit=3, seed=9)] == [q.id for q in by_argument]


def texts(dataset):
    return [dataset[i]["question"] for i in range(len(dataset))]


def test_a_seed_is_a_stride_of_reasoning_gyms_seeds():
    import reasoning_gym

    def theirs(seed):
        return texts(reasoning_gym.create_dataset("leg_counting", size=10, seed=seed))

    assert theirs(1)[:9] == theirs(0)[1:], "the trap: their seeds 0 and 1 share all items but one"
    ours = [[q.question for q in load(f"gym:leg_counting?size=10&seed={seed}")] for seed in range(3)]
    assert ours == [theirs(0), theirs(gym.STRIDE), theirs(2 * gym.STRIDE)]


def test_random_states_of_two_seeds_never_meet():
    """Item i has the state of its dataset's seed plus i; the last state of one seed comes before the next's first."""
    lasts = [gym.create("gcd", {"seed": str(seed), "size": str(gym.STRIDE)}) for seed in range(3)]
    spans = [(dataset.seed, dataset.seed + len(dataset) - 1) for dataset in lasts]
    assert all(before[1] < after[0] for before, after in itertools.pairwise(spans))
    assert len(load("gym:pool_matrix?seed=4000&size=2")) == 2


def test_an_example_stands_in_for_answers_that_are_not_unique():
    (cube,) = load("gym:rubiks_cube?size=1&seed=1")
    assert gym_entry.from_json(cube.metadata)["entry"]["metadata"]["example_correct_answer"] == cube.answer
    (graph,) = load("gym:graph_color?size=1&seed=1")
    assert set(json.loads(graph.answer).values()) <= {1, 2, 3}


@pytest.mark.parametrize("family", ["boxnet", "rush_hour"])
def test_families_without_answers_are_refused(family):
    with pytest.raises(InputError, match=f"gym:{family}\\?size=2: {family} gives no reference answers"):
        load(f"gym:{family}?size=2")


def test_repeats_are_left_out_with_a_warning(caplog):
    with caplog.at_level(logging.WARNING, logger="innerloop"):
        questions = load("gym:gcd?size=40&max_value=2&min_value=1&max_numbers=2")
    assert len({q.id for q in questions}) == len(questions) < 40
    assert f"{40 - len(questions)} repeats of a question were left out" in caplog.text


def test_parameters_are_converted():
    family = "basic_arithmetic"
    typed = gym.create(family, {"size": "3", "operators": "+,-", "format_style": "natural", "allow_negation": "false"})
    assert typed.config.operators == ["+", "-"]
    assert (typed.config.size, typed.config.format_style, typed.config.allow_negation) == (3, "natural", False)
    assert gym.parse("gym:caesar_cipher?delimiter=%26&size=2") == ("caesar_cipher", {"delimiter": "&", "size": "2"})


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("gym:gsm_symbolik", r"no such family; did you mean 'gsm_symbolic'\?"),
        ("gym:xyz", r"no such family; e\.g\. chain_sum"),
        ("gym:composite", r"no such family"),
        ("gym:", r"not a family with parameters; write gym:FAMILY"),
        ("gym:gcd?size", r"not a family with parameters"),
        ("gym:gcd?=3", r"not a family with parameters"),
        ("gym:gcd?sizes=3", r"no parameter 'sizes' \(it has .*\); did you mean 'size'\?"),
        ("gym:gcd?size=many", r"size is 'many', which is no int"),
        ("gym:gcd?size=2.5", r"size is '2\.5', which is no int"),
        ("gym:gcd?size=0", r"size is 0: give a number of questions from 1 up"),
        ("gym:gcd?seed=now", r"seed is 'now'"),
        ("gym:gcd?seed=-1", r"seed is -1: give a number from 0 up"),
        ("gym:gcd?size=1000001", r"size is 1000001: give a number of questions from 1 up to 1,000,000"),
        ("gym:pool_matrix?seed=5000", r"seed is 5000: this family takes seeds up to 4,293"),
        ("gym:modular_chain?min_ops=5&max_ops=4", r"min_ops 5 and max_ops 4 must rise.*; change the parameter"),
        ("gym:modular_chain?modulus=2", r"modulus is 2, and must lie between 3 and 1000; change the parameter"),
        ("gym:basic_arithmetic?format_style=odd", r"format_style is 'odd'"),
        ("gym:arc_1d?size=-1", r"size is -1"),
        ("gym:chain_sum?min_terms=5&max_terms=2", r"max_terms must be >= min_terms; change the parameter"),
        ("gym:gsm_symbolic?difficulty=3", r"a parameter is out of the family's range; change the parameter"),
        ("gym:time_intervals?min_time=noon", r"min_time is 'noon'"),
    ],
)
def test_faults_are_told_in_one_line(source, message):
    with pytest.raises(InputError, match=message) as caught:
        load(source)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(source.partition("?")[0])


def test_a_limit_below_one_is_an_error():
    with pytest.raises(InputError, match="limit is 0"):
        load("gym:gcd", limit=0)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=4) | st.integers() | st.tuples(st.integers()), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=4), VALUES, max_size=4))
@pytest.mark.slow
def test_entries_come_back_as_they_were(metadata):
    entry = {"question": "q", "answer": "a", "metadata": metadata}
    assert gym_entry.from_json(gym_entry.to_json("f", {"size": "2"}, entry)) == {
        "family": "f",
        "parameters": {"size": "2"},
        "entry": entry,
    }


@pytest.mark.parametrize("text", ["", "no json", "[1]", '{"entry": 5}', '{"family": "arc_1d", "source": "x"}'])
def test_other_metadata_is_no_entry(text):
    assert gym_entry.from_json(text) is None


def test_ids_are_those_of_the_real_data(data_dir):
    for question in load(data_dir / "q_gym_families.jsonl", limit=80):
        assert question.id.endswith(hashlib.sha1(question.question.encode()).hexdigest()[:10])
