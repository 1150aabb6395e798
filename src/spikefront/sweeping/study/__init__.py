"""What is known: the study in its storage, its trials as records, what it began with."""
