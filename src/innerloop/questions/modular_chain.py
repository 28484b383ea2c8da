"""The family ``modular_chain``: additions, subtractions and multiplications from left to right, modulo m each time.

``3+5*2-7=? mod 10, left to right``: 3 + 5 = 8, 8 · 2 = 6, 6 − 7 = 9. Made so that the whole chain matters:

- The operand of a multiplication is drawn from the units modulo m other than 1, those of an addition or subtraction
  from all residues. So **every step is a bijection of the running value**: nothing that came before is ever forgotten
  (as it would be with a factor of 0, or by half with a 2 modulo 10).
- The first operand is uniform and drawn apart from everything else, therefore the answer is exactly uniform over
  0…m − 1, whatever the operators and the other operands are: chance is 1/m, and no operand but the first, no operator
  and no end of the chain tells anything.
- At least one operation adds or subtracts. Its operand is uniform too, so the answer is uniform given everything
  *but* it as well: the first operand alone, or the chain without that operation, tells nothing either.

So who leaves one operation out is right once in ten times modulo 10 (where it adds or subtracts) or twice (where it
multiplies: 3v, 7v and 9v are v for v = 0 and 5). What can be had without the chain's full work is the answer modulo a
divisor of m (for m = 10 its parity, by counting odd operands): who knows that alone is right once in five. A prime
modulus closes that door.

Importing this module registers the family with reasoning-gym; `innerloop.questions.gym` does so.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from random import Random
from typing import Any

from reasoning_gym.factory import ProceduralDataset, register_dataset

NAME = "modular_chain"
MOST_OPERATIONS = 64
LARGEST_MODULUS = 1000


@dataclass
class ModularChainConfig:
    """``min_ops`` to ``max_ops`` operations (one operand more), modulo ``modulus``."""

    min_ops: int = 3
    max_ops: int = 12
    modulus: int = 10
    seed: int | None = None
    size: int = 500

    def validate(self) -> None:
        """``ValueError`` says which parameter is out of range."""
        if not 1 <= self.min_ops <= self.max_ops <= MOST_OPERATIONS:
            raise ValueError(
                f"min_ops {self.min_ops} and max_ops {self.max_ops} must rise, from 1 up to {MOST_OPERATIONS}"
            )
        if not 3 <= self.modulus <= LARGEST_MODULUS:  # modulo 2 there is nothing to multiply by
            raise ValueError(f"modulus is {self.modulus}, and must lie between 3 and {LARGEST_MODULUS}")


class ModularChainDataset(ProceduralDataset):  # type: ignore[misc]  # reasoning-gym is not typed
    """Chains of modular arithmetic. Item i of a seed shares its random state with no item of another seed."""

    def __init__(self, config: ModularChainConfig) -> None:
        super().__init__(config=config, seed=config.seed, size=config.size)
        self._factors = [value for value in range(2, config.modulus) if gcd(value, config.modulus) == 1]

    @property
    def category(self) -> str:
        """As that of reasoning-gym's own families of arithmetic."""
        return "arithmetic"

    def __getitem__(self, idx: int) -> dict[str, Any]:
        """The question, its answer, and what they were made from."""
        modulus = self.config.modulus
        rng = Random(f"{NAME}/{self.seed}/{idx}")
        operators = self._operators(rng, rng.randint(self.config.min_ops, self.config.max_ops))
        first = value = rng.randrange(modulus)
        text = str(first)
        for operator in operators:
            operand = rng.choice(self._factors) if operator == "*" else rng.randrange(modulus)
            text += f"{operator}{operand}"
            value = {"+": value + operand, "-": value - operand, "*": value * operand}[operator] % modulus
        return {
            "question": f"{text}=? mod {modulus}, left to right",
            "answer": str(value),
            "metadata": {
                "source_dataset": NAME,
                "source_index": idx,
                "expression": text,
                "modulus": modulus,
                "num_ops": len(operators),
                "difficulty": {"num_ops": (self.config.min_ops, self.config.max_ops), "modulus": modulus},
            },
        }

    @staticmethod
    def _operators(rng: Random, count: int) -> list[str]:
        """Drawn until one of them adds or subtracts."""
        while True:
            operators = [rng.choice("+-*") for _ in range(count)]
            if set(operators) & {"+", "-"}:
                return operators

    def score_answer(self, answer: str | None, entry: dict[str, Any]) -> float:
        """1 for the same whole number, else 0."""
        number = (answer or "").strip().removeprefix("+")
        return float(number.isdigit() and (number.lstrip("0") or "0") == entry["answer"])


register_dataset(NAME, ModularChainDataset, ModularChainConfig)
