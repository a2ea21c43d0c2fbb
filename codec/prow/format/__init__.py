"""What a file says, as data: the container, the passes of a picture, a model's sizes, tokens (SPEC sections 1 to 4)."""
