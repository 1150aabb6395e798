"""Recordings of event cameras, one file a format: ``open_recording`` reads any of them, told by content."""

from spikefront.data.formats.decoded import EVENTS, Declared, Decoded
from spikefront.data.formats.opening import READERS, is_empty, open_recording, sniff
from spikefront.data.formats.refused import BadRecording

__all__ = ["EVENTS", "READERS", "BadRecording", "Declared", "Decoded", "is_empty", "open_recording", "sniff"]
