"""What a file costs and what its picture is worth: metrics, records of measurements, summaries, tables, plots."""
