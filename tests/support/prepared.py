"""What forked workers find done: all is imported, and what their searches compose is merged."""

import sharing

import spikefront.sweeping.worker.worker  # noqa: F401
from spikefront.config import compose

sharing.share()
compose(["search/sampler=random", "logger=none"], root="sweep")
compose(["logger=none"])
