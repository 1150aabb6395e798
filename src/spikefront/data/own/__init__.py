"""A folder of a user's own: how it is laid out, what is known of it, which part each of its samples is in."""
