"""Generated values of every kind: written in two ways they are equal, different ones never are."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from innerloop.evaluate.verify.values import equal, read

pytestmark = pytest.mark.slow

INTEGERS = st.integers(-(10**9), 10**9)
SMALL = st.integers(-30, 30)
POSITIVE = st.integers(1, 30)
FRACTIONS = st.fractions(min_value=-1000, max_value=1000, max_denominator=200)


def same(one: str, other: str) -> bool:
    """Whether two texts are equal, whichever is the reference."""
    there, back = equal(read(one), read(other)), equal(read(other), read(one))
    assert there == back, (one, other)
    return there


def frac(value: Fraction) -> str:
    sign = "-" if value < 0 else ""
    return rf"{sign}\frac{{{abs(value.numerator)}}}{{{value.denominator}}}"


def mixed(value: Fraction) -> str:
    whole, rest = divmod(abs(value), 1)
    sign = "-" if value < 0 else ""
    return f"{sign}{whole}" if not rest else sign + (f"{whole}" if whole else "") + frac(rest)


def decimal(value: int, places: int) -> str:
    digits = str(abs(value)).rjust(places + 1, "0")
    return ("-" if value < 0 else "") + (f"{digits[:-places]}.{digits[-places:]}" if places else digits)


def full_width(text: str) -> str:
    return "".join(chr(ord(own) + 0xFEE0) if own.isdigit() else own for own in text)


WHOLE = [
    str,
    lambda n: f"{n:,}",
    lambda n: f"{n:,}".replace(",", "{,}"),
    lambda n: f"{n:,}".replace(",", r",\!"),
    lambda n: f"{n:,}".replace(",", " "),
    lambda n: f"{n:,}".replace(",", "\u2009"),
    lambda n: f"{n:,}".replace(",", "'"),
    lambda n: f"{n}.0",
    lambda n: f"({n})",
    lambda n: rf"\left[{n}\right]",
    lambda n: rf"\boxed{{{n}}}",
    lambda n: f"x = {n}",
    lambda n: f"{n} apples",
    lambda n: rf"\$ {n}",
    lambda n: f"about {n}",
    lambda n: full_width(str(n)),
    lambda n: rf"\text{{{n}}}",
    lambda n: rf"\textbf{{(B)}}\ {n}",
    lambda n: f"{2 * n}/2",
    lambda n: f"{n} = {n}",
    lambda n: "negative " * (n < 0) + str(abs(n)),
]


@given(INTEGERS, st.sampled_from(WHOLE), st.sampled_from(WHOLE), st.integers(1, 10**6))
def test_whole_numbers(value, write, other, step):
    assert equal(read(write(value)), read(str(value)))
    assert not equal(read(write(value + step)), read(str(value)))
    assert not equal(read(other(value)), read(str(value + step)))


@given(FRACTIONS, st.sampled_from([frac, mixed, str]), st.sampled_from([frac, mixed, str]), FRACTIONS)
def test_fractions_and_mixed_numbers(value, write, other, another):
    assert same(write(value), other(value))
    assert same(write(value), other(another)) == (value == another)


@given(st.integers(-(10**7), 10**7), st.integers(0, 5), st.integers(1, 10**6), st.integers(-30, 30))
def test_decimals_and_powers_of_ten(value, places, step, power):
    text = decimal(value, places)
    assert same(text, str(Fraction(value, 10**places)))
    assert same(rf"{text} \times 10^{{{power}}}", f"{text}e{power}")
    assert not same(text, decimal(value + step, places))
    assert same(rf"{text}\times10^{{{power}}}", rf"{text}\times10^{{{power + 1}}}") == (value == 0)


@given(st.integers(0, 99), st.integers(0, 9), st.integers(1, 98))
def test_periodic_decimals(whole, start, period):
    value = whole + Fraction(start, 10) + Fraction(period, 990)
    text = rf"{whole}.{start}\overline{{{period:02}}}"
    assert same(text, frac(value))
    assert same(text, f"{whole}.{start}({period:02})")
    assert not same(text, frac(value + Fraction(1, 990)))


@given(st.integers(2, 10**6), st.integers(7, 12))
def test_long_decimals_are_rounded_values(bottom, digits):
    value = Fraction(1, bottom)
    places = digits + len(str(bottom)) - 1
    rounded = round(value * 10**places)
    assert same(frac(value), decimal(rounded, places))
    assert not same(frac(value), decimal(rounded + 2, places))


@given(FRACTIONS, FRACTIONS, st.sampled_from([r"\%", "%", " percent", r" \text{ per cent}"]))
def test_percent(value, other, sign):
    assert same(f"{frac(value)}{sign}", f"{mixed(value)} percent")
    assert equal(read(f"{value.numerator}{sign}"), read(f"{value.numerator}"))
    assert same(f"{value}{sign}", f"{other}%") == (value == other)


@given(st.integers(2, 10), st.integers(2, 10), st.integers(1, 10**6))
def test_bases(base, other, value):
    def digits(number: int, in_base: int) -> str:
        text = ""
        while number:
            text, number = str(number % in_base) + text, number // in_base
        return text

    assert same(f"{digits(value, base)}_{base}", f"{digits(value, other)}_{{{other}}}")
    assert not same(f"{digits(value, base)}_{base}", f"{digits(value + 1, other)}_{other}")


@given(st.integers(0, 100), st.integers(0, 59), st.integers(1, 59))
def test_durations(hours, minutes, more):
    text = rf"{hours}\text{{ hours }}{minutes}\text{{ minutes}}"
    assert same(text, f"{60 * hours + minutes} minutes")
    assert same(text, f"{hours} hours and {minutes} min")
    assert same(text, f"{Fraction(60 * hours + minutes, 60)} h") or not hours + minutes
    assert not same(text, f"{hours} hours {minutes + more} minutes")


@given(st.integers(1, 12), st.integers(0, 59), st.integers(0, 59), st.sampled_from(["a.m.", "p.m."]))
def test_times_of_day(hour, minute, other, half):
    text = rf"{hour}:{minute:02} \text{{ {half}}}"
    later = hour % 12 + (12 if half == "p.m." else 0)
    assert same(text, f"{hour}:{minute:02} {half.replace('.', '').upper()}")
    assert same(text, f"{later}:{minute:02}")
    assert same(text, f"{hour}:{other:02} {half}") == (minute == other)
    assert not same(text, f"{hour}:{minute:02} {'p.m.' if half == 'a.m.' else 'a.m.'}")


@given(POSITIVE, POSITIVE, st.integers(1, 9), POSITIVE)
def test_ratios(one, other, factor, third):
    assume(other < 10)  # 3:10 could be a time of day
    assert same(f"{one}:{other}", f"{one * factor} : {other * factor}") or 10 <= other * factor < 60
    assert same(f"{one}:{other}", f"{third}:{other}") == (one == third)


def listed(items: list[int]) -> str:
    return ", ".join(map(str, items))


@given(st.lists(SMALL, min_size=2, max_size=6, unique=True), st.randoms(), st.integers(31, 40))
def test_lists_and_sets(items, random, foreign):
    shuffled = random.sample(items, len(items))
    for text in (listed(shuffled), rf"\{{{listed(shuffled)}\}}", " or ".join(f"x = {own}" for own in shuffled)):
        assert same(listed(items), text)
        assert same(rf"\left\{{{listed(items)}\right\}}", text)
        assert not same(listed([*items[:-1], foreign]), text)
        assert not same(listed([*items, foreign]), text)
        assert not any(same(str(own), text) for own in items)


@given(st.lists(SMALL, min_size=2, max_size=5), st.lists(SMALL, min_size=2, max_size=5))
def test_tuples(items, others):
    text = rf"\left({listed(items)}\right)"
    assert same(text, f"({', '.join(f'{2 * own}/2' for own in items)})")
    assert same(text, f"({listed(others)})") == (items == others)
    assert not same(text, f"[{listed(items)}]") or len(items) > 2


ENDS = st.tuples(st.sampled_from("(["), SMALL, POSITIVE, st.sampled_from(")]"))


@given(ENDS, ENDS)
def test_intervals(one, other):
    def written(own):
        return f"{own[0]}{own[1]}, {own[1] + own[2]}{own[3]}"

    low, high = (r"\le" if own in "[]" else "<" for own in (one[0], one[3]))
    assert same(written(one), rf"{one[1]} {low} x {high} {one[1] + one[2]}")
    assert same(written(one), rf"x \in {written(one)}")
    assert same(written(one), written(other)) == (one == other)


@given(SMALL, POSITIVE, POSITIVE)
def test_unions(start, gap, length):
    end, second = start + length, start + length + gap
    text = rf"({start}, {end}) \cup [{second}, \infty)"
    assert same(text, rf"[{second}, \infty) \cup ({start}, {end})")
    assert same(text, rf"{start} < x < {end} \text{{ or }} x \ge {second}")
    assert not same(text, rf"({start}, {end}] \cup [{second}, \infty)")
    assert not same(text, rf"({start}, \infty)")


@given(SMALL, SMALL, SMALL, st.integers(-9, 9).filter(bool), SMALL)
def test_equations(a, b, c, factor, other):
    assume(a and b)
    text = f"{a}x + {b}y = {c}"
    assert same(text, f"{factor * c} = {factor * a}x + {factor * b}y")
    assert same(text, f"{a}x + {b}y + {-c} = 0")
    assert same(text, f"{a}x + {b}y = {other}") == (c == other)
    assert not same(text, f"{a}x - {b}y = {c}")


@given(SMALL.filter(bool), SMALL, POSITIVE)
def test_inequalities(a, b, factor):
    text = f"{a}x + y < {b}"
    assert same(text, f"{factor * b} > {factor * a}x + {factor}y")
    assert not same(text, f"{a}x + y > {b}")
    assert not same(text, rf"{a}x + y \le {b}")
    assert not same(text, rf"{a}x + y = {b}")


@given(st.lists(SMALL, min_size=2, max_size=4), st.lists(SMALL, min_size=2, max_size=4), st.randoms())
def test_systems(values, others, random):
    def written(own: list[int], order: list[int], between: str) -> str:
        return between.join(f"{'xyzw'[place]} = {own[place]}" for place in order)

    order = list(range(len(values)))
    shuffled = random.sample(order, len(order))
    assert same(written(values, order, ", "), written(values, shuffled, r" \text{ and } "))
    if len(values) == len(others):
        assert same(written(values, order, ", "), written(others, order, ", ")) == (values == others)


@given(st.lists(SMALL, min_size=1, max_size=3), SMALL, st.integers(1, 20))
def test_polynomials(roots, shift, more):
    def expanded(values: list[int]) -> list[int]:
        found = [1]
        for root in values:
            found = [a - root * b for a, b in zip([*found, 0], [0, *found], strict=True)]
        return found

    coefficients = expanded(roots)
    powers = range(len(coefficients) - 1, -1, -1)
    text = "+".join(f"({own})x^{{{power}}}" for own, power in zip(coefficients, powers, strict=True))
    factors = "".join(f"(x-({root}))" for root in roots)
    assert same(text, factors)
    assert same(f"{text} + {shift}", rf"{shift}+{factors}")
    assert not same(text, f"{factors} + {more}")
    assert not same(text.replace("x", "X"), factors)


@given(POSITIVE, st.integers(2, 50), POSITIVE)
def test_roots_are_exact(a, b, more):
    assert same(rf"{a}\sqrt{{{b}}}", rf"\sqrt{{{a * a * b}}}")
    assert same(rf"\frac{{{a}}}{{\sqrt{{{b}}}}}", rf"\frac{{{a}\sqrt{{{b}}}}}{{{b}}}")
    assert same(rf"\sqrt{{{a + b}+2\sqrt{{{a * b}}}}}", rf"\sqrt{{{a}}}+\sqrt{{{b}}}")
    assert not same(rf"\sqrt{{{b}}}", rf"\sqrt{{{b}}}+10^{{-{100 * more}}}")
    assert same(rf"{a}\sqrt{{{b}}}", rf"{more}\sqrt{{{b}}}") == (a == more)


@given(st.integers(2, 9), st.integers(100, 3000), st.integers(1, 50))
def test_large_powers_and_factorials(base, power, step):
    assert same(f"{base}^{{{power}}}", rf"{base} \cdot {base}^{{{power - 1}}}")
    assert not same(f"{base}^{{{power}}}", f"{base}^{{{power}}} + {step}")
    assert not same(rf"\frac{{1}}{{{base}^{{{power}}}}}", rf"\frac{{1}}{{{base}^{{{power + step}}}}}")
    number = power % 1000 + 2
    assert same(f"{number}!", rf"{number} \cdot {number - 1}!")
    assert not same(rf"\frac{{1}}{{{number}!}}", rf"\frac{{1}}{{{number + step}!}}")


@given(st.integers(10**6, 10**12), st.integers(1, 9))
def test_powers_beyond_writing_out(exponent, step):
    assert same(f"9^{{{exponent}}}", f"3^{{{2 * exponent}}}")
    assert not same(f"9^{{{exponent}}}", f"9^{{{exponent}}} + {step}")


NAMES = ["x", "y", "R", "r", "E_1", "E_{2}", r"\alpha", r"\lambda", "f(x)", "f'(x)", r"\vec{v}"]
FUNCTIONS = ["sin", "cos", "tan", "ln", "exp", "sqrt"]


@given(st.sampled_from(NAMES), st.sampled_from(NAMES), st.sampled_from(FUNCTIONS), st.sampled_from(FUNCTIONS))
def test_names_and_functions(one, other, function, another):
    assert same(one, other) == (one == other)
    write = r"\{}{{{}}}".format if function == "sqrt" else r"\{}({})".format
    again = r"\{}{{{}}}".format if another == "sqrt" else r"\{}({})".format
    assert same(write(function, one), again(another, one)) == (function == another)
    assert same(write(function, one), write(function, other)) == (one == other)
    assert same(rf"\frac{{{one}}}{{2}}", rf"\frac{{1}}{{2}}{one}")
    assert not same(rf"\frac{{1}}{{2{one}}}", rf"\frac{{1}}{{2}}{one}")


@given(st.lists(st.lists(SMALL, min_size=2, max_size=2), min_size=1, max_size=3), st.integers(1, 9))
def test_matrices(rows, more):
    def written(name: str, between: str, values: list[list[int]]) -> str:
        inner = between.join(" & ".join(map(str, row)) for row in values)
        return rf"\begin{{{name}}} {inner} \end{{{name}}}"

    text = written("pmatrix", r" \\ ", rows)
    assert same(text, written("bmatrix", r" \\[6pt] ", rows))
    assert not same(text, written("pmatrix", r"\\", [*rows[:-1], [rows[-1][0], rows[-1][1] + more]]))
    assert not same(text, written("pmatrix", r"\\", [*rows, rows[0]]))


WORDS = st.lists(
    st.sampled_from(["ellipse", "Evelyn", "circle", "Zürich", "café", "north", "west", "odd"]), min_size=1, max_size=3
)


@given(WORDS, WORDS)
def test_words(one, other):
    text = " ".join(one)
    assert same(text, rf"\text{{{text.upper()}}}")
    assert same(text, " ".join(other)) == (one == other)


@pytest.mark.parametrize("kind", ["12", "x^2", "(1, 2)", r"\{1, 2\}", "x = 1, y = 2", "x > 3", "4:30 p.m.", "ellipse"])
@pytest.mark.parametrize("other", ["13", "x^3", "(1, 3)", r"\{1, 3\}", "x = 1, y = 3", "x > 4", "4:31 p.m.", "circle"])
def test_kinds_are_told_apart(kind, other):
    assert not same(kind, other)


def test_the_separation_bound_is_that_of_the_paper():
    """Two sums of square roots that differ in the 20th digit after 10^8, and one that is 0."""
    near = r"\sqrt{10^{16}+1}+\sqrt{10^{16}+3}", r"2\sqrt{10^{16}+2}"
    assert math.isclose(math.sqrt(1e16 + 1) + math.sqrt(1e16 + 3), 2 * math.sqrt(1e16 + 2), rel_tol=1e-15)
    assert not same(*near)
    assert same(r"\sqrt{10^{16}+1}", r"\frac{10^{16}+1}{\sqrt{10^{16}+1}}")
