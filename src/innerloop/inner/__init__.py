"""What a trajectory does to the model: the answer loss along it, and what is read off that curve."""
