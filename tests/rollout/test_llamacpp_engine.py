"""llama.cpp as an engine: the bundled model, for real."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from innerloop.errors import InputError
from innerloop.rollout.engine import Completion, Request, Sampling
from innerloop.rollout.llamacpp_engine import INSTALL, LlamaCppEngine, gguf_file, installed
from innerloop.schema import Status
from innerloop.speaker import Speaker, load_speaker

real = [
    pytest.mark.model,
    pytest.mark.engine,
    pytest.mark.skipif(not installed(), reason=f"no llama.cpp here: {INSTALL}"),
]


@pytest.fixture(scope="module")
def speaker() -> Speaker:
    return load_speaker("smollm2")


@pytest.fixture(scope="module")
def one(speaker: Speaker) -> LlamaCppEngine:
    """One stream at a time: repeats exactly."""
    return LlamaCppEngine(gguf_file("smollm2"), speaker, streams=1, threads=1)


def tiny_gguf(path: Path, templates: dict[str, str]) -> Path:
    """A Llama of one block with random weights and a token for each byte."""
    import gguf
    import numpy as np

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(512)
    writer.add_embedding_length(32)
    writer.add_block_count(1)
    writer.add_feed_forward_length(64)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(16)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    spelling = [chr(byte) if 33 <= byte < 127 else chr(256 + byte) for byte in range(256)]
    writer.add_token_list([*spelling, "<eos>"])
    writer.add_token_types([gguf.TokenType.NORMAL] * 256 + [gguf.TokenType.CONTROL])
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(256)
    for name, template in templates.items():
        writer.add_string(f"tokenizer.{name}", template)
    shapes = {"token_embd": (257, 32), "output": (257, 32), "blk.0.ffn_down": (32, 64)}
    shapes |= {f"blk.0.{name}": (32, 32) for name in ("attn_q", "attn_k", "attn_v", "attn_output")}
    shapes |= {f"blk.0.{name}": (64, 32) for name in ("ffn_gate", "ffn_up")}
    draw = np.random.default_rng(0)
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", draw.normal(size=shape).astype(np.float32))
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(32, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def requests(speaker: Speaker, count: int = 5) -> list[Request]:
    return [
        Request(id=f"r{i}", prompt=tuple(speaker.prompt(f"What is {i % 2} + 2?")), seed=2**33 + i) for i in range(count)
    ]


def by_id(completions: Iterator[Completion]) -> dict[str, Completion]:
    return {completion.id: completion for completion in completions}


class TestReal:
    pytestmark = real

    def test_every_request_once_with_ids_text_and_seed_of_its_own(self, speaker: Speaker, one: LlamaCppEngine) -> None:
        asked = requests(speaker)
        done = by_id(one.generate(asked, Sampling(max_tokens=12)))
        assert list(done) == [request.id for request in asked]
        for request in asked:
            completion = done[request.id]
            assert (completion.status, completion.seed) == (Status.TRUNCATED, request.seed)
            assert completion.reason == "the limit of 12 tokens came before the end"
            assert len(completion.token_ids) == completion.tokens == 12
            assert completion.text == speaker.decode(completion.token_ids)
            assert completion.logprob is not None
            assert completion.logprob < 0
        assert len({c.token_ids for c in done.values()}) > 2, "equal prompts, other seeds"
        assert by_id(one.generate(asked[::-1], Sampling(max_tokens=12))) == done
        many = LlamaCppEngine(gguf_file("smollm2"), speaker, streams=4, threads=1)
        together = by_id(many.generate(asked, Sampling(max_tokens=12)))
        assert sum(together[name].token_ids == done[name].token_ids for name in done) >= 3, "up to rounding"

    def test_its_log_probabilities_are_the_models_own(self, speaker: Speaker, one: LlamaCppEngine) -> None:
        """At temperature 1 over all tokens, whatever was sampled with, up to the rounding of quantised products."""
        import torch

        from innerloop.models import load

        (request,) = requests(speaker, 1)
        (completion,) = one.generate([request], Sampling(temperature=0.5, top_k=5, max_tokens=20))
        loaded = load("smollm2", dtype="float32", device="cpu", threads=1)
        with torch.no_grad():
            ids = torch.tensor([request.prompt + completion.token_ids])
            logprobs = loaded.model(input_ids=ids).logits[0].log_softmax(dim=-1)
        start = len(request.prompt) - 1
        mine = sum(logprobs[start + i, token].item() for i, token in enumerate(completion.token_ids))
        assert completion.logprob == pytest.approx(mine, abs=0.1 * len(completion.token_ids))

    def test_the_end_token_completes_and_is_not_shown(self, speaker: Speaker, one: LlamaCppEngine) -> None:
        prompt = speaker.encode("<|im_start|>user\nSay hi.<|im_end|>\n<|im_start|>assistant\n")
        (completion,) = one.generate([Request(id="a", prompt=tuple(prompt), seed=0)], Sampling(temperature=0))
        assert (completion.status, completion.reason) == (Status.COMPLETE, None)
        assert completion.token_ids[-1] == speaker.tokenizer.eos_token_id
        assert "<|im_end|>" not in completion.text

    def test_characters_of_several_tokens_keep_text_and_count(self, speaker: Speaker, one: LlamaCppEngine) -> None:
        prompt = speaker.encode("東京は日本の首都です。東京は日本の首都です。東京は日本の首都です。東京は日本")
        asked = [Request(id="a", prompt=tuple(prompt), seed=0)]
        (completion,) = one.generate(asked, Sampling(temperature=0, max_tokens=16))
        assert "首都" in completion.text
        assert (completion.token_ids, completion.logprob, completion.tokens) == ((), None, 16)

    def test_errors_are_those_of_their_own_request(self, speaker: Speaker, one: LlamaCppEngine) -> None:
        long = Request(id="long", prompt=(5,) * 8192, seed=0)
        odd = Request(id="odd", prompt=(5, 10**6), seed=0)
        done = by_id(one.generate([long, odd, *requests(speaker, 1)], Sampling(max_tokens=2)))
        assert done["long"].reason == (
            "the prompt has 8192 tokens, and smollm2 has a context of 8192: nothing can follow; "
            "use a shorter question or a model with a longer context"
        )
        assert (done["odd"].status, done["odd"].reason) == (Status.ERROR, "llama.cpp: Prompt contains invalid tokens")
        assert done["r0"].status is Status.TRUNCATED

    def test_stopping_early_calls_off_what_is_under_way(self, speaker: Speaker) -> None:
        engine = LlamaCppEngine(gguf_file("smollm2"), speaker, streams=2, threads=1)
        short, *rest = requests(speaker, 4)
        bad = Request(id="bad", prompt=(10**6,), seed=0)
        coming = engine.generate([bad, short, *rest], Sampling(max_tokens=4000))
        assert next(coming).id == "bad"
        begun = time.monotonic()
        coming.close()
        assert time.monotonic() - begun < 20, "4000 tokens take minutes"

    def test_a_files_own_template_is_never_rendered(self, tmp_path: Path) -> None:
        """In a process of its own: nothing ends a template that llama.cpp renders."""
        loops = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
        file = tiny_gguf(tmp_path / "m.gguf", {"chat_template": loops, "chat_template.tool_use": loops})
        code = (
            "import sys\nfrom pathlib import Path\nfrom innerloop.rollout.engine import Request, Sampling\n"
            "from innerloop.rollout.llamacpp_engine import LlamaCppEngine\nfrom innerloop.speaker import speak\n"
            "from innerloop.testing import byte_tokenizer\n"
            "engine = LlamaCppEngine(Path(sys.argv[1]), speak(byte_tokenizer(), name='m'), threads=1)\n"
            "(done,) = engine.generate([Request(id='a', prompt=(65, 66), seed=0)], Sampling(max_tokens=2))\n"
            "print(done.status)"
        )
        done = subprocess.run([sys.executable, "-c", code, file], capture_output=True, text=True, timeout=60)
        assert done.stdout.strip() in ("truncated", "complete"), done.stderr

    def test_the_manifest_knows_the_file(self, one: LlamaCppEngine) -> None:
        described = one.describe()
        assert (described["engine"], described["architecture"], described["max_context"]) == ("llamacpp", "llama", 8192)
        assert len(described["fingerprint"]) == 20


def test_only_gguf_files_fit(tmp_path: Path, tiny_model: Path) -> None:
    with pytest.raises(InputError, match=r"engine llamacpp reads GGUF files, and model '.*tiny-llama' is none"):
        gguf_file(str(tiny_model))


def test_without_the_package_the_command_that_installs_it_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    module = sys.modules[LlamaCppEngine.__module__]  # its dotted name leads to the verb of the same name
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs the package xllamacpp: pip install 'innerloop\[llamacpp\]'"):
        LlamaCppEngine(tmp_path / "x.gguf", None)  # type: ignore[arg-type]
