"""Many pictures at once, in files that hold many: folders, Parquet, WebDataset tars.

Which function? `encode_batch` for a batch in memory, as Ray Data's `map_batches` has it, and `encode_rows` where a
broken picture must not stop the others; neither needs more than prow itself. `encode`, `decode` and `truncate` go from
a folder, Parquet files or tars to a folder of Parquet files, on one machine or on many, and `stats` sums up such a
folder. These take `pip install 'prow[dataset]'`, and Ray `'prow[ray]'`.
"""

from .job import Summary, decode, encode, truncate
from .rows import Row, decode_rows, encode_batch, encode_rows, truncate_rows
from .stats import Stats, stats

__all__ = [
    "Row",
    "Stats",
    "Summary",
    "decode",
    "decode_rows",
    "encode",
    "encode_batch",
    "encode_rows",
    "stats",
    "truncate",
    "truncate_rows",
]
