"""Image tokenizers that others published, in plain torch, for weights that you have."""
