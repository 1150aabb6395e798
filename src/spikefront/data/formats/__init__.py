"""One file a recording format."""
