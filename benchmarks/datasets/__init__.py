"""Datasets: is anything lost when processes are killed, pictures a second, a classifier on few bytes a picture."""
