"""The loss of a question on grids of weights around θ, and how sharp it is there (RaML alg. 4, fig. 2).

`weights` says which weights are moved, `directions` and `path` whereto, `perturbed` puts the moved weights in place,
`scoring` and `grid` measure the losses, `sharpness` looks at the Hessian and `overlay` draws as the paper does.
"""
