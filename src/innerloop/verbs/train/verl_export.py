"""``--export verl DIR``: what a verl cluster needs to do a recipe: data, reward, advantages, and how to launch it.

Written for, and checked against, verl 0.9.1 (`tests/test_verl_export.py`, docs/train.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from innerloop.errors import InputError
from innerloop.rollout.retokenise import is_sampled, sampled_text
from innerloop.schema import Mode, Question, Trajectory
from innerloop.verbs.train.settings import TrainSettings
from innerloop.verbs.train.verl_launch import InFolder, Variable, script, word

if TYPE_CHECKING:
    from innerloop.speaker import Speaker
    from innerloop.verbs.train.grpo import GrpoSettings
    from innerloop.verbs.train.sft import SftSettings

VERL = "0.9.1"
ESTIMATOR = "innerloop_subset"
MODULE = "innerloop_verl"
REWARD = "innerloop_reward.py"

# verl's names for how token losses are added up, and for the loss.
_LOSSES = {
    "dapo": ("vanilla", "token-mean"),
    "grpo": ("vanilla", "seq-mean-token-mean"),
    "dr_grpo": ("vanilla", "seq-mean-token-sum-norm"),
    "cispo": ("cispo", "token-mean"),
}

_MODULE_TEXT = '''"""The advantages of {n} of {group} rollouts, for verl. Written by innerloop, which has to be there.

