"""Claims about a network, each put to the test: one function a check, ``Subject -> Finding``."""
