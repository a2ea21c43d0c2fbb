"""The specification of the file format, readers that are written from it alone, and the vectors that test readers."""

from pathlib import Path

VECTORS = Path(__file__).resolve().parent / "vectors" / "1.0"  # frozen: python -m format_spec.freeze