verl imports it in each process where VERL_USE_EXTERNAL_MODULES names it.
"""

import torch
from verl.trainer.ppo.core_algos import register_adv_est

from innerloop.outer.verl import subset_advantages


@register_adv_est({estimator!r})
def advantages(token_level_rewards, response_mask, index, config=None, **_):
    found = subset_advantages(
        token_level_rewards.sum(dim=-1).tolist(),
        response_mask.sum(dim=-1).tolist(),
        list(index),
        n={n},
        choice={choice!r},
        scale={scale!r},
        seed={seed},
    )
    values = torch.tensor(found, device=response_mask.device).unsqueeze(-1) * response_mask
    return values, values
'''

# A file of its own: verl executes it whenever it looks for the reward, and refuses to register an estimator twice.
_REWARD_TEXT = '''"""The reward, for verl. Written by innerloop, which has to be there."""

from innerloop.verbs.train.verl_reward import VerlReward

_reward = VerlReward({reward!r}, {thinking!r}, form={form!r}, opened={opened!r})


def compute_score(data_source, solution_str, ground_truth, extra_info, **_):
    return _reward(solution_str, ground_truth, extra_info)
'''


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """What was written for another trainer."""

    folder: Path
    trainer: str
    recipe: str
    rows: int
    launch: Path


def export_grpo(settings: GrpoSettings, questions: Sequence[Question], watched: Sequence[Question]) -> ExportResult:
    """Write the folder of ``train grpo``. `InputError` for what verl cannot do as innerloop does."""
    from innerloop.verbs.train.verl_reward import EXPORTED

    if settings.reward not in EXPORTED:
        raise InputError(
            f"--reward {settings.reward}: needs counts of tokens, which verl's reward functions are not told; with "
            f"--export take {' or '.join(EXPORTED)}"
        )
    if settings.loss not in _LOSSES:
        raise InputError(f"--loss {settings.loss}: verl has no such loss; with --export take {', '.join(_LOSSES)}")
    if settings.question_weights:
        raise InputError("--question-weights: verl asks each question once a pass; leave them out with --export")
    folder, speaker = _folder(settings), settings.speaker()
    _chat(speaker)
    _parquet(folder / "train.parquet", [_grpo_row(speaker, q, i, "train") for i, q in enumerate(questions)])
    if watched:
        _parquet(folder / "watch.parquet", [_grpo_row(speaker, q, i, "watch") for i, q in enumerate(watched)])
    form = settings.form_for(speaker)
    reward = _REWARD_TEXT.format(reward=settings.reward, thinking=form.thinking, form=form.name, opened=form.opened)
    _text(folder / REWARD, reward)
    module = _MODULE_TEXT.format(
        estimator=ESTIMATOR,
        n=settings.gradient_on or settings.group,
        group=settings.group,
        choice=settings.choose,
        scale=settings.scale,
        seed=settings.seed,
    )
    _text(folder / f"{MODULE}.py", module)
    longest = max(len(speaker.prompt(question)) for question in (*questions, *watched))
    command = f"VERL_USE_EXTERNAL_MODULES={MODULE} python3 -m verl.trainer.main_ppo"
    _launch(folder, "innerloop train grpo", command, grpo_overrides(settings, longest, bool(watched)))
    return _result(settings, folder, "grpo", len(questions))


def export_sft(
    settings: SftSettings,
    questions: Sequence[Question],
    order: Sequence[tuple[str, Trajectory | None]],
    longest: int,
) -> ExportResult:
    """Write the folder of ``train sft``: the rows of all passes. `InputError` for weights, which verl has not."""
    if not settings.trajectory_weight == settings.answer_weight == settings.form_weight:
        raise InputError(
            "--trajectory-weight, --answer-weight and --form-weight differ: verl's sft has one weight for all that the "
            "model says; leave them out with --export"
        )
    folder, speaker = _folder(settings), settings.speaker()
    _chat(speaker)
    by_id = {question.id: question for question in questions}
    _parquet(folder / "train.parquet", [_sft_row(speaker, by_id[name], shown) for name, shown in order])
    command = 'torchrun --nnodes "${NODES:-1}" --nproc-per-node "${GPUS:-8}" -m verl.trainer.sft_trainer'
    _launch(folder, "innerloop train sft", command, sft_overrides(settings, longest))
    return _result(settings, folder, "sft", len(order))


def grpo_overrides(settings: GrpoSettings, longest_prompt: int, watched: bool) -> dict[str, Any]:
    """verl's configuration, by its names."""
    loss, added = _LOSSES[settings.loss]
    actor, rollout = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"
    steps = {} if settings.max_steps is None else {"trainer.total_training_steps": settings.max_steps}
    norm = {f"{actor}.loss_scale_factor": settings.max_tokens} if settings.loss == "dr_grpo" else {}
    environment = "+ray_kwargs.ray_init.runtime_env.env_vars"
    questions = settings.batch_size // settings.group
    return {
        "data.train_files": InFolder("train.parquet"),
        "data.val_files": InFolder(f"{'watch' if watched else 'train'}.parquet"),
        "data.train_batch_size": questions,
        "data.max_prompt_length": longest_prompt,
        "data.max_response_length": settings.max_tokens,
        "data.seed": settings.seed,
        "data.truncation": "error",
        **_model(settings, "actor_rollout_ref.model"),
        **_optimiser(settings, f"{actor}.optim"),
        f"{actor}.grad_clip": settings.clip or 1e9,
        f"{actor}.ppo_mini_batch_size": questions,
        f"{actor}.use_dynamic_bsz": True,
        f"{actor}.ppo_max_token_len_per_gpu": longest_prompt + settings.max_tokens,
        f"{actor}.clip_ratio_low": settings.clip_low,
        f"{actor}.clip_ratio_high": settings.clip_high,
        f"{actor}.policy_loss.loss_mode": loss,
        f"{actor}.loss_agg_mode": added,
        **norm,
        f"{actor}.use_kl_loss": settings.kl > 0,
        f"{actor}.kl_loss_coef": settings.kl,
        f"{actor}.kl_loss_type": "low_var_kl",
        f"{actor}.entropy_coeff": 0,
        f"{rollout}.name": "vllm",
        f"{rollout}.n": settings.group,
        f"{rollout}.temperature": settings.temperature,
        f"{rollout}.top_k": settings.top_k or -1,
        f"{rollout}.tensor_model_parallel_size": 1,
        f"{rollout}.val_kwargs.n": max(1, settings.watch_samples),
        f"{rollout}.val_kwargs.do_sample": True,
        f"{rollout}.val_kwargs.temperature": 1.0,
        "algorithm.adv_estimator": ESTIMATOR,
        "algorithm.use_kl_in_reward": False,
        "reward.custom_reward_function.path": InFolder(REWARD),
        "reward.custom_reward_function.name": "compute_score",
        **_trainer(settings, "grpo"),
        "trainer.total_epochs": settings.passes,
        **steps,
        "trainer.val_before_train": watched,
        "trainer.test_freq": settings.watch_every if watched else -1,
        f"{environment}.VERL_USE_EXTERNAL_MODULES": MODULE,
        f"{environment}.PYTHONPATH": Variable("PYTHONPATH"),
    }


def sft_overrides(settings: SftSettings, longest: int) -> dict[str, Any]:
    """verl's configuration, by its names; the passes are in the data."""
    steps = {} if settings.max_steps is None else {"trainer.total_training_steps": settings.max_steps}
    return {
        "data.train_files": InFolder("train.parquet"),
        "data.train_batch_size": settings.batch_size,
        "data.max_length": longest,
        "data.max_token_len_per_gpu": max(8192, longest),
        "data.truncation": "error",
        **_model(settings, "model"),
        **_optimiser(settings, "optim"),
        "optim.clip_grad": settings.clip or 1e9,
        **_trainer(settings, "sft"),
        "trainer.seed": settings.seed,
        "trainer.total_epochs": 1,
        **steps,
    }


