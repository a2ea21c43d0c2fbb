"""An independent reader of prow token streams: standard library only, written from SPEC.md sections 4 to 6.

    python format_spec/tokens.py FILE --model MODEL.safetensors [--values]

prints what the file says as JSON: its base and, pass by pass, how many tokens each tile has; with --values
the integers too. No pixels, no floating point, no speed: this is the specification as a program.
"""

from __future__ import annotations

import argparse
import functools
import json
import operator
import sys
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

if __package__:
    from .model_file import KINDS, NEAR, STEPS, TILE_BINS, TOTAL, Model, Refused, parse_model, running_sums
    from .passes import Pass, passes, present_ranks, tile_sizes, tiles_around, tiles_before
    from .reader import Violation, parse
else:
    from model_file import KINDS, NEAR, STEPS, TILE_BINS, TOTAL, Model, Refused, parse_model, running_sums
    from passes import Pass, passes, present_ranks, tile_sizes, tiles_around, tiles_before
    from reader import Violation, parse

MAX_PIXELS = 1 << 26
PADDINGS = (b"\x00", b"\xff")
GROUP = 16  # ranks of a token that are coded on the same knowledge
NEIGHBOURS = {  # offsets in channel, vertical and horizontal frequency -> weight
    (0, -1, 0): 2,
    (0, 0, -1): 2,
    (0, -1, -1): 1,
    (0, -2, 0): 1,
    (0, 0, -2): 1,
    (0, 1, -1): 1,
    (0, -1, 1): 1,
    (-1, 0, 0): 2,
    (-2, 0, 0): 1,
}
UNDER = ((0, 0, 0), (0, 1, 0), (0, 0, 1), (0, -1, 0), (0, 0, -1), (0, 1, 1), (-1, 0, 0))  # in the pass before


class Ended(Exception):
    """The bytes determine no further symbol."""


# -- section 5: token stream ----------------------------------------------------------------------------------


