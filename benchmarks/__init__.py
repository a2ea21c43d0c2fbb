"""Measurements of prow: `python -m benchmarks.NAME`. Rate always means bytes of the whole file."""
