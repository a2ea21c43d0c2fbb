"""`python -m benchmarks.acceptance`: does prow keep its promises on real pictures?"""
