"""Meta-learning: train the weights from which a few steps on some trajectories help most with others.

RaML reads a trajectory as an inner loop and training as the outer loop around it (RaML alg. 2). Here the inner loop is
explicit: k steps of gradient descent on a support batch of trajectories, judged on a query batch of the same family.
One algorithm a file: `maml`, `fomaml`, `reptile`, `anil`, `meta_sgd`, and `joint`, which has no inner loop. `train`
is the outer loop; `robust` and `surgery` combine families, `choosing` learns which trajectories make good support.
"""
