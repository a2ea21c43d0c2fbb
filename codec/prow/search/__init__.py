"""What an encoder chooses: the base, the size, and with much effort each token again."""
