"""Trajectories: sampled from engines, or given; and the controls made from them.

Import the parts by name (``innerloop.rollout.engine``, ``.sample``, ``.given``, ``.controls``,
``.transformers_engine``); only the last loads torch.
"""
