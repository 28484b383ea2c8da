"""Ways to put the trajectory's effect into weights, one a file. The update is not unique: its gauge belongs to it."""
