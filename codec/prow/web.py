"""A model as one file for browsers: `python -m prow.web -o prow-small.prowmodel`, the file that `prow-decode` loads.

It is a gzipped safetensors file with the config, the tables and the SHA-256 of the model file, the graphs of the
decoder (`graphs.*`, ONNX without weights), and the weights: matrices in 13 bits with a scale a row, others in float32.
All of it follows from the model file, byte for byte; docs/web.md has what 13 bits cost.
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import hashlib
import json
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from . import registry
from .backends.onnx_backend import graph_file, graph_names
from .registry import ModelFile, read_checked

_BITS = 13  # of a weight
_DTYPES = {"int32": "I32", "int16": "I16", "int8": "I8", "uint8": "U8", "float32": "F32"}
_ENCODER = ("encoder", "inverse")  # graphs that a decoder has no use for; the inverse transform is JavaScript
# Numbers of fields in onnx.proto, and the wire type of bytes and messages.
_MODEL_GRAPH, _GRAPH_INITIALIZER, _TENSOR_NAME, _LENGTH_DELIMITED = 7, 5, 8, 2


def web_model(model: ModelFile) -> bytes:
    """The file of a model."""
    config = {**dataclasses.asdict(model.config), "reach": model.config.reach}
    digest = hashlib.sha256(model.content).hexdigest()
    tensors = {f"tables.{f.name}": getattr(model.tables, f.name) for f in dataclasses.fields(model.tables)}
    for name in graph_names(model.config):
        if name not in _ENCODER:
            graph = _without_weights(read_checked(graph_file(model.config, name)), f"network.{name}.")
            tensors[f"graphs.{name}"] = np.frombuffer(graph, np.uint8)
    for name, weights in model.weights("network.").items():
        if weights.ndim == 1:
            tensors[name] = weights
        else:
            tensors[name], tensors[f"{name}.scale"] = _quantised(weights)
    content = _safetensors(tensors, {"prow": json.dumps(config), "sha256": digest})
    return gzip.compress(content, compresslevel=9, mtime=0)


def _quantised(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float32 [rows, ...] -> integers uint8 [2, rows, ...], all lower bytes before all upper ones so that they compress
    well, the sign in the lowest bit; and float32 [rows], what a unit is worth."""
    rows = weights.reshape(len(weights), -1)
    scale = np.abs(rows).max(1) / np.float32(2 ** (_BITS - 1) - 1)
    integers = np.rint(rows / np.where(scale > 0, scale, 1)[:, None]).astype(np.int16)
    folded = ((integers << 1) ^ (integers >> 15)).astype(np.uint16)
    split = np.stack([folded & 255, folded >> 8]).astype(np.uint8)
    return split.reshape(2, *weights.shape), scale.astype(np.float32)


def _safetensors(tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> bytes:
    header: dict[str, object] = {"__metadata__": metadata}
    body = b""
    for name, array in tensors.items():
        content = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes()
        offsets = [len(body), len(body) + len(content)]
        header[name] = {"dtype": _DTYPES[array.dtype.name], "shape": array.shape, "data_offsets": offsets}
        body += content
    told = json.dumps(header).encode()
    return struct.pack("<Q", len(told)) + told + body


# -- ONNX without the package onnx: protocol buffers are fields, each with a key and a value ------------------------


def _without_weights(model: bytes, prefix: str) -> bytes:
    """An ONNX model without the initializers whose names start with `prefix`."""
    kept = b""
    for number, field, value in _fields(model):
        if number == _MODEL_GRAPH:
            graph = b"".join(
                whole for n, whole, v in _fields(value) if n != _GRAPH_INITIALIZER or not _named(v, prefix)
            )
            field = _varint(_MODEL_GRAPH << 3 | _LENGTH_DELIMITED) + _varint(len(graph)) + graph
        kept += field
    return kept


def _named(tensor: bytes, prefix: str) -> bool:
    return any(number == _TENSOR_NAME and name.startswith(prefix.encode()) for number, _, name in _fields(tensor))


def _fields(message: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Number, whole field and content of the fields of a message; a number that is no message has no content."""
    at = 0
    while at < len(message):
        start = at
        key, at = _read_varint(message, at)
        wire, content = key & 7, b""
        if wire == _LENGTH_DELIMITED:
            length, at = _read_varint(message, at)
            content = message[at : at + length]
            at += length
        elif wire == 0:
            _, at = _read_varint(message, at)
        else:
            at += {1: 8, 5: 4}[wire]
        yield key >> 3, message[start:at], content


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m prow.web", description=__doc__)
    parser.add_argument("--model", default="default", help="name of an installed model (default: %(default)s)")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE")
    options = parser.parse_args(arguments)
    content = web_model(registry.load(options.model))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_bytes(content)
    print(f"{options.out}  {len(content):,} bytes, SHA-256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    main()
