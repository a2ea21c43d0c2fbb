"""`python -m benchmarks.speed`: how long prow takes and how much memory, beside WebP and AVIF."""
