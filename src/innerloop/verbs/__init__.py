"""One verb a file: a frozen dataclass of settings, from which the command line is made, and the function it runs."""
