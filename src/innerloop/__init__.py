"""innerloop shows a language model learning inside its own chain of thought, and trains it to do that better."""
