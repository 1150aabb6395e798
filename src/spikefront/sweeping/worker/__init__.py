"""Doing: a worker takes trials from the study, trains them and tells what came out."""