class RangeDecoder:
    """Two range decoders, one on the payload and zeros, one on the payload and 0xFF; they differ in `offsets`."""

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.at = 0
        self.range = (1 << 64) - 1
        self.offsets = self.take(8)

    def take(self, count: int) -> list[int]:
        """The next bytes as a number, with both paddings."""
        present = self.payload[self.at : self.at + count]
        self.at += count
        return [int.from_bytes(present.ljust(count, padding), "big") for padding in PADDINGS]

    def symbol(self, sums: Sequence[int]) -> int:
        """The next symbol, given its table's running sums; Ended if the bytes do not determine it."""
        scale = self.range >> 24
        quotients = [offset // scale for offset in self.offsets]
        if max(quotients) >= TOTAL:
            raise Ended
        symbol, other = (bisect_right(sums, q) - 1 for q in quotients)
        if symbol != other:
            raise Ended
        self.offsets = [offset - scale * sums[symbol] for offset in self.offsets]
        self.range = scale * (sums[symbol + 1] - sums[symbol])
        if self.range < 1 << 32:
            self.range <<= 32
            self.offsets = [(o << 32) + word for o, word in zip(self.offsets, self.take(4), strict=True)]
        return symbol


LONG = 2 * NEAR + 1  # the short symbol that a long one follows
SHORT_BASE = running_sums([TOTAL // (LONG + 1)] * (LONG + 1))
LONG_BASE = running_sums([TOTAL // STEPS] * STEPS)
BIT = running_sums([TOTAL // 2] * 2)
RARE = running_sums([TOTAL - (1 << 18), 1 << 18])  # whether a picture is grey, whether it has alpha
CODED = running_sums([1 << 18, TOTAL - (1 << 18)])  # skipped, coded: unless the pass before was skipped


def raw_bits(symbol: int) -> int:
    """How many raw bits follow a symbol."""
    bucket = (symbol + 1) // 2
    return (bucket - 8) // 2 + 2 if bucket >= 8 else 0


def integer(symbol: int, received: list[int]) -> int:
    """The integer of a symbol and those of its raw bits that were received; the missing ones read as 1, 0, 0, ..."""
    bucket, count = (symbol + 1) // 2, raw_bits(symbol)
    bits = (received + [1] + [0] * count)[:count]
    magnitude = 2 + bucket % 2 if bucket >= 8 else bucket
    for bit in bits:
        magnitude = 2 * magnitude + bit
    return magnitude if symbol % 2 else -magnitude


# -- section 5.4: contexts ------------------------------------------------------------------------------------


def bin_of(amount: int) -> int:
    """0, 1, 2, 3, 4 to 5, 6 to 7, 8 to 11, 12 to 15, 16 to 23, ..."""
    if amount < 2:
        return amount
    octave = amount.bit_length() - 1
    return 2 * octave + (amount >> (octave - 1) & 1)


def at_offset(coefficient: int, offset: tuple[int, int, int], tile: int) -> int | None:
    """The coefficient at an offset in channel, vertical and horizontal frequency from another; None outside."""
    c, v, u = (a + b for a, b in zip(parts_of(coefficient, tile), offset, strict=True))
    return (c * tile + v) * tile + u if c >= 0 and 0 <= v < tile and 0 <= u < tile else None


def parts_of(coefficient: int, tile: int) -> tuple[int, int, int]:
    """Channel, vertical and horizontal frequency."""
    return coefficient // tile**2, coefficient // tile % tile, coefficient % tile


@functools.cache
def ranks_of(kind: int, model: Model) -> dict[int | None, int]:
    return {coefficient: rank for rank, coefficient in enumerate(model.order[kind])}


@functools.cache
def neighbour_ranks(kind: int, model: Model) -> list[list[int | None]]:
    """Of each rank of a kind of pass, the ranks of its neighbours, None for those not coded in an earlier group."""
    first, start = [], 0
    for dims in model.token_dims:
        first += [start + i // GROUP * GROUP for i in range(dims)]
        start += dims
    found = []
    for rank, coefficient in enumerate(model.order[kind]):
        others = [ranks_of(kind, model).get(at_offset(coefficient, offset, model.tile)) for offset in NEIGHBOURS]
        found.append([other if other is not None and other < first[rank] else None for other in others])
    return found


@functools.cache
def tokens_of_ranks(model: Model) -> list[int]:
    return [token for token, dims in enumerate(model.token_dims) for _ in range(dims)]


def run_network(inputs: Sequence[int], model: Model) -> int:
    """The shift of a class."""

    def layer(values: Sequence[int], weights: list, biases: list[int], shift: int) -> list[int]:
        sums = (sum(map(operator.mul, values, w)) + b for w, b in zip(weights, biases, strict=True))
        return [min(max(s >> shift, 0), 2**15 - 1) for s in sums]

    hidden = layer(layer(inputs, model.w1, model.b1, 6), model.w2, model.b2, 12)
    return (sum(map(operator.mul, hidden, model.w3)) + model.b3[0] + 2**17) >> 18


class Context:
    """All that is known of a pass while it is read, and the tables that follow from it.

    Attributes:
        counts, values: tokens received of each tile and its integers by rank (zero beyond a list's end).
        tokens: like counts, but each flag counts at once.
        magnitudes, energy, total: of each tile, magnitude (at most 4) by rank, their sum, and the sum of these over all
            tiles, up to the last whole group.
    """

    def __init__(self, pass_: Pass, step_index: int, model: Model, before: Context | None, *, grey: bool) -> None:
        self.pass_, self.step_index, self.model = pass_, step_index, model
        channels = 1 if grey else model.channels
        order = model.order[pass_.kind]
        self.here = [
            order[rank] < channels * model.tile**2 for rank in range(len(order))
        ]  # ranks that are coded at all
        self.sizes = tile_sizes(pass_.width, pass_.height, model.tile)
        tiles = len(self.sizes)
        self.counts, self.values = [0] * tiles, [[] for _ in range(tiles)]
        self.tokens, self.energy, self.total = [0] * tiles, [0] * tiles, 0
        self.magnitudes: list[dict[int, int]] = [{} for _ in range(tiles)]
        self.neighbours = neighbour_ranks(pass_.kind, model)
        self.around = tiles_around(pass_, model.tile)
        self.before = before
        self.held_before: list[dict[int | None, int]] = before.held() if before is not None else []
        self.tile_before = tiles_before(pass_, before.pass_, model.tile) if before is not None else [0] * tiles

    def table(self, token: int, rank: int, tile: int) -> list[int]:
        """Running sums for the integer at a rank."""
        model = self.model
        number = model.classes[self.pass_.kind][self.step_index][rank]
        if any(model.w3) or any(model.b3):
            number += run_network([*self.position(rank), *self.surroundings(rank, tile)], model)
        return model.bank[min(max(number, 0), len(model.bank) - 1)]

    def position(self, rank: int) -> list[int]:
        """The network's inputs that are the same in all tiles."""
        model, kind = self.model, self.pass_.kind
        channel, v, u = parts_of(model.order[kind][rank], model.tile)
        own = [model.classes[kind][self.step_index][rank], self.step_index, tokens_of_ranks(model)[rank], v, u, v + u]
        own += [bin_of(v), bin_of(u), bin_of(v + u), bin_of(rank)]
        own += [int(channel == c) for c in range(model.channels)] + [int(kind == k) for k in range(len(KINDS))]
        octaves = self.before.pass_.octaves - self.pass_.octaves if self.before is not None else 0
        return own + [self.pass_.octaves, octaves, bin_of(len(self.sizes))]

    def surroundings(self, rank: int, tile: int) -> list[int]:
        """The network's other inputs."""
        around, near = self.around[tile], self.neighbours[rank]
        own = [self.magnitudes[tile].get(other, 0) for other in near]
        others = [sum(self.magnitudes[t].get(other, 0) for t in around) for other in near]
        under, energy_before = [0] * len(UNDER), 0
        if self.before is not None:
            coefficient, tile_before = self.model.order[self.pass_.kind][rank], self.tile_before[tile]
            places = [at_offset(coefficient, offset, self.model.tile) for offset in UNDER]
            under = [self.held_before[tile_before].get(place, 0) for place in places]
            energy_before = self.before.energy[tile_before]
        sums = [sum(map(operator.mul, part, NEIGHBOURS.values())) for part in (own, others)]
        sums += [self.energy[tile], sum(self.energy[t] for t in around), energy_before]
        means = [self.mean_energy(), self.before.mean_energy() if self.before is not None else 0]
        found = [len(around), *own, *map(bin_of, others), *map(bin_of, sums), *under, bin_of(sum(under))]
        return found + [bin_of(mean) for mean in means]

    def learn(self, tile: int, rank: int, symbol: int) -> None:
        magnitude = min((symbol + 1) // 2, 4)
        self.magnitudes[tile][rank] = magnitude
        self.energy[tile] += magnitude
        self.total += magnitude

    def held(self) -> list[dict[int | None, int]]:
        """Of each tile, by coefficient: magnitudes at the end of the pass, with those of passes before at its level."""
        same_level = self.before is not None and self.before.pass_.octaves == self.pass_.octaves
        found, order = [], self.model.order[self.pass_.kind]
        for tile, magnitudes in enumerate(self.magnitudes):
            known: dict[int | None, int] = dict(self.held_before[tile]) if same_level else {}
            for rank, magnitude in magnitudes.items():
                known[order[rank]] = min(known.get(order[rank], 0) + magnitude, 4)
            found.append(known)
        return found

    def mean_energy(self) -> int:
        return 8 * self.total // len(self.energy)

    def flag_table(self, token: int, tile: int) -> list[int]:
        """Running sums for the flag before a token."""
        model, kind = self.model, self.pass_.kind
        along = sum(self.tokens[other] >= max(token, 1) for other in self.around[tile])
        energy_before = self.before.energy[self.tile_before[tile]] if self.before is not None else 0
        before, own = (min(bin_of(energy), TILE_BINS - 1) for energy in (energy_before, self.energy[tile]))
        number = model.go[kind][self.step_index][token] + model.flag_around[kind][token][along][before]
        number += model.flag_own[kind][token][own]
        return [0, TOTAL - model.odds[min(max(number, 0), len(model.odds) - 1)], TOTAL]


# -- section 5.3: order ---------------------------------------------------------------------------------------


def read_pass(decoder: RangeDecoder, known: Context) -> None:
    """Fill `known` as symbols arrive, so that counts and values are right whenever Ended is raised."""
    model, sizes = known.model, known.sizes
    order = model.order[known.pass_.kind]
    has = {
        size: [a and b for a, b in zip(present_ranks(size, order, model.tile), known.here, strict=True)]
        for size in set(sizes)
    }
    furthest = {size: max(rank for rank, here in enumerate(has[size]) if here) for size in has}
    active, start = list(range(len(sizes))), 0
    for token, dims in enumerate(model.token_dims):
        active = [tile for tile in active if furthest[sizes[tile]] >= start]
        active = [tile for tile in active if decoder.symbol(known.flag_table(token, tile))]
        for tile in active:
            known.tokens[tile] = token + 1
            known.values[tile] += [0] * dims
        places = []
        for first in range(start, start + dims, GROUP):
            ranks = range(first, min(first + GROUP, start + dims))
            group = [(tile, rank) for rank in ranks for tile in active if has[sizes[tile]][rank]]
            places += [(tile, rank, symbol) for (tile, rank), symbol in read_group(decoder, known, token, group)]
        read_raw_bits(decoder, known, places)
        for tile in active:
            known.counts[tile] = token + 1
        start += dims


def read_group(
    decoder: RangeDecoder, known: Context, token: int, group: list[tuple[int, int]]
) -> list[tuple[tuple[int, int], int]]:
    """The symbols of a group's integers, given and returned with tile and rank of each."""
    symbols = []
    for tile, rank in group:
        symbol = decoder.symbol(known.table(token, rank, tile))
        symbols.append(symbol)
        if symbol:
            known.values[tile][rank] = integer(symbol, [])
            known.counts[tile] = token + 1
    found = list(zip(group, symbols, strict=True))
    for (tile, rank), symbol in found:
        known.learn(tile, rank, symbol)
    return found


def read_raw_bits(decoder: RangeDecoder, known: Context, places: list[tuple[int, int, int]]) -> None:
    for tile, rank, symbol in places:
        received = []
        for _ in range(raw_bits(symbol)):
            received.append(decoder.symbol(BIT))
            known.values[tile][rank] = integer(symbol, received)


def read_base(decoder: RangeDecoder, model: Model) -> int:
    symbol = decoder.symbol(SHORT_BASE)
    return model.usual_base - NEAR + symbol if symbol < LONG else decoder.symbol(LONG_BASE)


class Plane:
    """The passes of colour or of alpha: what is known of those that are coded, by number."""

    def __init__(self, grey: bool) -> None:
        self.grey, self.likely = grey, CODED
        self.known: dict[int, Context] = {}

    def read(self, decoder: RangeDecoder, number: int, pass_: Pass, base: int, model: Model) -> None:
        coded = decoder.symbol(self.likely)
        self.likely = CODED if coded else BIT
        if coded:
            before = self.known[max(self.known)] if self.known else None
            step_index = min(max(base - pass_.shift, 0), STEPS - 1)
            self.known[number] = Context(pass_, step_index, model, before, grey=self.grey)
            read_pass(decoder, self.known[number])

    def rows(self, plan: list[Pass], base: int | None, tile: int) -> list[dict[str, Any]]:
        """What is to be said of all passes."""
        rows = []
        for number, pass_ in enumerate(plan):
            known, tiles = self.known.get(number), len(tile_sizes(pass_.width, pass_.height, tile))
            rows.append(
                {
                    "kind": KINDS[pass_.kind],
                    "width": pass_.width,
                    "height": pass_.height,
                    "step_index": None if base is None else min(max(base - pass_.shift, 0), STEPS - 1),
                    "counts": known.counts if known else [0] * tiles,
                    "values": [without_zeros_at_end(v) for v in known.values] if known else [[] for _ in range(tiles)],
                }
            )
        return rows


def decode_stream(decoder: RangeDecoder, width: int, height: int, model: Model) -> dict[str, Any]:
    """Base (None if not received), whether the picture is grey, its passes and those of alpha (None if no token of
    alpha was received), of any payload whatever. Never fails."""
    plan, base, colour, alpha = passes(width, height, model), None, Plane(grey=False), Plane(grey=True)
    try:
        base = read_base(decoder, model)
        colour.grey = bool(decoder.symbol(RARE))
        opaque = False
        for number, pass_ in enumerate(plan):
            colour.read(decoder, number, pass_, base, model)
            opaque = not decoder.symbol(RARE) if number == 0 else opaque
            if not opaque:
                alpha.read(decoder, number, pass_, base, model)
    except Ended:
        pass
    rows, alpha_rows = (plane.rows(plan, base, model.tile) for plane in (colour, alpha))
    some = any(any(row["counts"]) for row in alpha_rows)
    return {"base": base, "grey": colour.grey, "passes": rows, "alpha": alpha_rows if some else None}


def without_zeros_at_end(values: list[int]) -> list[int]:
    end = len(values)
    while end and values[end - 1] == 0:
        end -= 1
    return values[:end]


def decode_tokens(data: bytes, model: bytes) -> dict[str, Any]:
    """All that a prow file says, given its model file.

    Returns width, height, model_id, state, base, grey, passes and alpha (None or passes); each pass has kind, width,
    height, step_index, counts (tokens of each tile) and values (ranked integers of each tile without zeros at the end).

    Raises Violation for R1 to R9 (damaged files are refused), Refused for R10, R11 and a bad model file.
    """
    fields = parse(data)
    if fields["state"] == "damaged":
        raise Violation("R9", "it does not match the bytes")
    tables = parse_model(model)
    width, height = fields["width"], fields["height"]
    if fields["model_id"] != tables.model_id:
        raise Refused(f"R10 (model): the file needs model {fields['model_id']}, {tables.model_id} came")
    if width * height > MAX_PIXELS:
        raise Refused(f"R11 (pixels): {width * height} came, at most {MAX_PIXELS} wanted")
    found = {name: fields[name] for name in ("width", "height", "model_id", "state")}
    return found | decode_stream(RangeDecoder(fields["payload"]), width, height, tables)


def main(arguments: list[str]) -> int:
    """Print the tokens of one file as JSON; 0 if it keeps all rules, 1 if not, 2 for wrong usage."""
    parser = argparse.ArgumentParser(prog="tokens.py", description="Print the tokens of a prow file as JSON.")
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--model", metavar="MODEL.safetensors", required=True)
    parser.add_argument("--values", action="store_true", help="the integers too, by tile and rank")
    options = parser.parse_args(arguments)
    try:
        with open(options.file, "rb") as file, open(options.model, "rb") as model:
            found = decode_tokens(file.read(), model.read())
    except (OSError, Violation, Refused) as error:
        print(f"{options.file}: {error}", file=sys.stderr)
        return 1
    for row in [*found["passes"], *(found["alpha"] or [])]:
        if not options.values:
            del row["values"]
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
