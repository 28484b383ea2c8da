"""Work spread over the machines of a Ray cluster by workers that hold a model each.

Import the parts by name: ``.options`` (how many workers, with what), ``.work`` (what is to be done, in which groups),
``.crew`` (hands the groups out and brings the results back), ``.connection`` (joins or starts a cluster), ``.worker``
(lives in the cluster). Only the last three import Ray, and only when they are used. Nothing here knows what the work is
about.
"""
