"""The one error of reading recordings."""


class BadRecording(Exception):
    """A recording can't be used; the message is the reason. ``data.on_error`` decides what follows."""
