"""Tokens to bytes and back: frequency tables, the context model, the range coder (SPEC section 5)."""
