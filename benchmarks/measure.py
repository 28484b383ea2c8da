"""What the benchmarks share: the machine's matrix-product rate, peak memory, models and inputs, tables and numbers."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from innerloop.inner.probe import ProbeItem
from innerloop.models import LoadedModel, load, wrap
from innerloop.tokenizers import byte_tokenizer

MIB = 2**20
#: Real questions and chains of thought, outside the repository.
DATA = Path(os.environ.get("INNERLOOP_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


#: Random models of these shapes; 1.5b and 7b are those of Qwen2.5.
SHAPES: Mapping[str, Mapping[str, Any]] = {
    "tiny": {
        "vocab_size": 512, "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 32768,
    },
    "1.5b": {
        "vocab_size": 151936, "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28,
        "num_attention_heads": 12, "num_key_value_heads": 2, "max_position_embeddings": 32768,
        "tie_word_embeddings": True,
    },
    "7b": {
        "vocab_size": 152064, "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
        "num_attention_heads": 28, "num_key_value_heads": 4, "max_position_embeddings": 32768,
    },
}  # fmt: skip
#: Pieces of the answer suffix that are one token each, so that it has eight, as with the tokenizers of real models.
_PIECES = ("\n\n", "**", "Final", " Answer", "**\n", "boxed")
_SEED = 0  # of random weights and of random tokens


def add_options(parser: argparse.ArgumentParser, *, threads: int | None = None) -> None:
    """What the benchmarks of the inner loop are told alike: the model, its inputs, the machine, where numbers go."""
    parser.add_argument("--model", default="smollm2", help="model to measure")
    parser.add_argument("--shape", choices=SHAPES, help="measure a random model of this shape instead")
    parser.add_argument(
        "--inputs",
        choices=["real", "random"],
        default="real",
        help="chains and questions of INNERLOOP_DATA, or random tokens (seed 0), which need no data and, with --shape, "
        "no tokenizer of a model",
    )
    parser.add_argument("--threads", type=int, default=threads or os.cpu_count())
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, help="append every number with its unit to this file, a JSON line each")


def open_model(options: argparse.Namespace, dtype: str) -> LoadedModel:
    """The model that the options name, in a dtype."""
    torch.set_num_threads(options.threads)
    if not options.shape:
        return load(options.model, dtype=dtype, device=options.device)
    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    like = load(options.model, device="cpu").tokenizer if options.inputs == "real" else None
    return random_model(options.shape, getattr(torch, dtype), device, like)


def random_model(shape: str, dtype: torch.dtype, device: str, tokenizer: Any = None) -> LoadedModel:
    """A random Qwen2 of one of the `SHAPES`; without a tokenizer of another model it reads bytes."""
    from transformers import AutoModelForCausalLM, Qwen2Config

    torch.manual_seed(_SEED)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(Qwen2Config(**SHAPES[shape]), dtype=dtype)
    return wrap(model, tokenizer or byte_tokenizer(whole=_PIECES), name=f"random-{shape}")


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Wall time of one call, with the device's queue drained before and after."""
    drain(device)
    start = time.perf_counter()
    work()
    drain(device)
    return time.perf_counter() - start


def checkpointing() -> str:
    """What this transformers calls the setting by which a trainer computes activations again on the way back."""
    from transformers import TrainingArguments

    names = {field.name for field in dataclasses.fields(TrainingArguments)}
    return "activation_checkpointing" if "activation_checkpointing" in names else "gradient_checkpointing"


def drain(device: torch.device) -> None:
    """Wait for what a GPU still has to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matmul_rate(dtype: torch.dtype, device: torch.device, repeats: int = 5) -> float:
    """Floating-point operations per second on large square products: the best of a few, which is the machine's.

    A GPU needs larger ones to be filled, and several in its queue, or the launch of each is timed, too.
    """
    size, queued = (2048, 1) if device.type == "cpu" else (8192, 4)
    a, b = _operands(dtype, device, size)

    def products() -> None:
        for _ in range(queued):
            a @ b

    a @ b
    return 2 * size**3 * queued / min(seconds(products, device) for _ in range(repeats))


@lru_cache(maxsize=1)
def _operands(dtype: torch.dtype, device: torch.device, size: int) -> tuple[Tensor, Tensor]:
    """Random factors (products of zeros are faster), kept from call to call."""
    return torch.randn(size, size, device=device).to(dtype), torch.randn(size, size, device=device).to(dtype)


def forward_operations(loaded: LoadedModel, tokens: float, keys: float, predicted: float) -> float:
    """Floating-point operations of ``tokens`` that see ``keys`` in all, with ``predicted`` rows of logits.

    Linear layers count 2 per weight and token, attention 4 per key, query head and head dimension. Norms, activations
    and the softmax are not counted.
    """
    model, config = loaded.model, loaded.model.config
    head = model.get_output_embeddings()
    inner = sum(m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear) and m is not head)
    per_key = 4 * config.num_attention_heads * (config.hidden_size // config.num_attention_heads)
    return 2 * inner * tokens + per_key * config.num_hidden_layers * keys + 2 * head.weight.numel() * predicted


def peak(device: torch.device, work: Callable[[], object]) -> float:
    """Peak memory in MiB while ``work`` runs, weights included: of the GPU, or of this process."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return torch.cuda.max_memory_allocated(device) / MIB
    reset_peak()
    work()
    return resident_bytes("VmHWM") / MIB


