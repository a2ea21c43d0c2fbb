"""Models that are not part of prow: ordered tokenizers of others, and what their files say (SPEC section 7)."""
