"""Networks as other tools take them: a module a format, with ``write(model, sample, directory) -> what to tell``."""
