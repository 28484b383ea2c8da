"""Loads an export with verl's own code and prints what came of it, as JSON. Run by test_verl_export.py."""

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_module
from verl.utils import hf_tokenizer
from verl.utils.config import omega_conf_to_dataclass, validate_config


def configured(name: str, overrides: list[str]) -> Any:
    with initialize_config_module("verl.trainer.config", version_base=None):
        return compose(name, overrides=overrides)


def grpo(folder: Path, overrides: list[str]) -> dict[str, Any]:
    from verl import DataProto
    from verl.trainer.ppo.ray_trainer import compute_advantage
    from verl.trainer.ppo.reward import get_custom_reward_fn
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.dataset.rl_dataset import RLHFDataset

    config = configured("ppo_trainer", overrides)
    validate_config(config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config))
    actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    rollout = omega_conf_to_dataclass(config.actor_rollout_ref.rollout)
    algorithm = omega_conf_to_dataclass(config.algorithm)
    tokenizer = hf_tokenizer(config.actor_rollout_ref.model.path)
    data = RLHFDataset(config.data.train_files, tokenizer, config.data)
    row = data[0]
    score = get_custom_reward_fn(config)
    truth = row["reward_model"]["ground_truth"]
    texts = [f"\\boxed{{{truth}}}", "\\boxed{no}", f"The answer is {truth}", "nothing"]
    judge = partial(score, data_source=row["data_source"], ground_truth=truth, extra_info=row["extra_info"])

    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 6, (12,), generator=generator)
    mask = (torch.arange(6) < lengths[:, None]).long()
    rewards = torch.tensor([1.0, 0.0, -0.5, -1.0])[torch.randint(4, (12,), generator=generator)]
    token_rewards = torch.zeros(12, 6)
    token_rewards[torch.arange(12), lengths - 1] = rewards
    groups = [f"u{i % 3}" for i in range(12)]

    def advantages(estimator: str) -> torch.Tensor:
        batch = {"token_level_rewards": token_rewards.clone(), "response_mask": mask}
        found = DataProto.from_dict(tensors=batch, non_tensors={"uid": np.array(groups, dtype=object)})
        return compute_advantage(found, estimator, config=algorithm).batch["advantages"]

    ours = advantages(config.algorithm.adv_estimator)
    return {
        "estimator": algorithm.adv_estimator,
        "rollouts": rollout.n,
        "top_k": rollout.top_k,
        "epochs": config.trainer.total_epochs,
        "lr": actor.optim.lr,
        "loss": [actor.policy_loss.loss_mode, actor.loss_agg_mode, actor.clip_ratio_low, actor.clip_ratio_high],
        "rows": len(data),
        "prompt": tokenizer.apply_chat_template(row["raw_prompt"], tokenize=False, add_generation_prompt=True),
        "scores": [judge(solution_str=text)["score"] for text in texts],
        "rewards": rewards.tolist(),
        "lengths": lengths.tolist(),
        "groups": groups,
        "advantages": ours[:, 0].tolist(),
        "masked": float((ours * (1 - mask)).abs().sum()),
        "verls_own": advantages("grpo")[:, 0].tolist(),
    }


def sft(folder: Path, overrides: list[str]) -> dict[str, Any]:
    config = configured("sft_trainer_engine", overrides)
    found = {"batch": config.data.train_batch_size, "lr": omega_conf_to_dataclass(config.optim).lr}
    try:
        from verl.utils.dataset.multiturn_sft_dataset import MultiTurnSFTDataset
    except ImportError as error:  # beside a transformers that is newer than verl's own pin
        return found | {"unavailable": str(error)}
    tokenizer = hf_tokenizer(config.model.path)
    row = MultiTurnSFTDataset(config.data.train_files, tokenizer, config.data)[0]
    ids, learnt = row["input_ids"], row["loss_mask"].bool()
    said = tokenizer.decode(ids[learnt], skip_special_tokens=False)
    return found | {"ids": ids.tolist(), "learnt": said}


if __name__ == "__main__":
    what, place, *words = sys.argv[1:]
    sys.stdout.write(json.dumps({"grpo": grpo, "sft": sft}[what](Path(place), words)) + "\n")
