"""Attention from patch queries over a ragged token prefix.

Tile b of a batch has received `counts[b]` tokens out of N slots; its P patch queries attend to these
tokens and to nothing else. A tile without tokens gets zeros. The scale is 1 / sqrt(D).

    q       [B, P, H, D]  one query per patch and head
    k, v    [B, N, H, D]  token slots; slots at and after counts[b] may hold any finite values
    counts  [B]           integers 0..N
    result  [B, P, H, D]  dtype of q
"""
