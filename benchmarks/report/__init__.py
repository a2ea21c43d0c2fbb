"""`python -m benchmarks.report`: results and pictures as one HTML page."""
