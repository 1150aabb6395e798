"""One file a published family of spiking transformers."""
