"""The torch modules: transform, tokenizer, loop filters, vivid. They know neither files nor backends."""
