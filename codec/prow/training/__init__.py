"""Training of prow's models: `python -m prow.training --help`. Needs torch and the photos, nothing else."""