def _model(settings: TrainSettings, at: str) -> dict[str, Any]:
    lora = {} if settings.lora is None else {f"{at}.lora_rank": settings.lora, f"{at}.lora_alpha": 2 * settings.lora}
    return {f"{at}.path": _place(settings), f"{at}.trust_remote_code": settings.trust_remote_code, **lora}


def _place(settings: TrainSettings) -> str:
    """Where verl finds the model: a folder, or a name on the hub."""
    path = Path(settings.model)
    return str(path.resolve()) if path.is_dir() else settings.model


def _optimiser(settings: TrainSettings, at: str) -> dict[str, Any]:
    if settings.schedule == "linear":
        raise InputError("--schedule linear: verl has constant and cosine alone; with --export take one of them")
    return {
        f"{at}.lr": settings.learning_rate,
        f"{at}.lr_warmup_steps": settings.warmup,
        f"{at}.lr_scheduler_type": settings.schedule,
        f"{at}.weight_decay": settings.weight_decay,
    }


def _trainer(settings: TrainSettings, recipe: str) -> dict[str, Any]:
    return {
        "trainer.logger": tuple(dict.fromkeys(("console", *settings.report_to))),
        "trainer.project_name": "innerloop",
        "trainer.experiment_name": recipe,
        "trainer.default_local_dir": InFolder("checkpoints"),
        "trainer.save_freq": settings.save_every,
        "trainer.nnodes": Variable("NODES", 1),
        "trainer.n_gpus_per_node": Variable("GPUS", 8),
    }


def _grpo_row(speaker: Speaker, question: Question, index: int, split: str) -> dict[str, Any]:
    from innerloop.prompts import turns
    from innerloop.verbs.train.verl_reward import question_text

    return {
        "data_source": question.domain or "innerloop",
        "prompt": turns(question, speaker.instruction, speaker.system),
        "ability": question.verifier or "math",
        "reward_model": {"style": "rule", "ground_truth": question.answer},
        "extra_info": {"index": index, "split": split, "id": question.id, "innerloop": question_text(question)},
    }


def _sft_row(speaker: Speaker, question: Question, trajectory: Trajectory | None) -> dict[str, Any]:
    from innerloop.prompts import turns

    said = f"{speaker.suffix}{question.answer}" + ("}" if speaker.suffix.endswith("{") else "")
    if trajectory is not None:
        thought = trajectory.mode is Mode.THINKING
        opening = f"{speaker.think_start}\n" if thought and not speaker.opens_thinking(Mode.PLAIN) else ""
        if is_sampled(trajectory):  # it has its answer
            said = opening + sampled_text(speaker, trajectory)
        else:
            said = opening + trajectory.text + (f"\n{speaker.think_end}" if thought else "") + said
    asked = turns(question, speaker.instruction, speaker.system)
    return {
        "messages": [*asked, {"role": "assistant", "content": said}],
        "question_id": question.id,
        "trajectory_id": None if trajectory is None else trajectory.id,
    }


def _folder(settings: Any) -> Path:
    """The folder to write into, empty or new."""
    from innerloop.atomic import make_folder

    word("model", _place(settings))  # what cannot be said to verl is told before anything is written
    _, folder = settings.export
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder}: exists and is not empty; choose another folder for --export")
    make_folder(folder)
    return folder


def _chat(speaker: Speaker) -> None:
    if speaker.tokenizer.chat_template is None:
        raise InputError(f"model {speaker.name}: has no chat template, which verl puts questions in; take one that has")


def _parquet(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from innerloop.atomic import write_file

    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(list(rows)), sink)
    write_file(path, sink.getvalue())


def _text(path: Path, text: str) -> None:
    from innerloop.atomic import write_file

    write_file(path, text.encode())


def _launch(folder: Path, what: str, command: str, overrides: Mapping[str, Any]) -> None:
    _text(folder / "launch.sh", script(what, VERL, command, overrides))
    (folder / "launch.sh").chmod(0o755)


def _result(settings: Any, folder: Path, recipe: str, rows: int) -> ExportResult:
    return ExportResult(
        folder=folder, trainer=settings.export[0], recipe=recipe, rows=rows, launch=folder / "launch.sh"
    )