def held(device: torch.device) -> float:
    """Memory in MiB that is taken now: of the GPU, or of this process."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device) / MIB
    return resident_bytes("VmRSS") / MIB


def resident_bytes(field: str) -> int:
    """``VmRSS`` (now) or ``VmHWM`` (peak since `reset_peak`) of this process; Linux only."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {field} in /proc/self/status")


def reset_peak() -> None:
    """Start the peak resident size anew."""
    Path("/proc/self/clear_refs").write_text("5")


def trajectories(loaded: LoadedModel, length: int, count: int, inputs: str) -> Iterator[ProbeItem]:
    """Trajectories of ``length`` tokens on different questions: real chains of thought, or random tokens."""
    return chains(loaded, length, count) if inputs == "real" else random_items(length, count)


def random_items(length: int, count: int, prompt: int = 128) -> Iterator[ProbeItem]:
    """Random printable characters of the byte tokenizer, the same ones in every run."""
    for index in range(count):
        yield ProbeItem(
            trajectory_id=f"random-{index}/random-0",
            question_id=f"random-{index}",
            prompt=random_tokens(prompt, 2 * index),
            trajectory=random_tokens(length, 2 * index + 1),
            answer="72",
        )


def random_tokens(count: int, stream: int) -> tuple[int, ...]:
    """Tokens of printable characters; ``stream`` names the draw."""
    generator = torch.Generator().manual_seed(1000 * _SEED + stream)
    return tuple(torch.randint(32, 127, (count,), generator=generator).tolist())


def chains(loaded: LoadedModel, length: int, count: int) -> Iterator[ProbeItem]:
    """The first ``count`` real chains on different questions with at least ``length`` tokens, cut to that length."""
    file = DATA / "gsm8k_test_long_cot.jsonl"
    if not file.exists():
        sys.exit(f"no real chains at {file}: set INNERLOOP_DATA to the folder that holds them")
    questions = {row["id"]: row for row in map(json.loads, (DATA / "gsm8k_test.jsonl").open())}
    used: set[str] = set()
    for row in map(json.loads, file.open()):
        question = questions.get(row["question_id"])
        if question is None or question["id"] in used or len(used) == count:
            continue
        tokens = tuple(loaded.encode(row["text"]))
        if len(tokens) >= length:
            used.add(question["id"])
            yield ProbeItem(
                trajectory_id=f"{question['id']}/file-0",
                question_id=question["id"],
                prompt=tuple(loaded.prompt(question["question"])),
                trajectory=tokens[:length],
                answer=question["answer"],
            )


def spread(values: list[float], digits: int = 1) -> str:
    """Median with the range: ``24.1 (23.8–24.6)``."""
    low, mid, high = (f"{value:.{digits}f}" for value in (min(values), statistics.median(values), max(values)))
    return mid if len(values) == 1 else f"{mid} ({low}–{high})"


def show(title: str, columns: list[str], rows: list[list[str]], notes: str = "") -> None:
    """Print a table on standard output."""
    console = Console(width=max(120, Console().width))
    table = Table(title=title, title_justify="left", caption=notes or None, caption_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*row)
    console.print(table)


class Numbers:
    """Appends every number to a file as soon as it is known, one JSON object a line; without a file, to none."""

    def __init__(self, file: Path | None, part: str) -> None:
        self._file = file
        self._part = part

    def add(self, name: str, value: float | Sequence[float], unit: str, **where: Any) -> None:
        """A number with its unit, or the median of several with all of them; ``where`` says of what."""
        values = [float(one) for one in value] if isinstance(value, Sequence) else [float(value)]
        if not values:
            return
        row = {"part": self._part, "name": name, "value": statistics.median(values), "unit": unit, "where": where}
        self._append(row | ({"values": values} if len(values) > 1 else {}))

    def note(self, name: str, text: str) -> None:
        """A fact that is no number: a version, the card."""
        self._append({"part": self._part, "note": name, "value": text})

    def _append(self, row: Mapping[str, Any]) -> None:
        if self._file is not None:
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")


def kills_verdict(faults: list[str]) -> int:
    """Say whether kills changed anything; the exit status."""
    for fault in faults:
        log(fault)
    log("DIFFERENT" if faults else "the same as without any kill")
    return 1 if faults else 0


def log(text: str) -> None:
    """A line of progress on standard error."""
    print(text, file=sys.stderr, flush=True)
