"""The outer loop (RaML eq. 8, alg. 2): training on trajectories, so that the inner loop works on questions never seen.

One recipe a file. `support` chooses T_q, the trajectories per question; `rows` makes token rows of them; `sft`, `dpo`,
`grpo` and `meta` differ in where T_q comes from and in the outer loss (RaML table 1).
"""
