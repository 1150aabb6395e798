"""What forked workers find done: all is imported, what their searches compose is merged, and a search has been run."""

import contextlib
import io
import tempfile
from pathlib import Path

import sharing

from spikefront.config import compose

sharing.share()
compose(["search/sampler=random", "logger=none"], root="sweep")
compose(["logger=none"])

from pretended import Sweep  # noqa: E402

with tempfile.TemporaryDirectory() as place, contextlib.redirect_stdout(io.StringIO()):
    search = Sweep(Path(place), "search/sampler=random", "search.n_trials=1", "search.workers=1")
    search.run_here()
    search.study()
