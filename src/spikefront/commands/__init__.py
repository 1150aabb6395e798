"""One file a command: what a user types, and all that is printed."""
