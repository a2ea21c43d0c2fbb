"""`python -m benchmarks.tasks`: what a picture is still good for, to a classifier and to a reader of text."""
