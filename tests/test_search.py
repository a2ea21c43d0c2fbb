"""The search for the base, with an encoder without networks: what is proposed, in which order, and when it is over."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from conftest import TOY
from hypothesis import given, settings
from hypothesis import strategies as st

from format_spec.make_vectors import random_tokens
from prow.coding.codec import PENDING, Coded, Wanted
from prow.entropy.model import Model, StreamSpec
from prow.entropy.reader import read
from prow.entropy.writer import written
from prow.format.tokens import Tokens
from prow.search.base_search import COARSEST, FINEST, BaseSearch, run, useful_passes
from prow.search.effort import EFFORTS, Effort
from prow.search.rate import PROBE

SIZE = (61, 45)
USUAL = TOY.usual_base
FEW, ALL = 40, 200  # bytes of the two stages here
MANY = Effort(probes=99, tries=1)  # as many as there are


@functools.cache
def drawn(model: Model, base: int, rich: bool) -> Coded:
    """Tokens at random, the same ones for a base each time; none unless `rich`."""
    tokens = StreamSpec(*SIZE, model).empty(base)
    if rich:
        tokens = random_tokens(*SIZE, base, model, np.random.default_rng(base), density=0.5)
    writer = written(tokens, model)
    return Coded(tokens, writer.bytes(), writer.classes(), ())


class FakeCodec:
    """An encoder that draws its tokens, for `rich` bases alone, and judges them by how far the base is from the ideal.

    What a picture should arrive at is its ideal base, once for each pass.

    Attributes:
        batches: the bases of each call. rooms: likewise. judged: base, pass and wanted base of each distortion.
    """

    def __init__(self, model: Model, rich: Callable[[int], bool] = lambda base: True) -> None:
        self.spec, self.rich = StreamSpec(*SIZE, model), rich
        self.batches: list[list[int]] = []
        self.rooms: list[list[int | None]] = []
        self.judged: list[tuple[int, int, float]] = []

    def encode_many(self, size: tuple[int, int], batch: Sequence[Wanted]) -> list[Coded]:
        assert size == SIZE and len(self.batches) < 100  # or the search would never end
        self.batches.append([wanted.base for wanted in batch])
        self.rooms.append([wanted.room for wanted in batch])
        return [self.coded(wanted.base) for wanted in batch]

    def coded(self, base: int) -> Coded:
        return drawn(self.spec.model, base, self.rich(base))

    def distortion(self, tokens: Tokens, targets: list[float], last: int, after: Coded | None = None) -> float:
        assert tokens.base is not None and after is self.coded(tokens.base)
        self.judged.append((tokens.base, last, targets[last]))
        return abs(tokens.base - targets[last])

    def search(
        self, ideal: float, effort: Effort = MANY, room: int = FEW, probe: int = FEW, count: int | None = None
    ) -> BaseSearch:
        """Of `count` passes, all by default."""
        targets = [ideal] * len(self.spec.passes[:count])
        return BaseSearch(self, self.spec, Wanted(USUAL, targets), room, effort, probe)

    def run(self, *searches: BaseSearch) -> list[int]:
        """The bases that one search proposes, or several in turn."""
        run(self, SIZE, searches)
        return [base for batch in self.batches for base in batch]


@pytest.fixture
def fake(toy_model: Model) -> FakeCodec:
    return FakeCodec(toy_model)


def test_the_streams_of_the_fake_are_long_enough(fake: FakeCodec) -> None:
    assert min(len(fake.coded(base).content) for base in range(FINEST, COARSEST + 1)) >= ALL + PENDING


# -- what is proposed ---------------------------------------------------------------------------------------------


def test_the_usual_base_comes_first_then_what_is_around_the_best(fake: FakeCodec) -> None:
    """At distances 4, 2 and 1, always of the best one so far, first on the side that is better, and none twice."""
    search = fake.search(ideal=37)
    around_usual, around_36, around_37 = [28, 36], [40, 38, 34, 37], [33, 41, 35, 39]
    assert fake.run(search) == [USUAL, *around_usual, *around_36, *around_37]
    assert search.best is not None and search.best.tokens.base == 37
    assert search.propose() is None


def test_the_usual_base_stays_if_all_around_it_is_worse(fake: FakeCodec) -> None:
    assert fake.run(fake.search(ideal=USUAL)) == [USUAL + offset for offset in (0, -4, 4, -2, 2, -1, 1)]


@pytest.mark.parametrize(("ideal", "last"), [(-100, FINEST), (100, COARSEST)])
def test_bases_stay_where_tables_know_them(ideal: int, last: int, fake: FakeCodec) -> None:
    search = fake.search(ideal)
    tried = fake.run(search)
    assert search.best is not None and search.best.tokens.base == last
    assert (min if ideal < 0 else max)(tried) == last


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 63), st.integers(1, 12), st.integers(1, 12))
def test_any_search_goes_from_the_best_to_its_neighbours(toy_model: Model, ideal: int, probes: int, tries: int) -> None:
    fake = FakeCodec(toy_model)
    search = fake.search(ideal + 0.4, Effort(probes, tries), ALL, FEW)  # 0.4, so that no two bases are as good
    tried = fake.run(search)
    rooms = [room for (room,) in fake.rooms]
    first, second = tried[: rooms.count(FEW)], tried[rooms.count(FEW) :]
    assert rooms == [FEW] * len(first) + [ALL] * len(second)
    start = USUAL
    for stage, most in ((first, probes), (second, tries)):
        assert 1 <= len(stage) <= most and len(set(stage)) == len(stage)
        assert stage[0] == start
        for i, base in enumerate(stage[1:], 1):
            best = min(stage[:i], key=lambda b: abs(b - ideal - 0.4))
            finer = max((b for b in stage[:i] if b < best), default=-math.inf)
            coarser = min((b for b in stage[:i] if b > best), default=math.inf)
            both = finer >= FINEST and coarser <= COARSEST
            side = 1 if both and abs(coarser - ideal - 0.4) < abs(finer - ideal - 0.4) else -1
            open_ = [best + side * d for d in (4, -4, 2, -2, 1, -1)]
            assert base == next(b for b in open_ if FINEST <= b <= COARSEST and b not in stage[:i])
        start = min(stage, key=lambda b: abs(b - ideal - 0.4))
        around = {start + d for d in (-4, 4, -2, 2, -1, 1) if FINEST <= start + d <= COARSEST}
        assert len(stage) == most or around <= set(stage)  # it never ends early
    assert search.best is not None and search.best.tokens.base == start
    assert sorted(search.tried) == sorted(second)


@pytest.mark.parametrize("number", EFFORTS)
@pytest.mark.parametrize("ideal", [20, USUAL, 45])
def test_never_more_proposals_than_the_effort_allows(number: int, ideal: int, toy_model: Model) -> None:
    fake, effort = FakeCodec(toy_model), EFFORTS[number]
    tried = fake.run(fake.search(ideal, effort, ALL, FEW))
    assert 2 <= len(tried) <= effort.probes + effort.tries
    assert fake.rooms.count([FEW]) <= effort.probes and fake.rooms.count([ALL]) <= effort.tries


# -- stages -------------------------------------------------------------------------------------------------------


def test_the_second_stage_begins_with_the_best_base_of_the_first(fake: FakeCodec) -> None:
    tried = fake.run(fake.search(26, Effort(4, 3), ALL, FEW))
    assert tried[:4] == [32, 28, 24, 26]
    assert tried[4:] == [26, 22, 30]  # anew, since a base that is good for a few bytes may not be so for more
    assert fake.rooms == [[FEW]] * 4 + [[ALL]] * 3


@pytest.mark.parametrize("room", [PROBE - 1, PROBE])
@pytest.mark.parametrize("effort", [Effort(4, 1), Effort(4, 4), Effort(2, 5)])
def test_a_room_of_a_probe_or_less_is_one_stage(room: int, effort: Effort, toy_model: Model) -> None:
    """What was tried is not tried again: there are as many proposals as the larger number."""
    fake = FakeCodec(toy_model)
    search = fake.search(26, effort, room, PROBE)
    most = max(effort.probes, effort.tries)
    assert fake.run(search) == [32, 28, 24, 26, 22][:most]
    assert fake.rooms == [[room]] * most and len(search.tried) == most
    fake = FakeCodec(toy_model)
    fake.run(fake.search(26, effort, PROBE + 1, PROBE))
    assert fake.rooms == [[PROBE]] * effort.probes + [[PROBE + 1]] * effort.tries


# -- streams that are too short -----------------------------------------------------------------------------------


def test_streams_that_are_too_short_lead_to_finer_bases(toy_model: Model) -> None:
    """Until one is long enough; then the search is for the best as ever, among those that are."""
    fake = FakeCodec(toy_model, rich=lambda base: base <= 22)
    search = fake.search(ideal=40)
    to_finer, around_20, around_22 = [32, 28, 24, 20], [16, 18, 22], [26, 21, 23]
    assert fake.run(search) == [*to_finer, *around_20, *around_22]
    assert search.best is not None and search.best.tokens.base == 22
    assert {base for base, *_ in fake.judged} == {16, 18, 20, 21, 22}


def test_if_all_streams_are_too_short_there_is_no_best_one(toy_model: Model) -> None:
    fake = FakeCodec(toy_model, rich=lambda base: False)
    search = fake.search(ideal=40, effort=Effort(99, 2), room=ALL)
    assert fake.run(search) == [32, 28, 24, 20, 16, 12, 8, 10, 9, FINEST, FINEST + 4]
    assert fake.rooms == [[FEW]] * 9 + [[ALL]] * 2
    assert search.best is None and sorted(search.tried) == [FINEST, FINEST + 4] and fake.judged == []


def test_bytes_that_a_later_pass_would_change_do_not_count(fake: FakeCodec) -> None:
    """If there are more passes than were run, the last bytes of a stream are those of its end and no other's."""
    length, plan = len(fake.coded(USUAL).content), fake.spec.passes
    for count, least in ((len(plan), length), (len(plan) - 1, length - PENDING)):
        for room, fits in ((least, True), (least + 1, False)):
            search = fake.search(USUAL, Effort(1, 1), room, room, count)
            run(fake, SIZE, [search])
            assert (search.best is not None) == fits


# -- what is found ------------------------------------------------------------------------------------------------


def test_the_best_stream_is_a_cut_of_the_room(fake: FakeCodec) -> None:
    search = fake.search(30, EFFORTS[7], ALL, FEW)
    fake.run(search)
    best = search.best
    assert best is not None and best.coded is search.tried[30] is fake.coded(30)
    assert best.content == best.coded.content[:ALL] and len(best.content) == ALL
    assert best.tokens.same_as(read(best.content, fake.spec)) and not best.tokens.same_as(best.coded.tokens)


def test_two_streams_are_compared_after_the_same_pass_and_each_once(fake: FakeCodec) -> None:
    """The last one that matters to either. What is known of a stream is not found out again."""
    search = fake.search(37, room=ALL, probe=ALL)
    fake.run(search)
    assert len(set(fake.judged)) == len(fake.judged) > len(search.tried)
    useful = {base: useful_passes(read(fake.coded(base).content[:ALL], fake.spec)) for base in search.tried}
    assert len(set(useful.values())) > 1 and all(last >= useful[base] for base, last, _ in fake.judged)
    assert all(last in useful.values() for _, last, _ in fake.judged)


def test_passes_matter_up_to_the_share_of_integers_that_is_wanted(fake: FakeCodec) -> None:
    tokens = fake.spec.empty(USUAL)
    assert useful_passes(tokens) == 0
    for index, number in ((1, 60), (2, 38), (5, 2)):
        tokens.passes[index].values[0, :number] = -1
    assert [useful_passes(tokens, share) for share in (0.1, 0.6, 0.61, 0.98, 0.99, 1)] == [1, 1, 2, 2, 5, 5]
    assert useful_passes(tokens) == 2


# -- several searches ---------------------------------------------------------------------------------------------


def test_what_two_searches_propose_is_encoded_together(toy_model: Model) -> None:
    """Each finds what it finds by itself, and the longer one goes on alone."""
    alone, results = [], []
    ideals = [(37, MANY), (26, Effort(4, 1))]
    for ideal, effort in ideals:
        fake = FakeCodec(toy_model)
        search = fake.search(ideal, effort)
        alone.append(fake.run(search))
        results.append(search)
    fake = FakeCodec(toy_model)
    together = [fake.search(ideal, effort) for ideal, effort in ideals]
    run(fake, SIZE, together)
    short = len(alone[1])
    assert short == 4 < len(alone[0]) == len(fake.batches)
    assert fake.batches == [*map(list, zip(*alone, strict=False)), *([base] for base in alone[0][short:])]
    for one, other in zip(results, together, strict=True):
        assert one.best is not None and other.best is not None
        assert one.best.content == other.best.content and list(one.tried) == list(other.tried)


def test_no_search_no_work(fake: FakeCodec) -> None:
    run(fake, SIZE, [])
    assert fake.batches == []


class Shortest:
    """The coarsest base that says at least so much, by bisection: another kind of search."""

    def __init__(self, least: int) -> None:
        self.least, self.low, self.high = least, FINEST, COARSEST  # the low one is long enough

    def propose(self) -> Wanted | None:
        return Wanted((self.low + self.high + 1) // 2, []) if self.low < self.high else None

    def observe(self, coded: Coded) -> None:
        base = coded.tokens.base
        assert base == (self.low + self.high + 1) // 2
        self.low, self.high = (base, self.high) if len(coded.content) >= self.least else (self.low, base - 1)


def test_any_kind_of_search_runs(toy_model: Model) -> None:
    """Alone, and side by side with one for a base."""
    fake = FakeCodec(toy_model, rich=lambda base: base <= 27)
    alone, beside, ours = Shortest(ALL), Shortest(ALL), fake.search(ideal=20)
    run(fake, SIZE, [alone])
    assert (alone.low, alone.high) == (27, 27) and all(len(batch) == 1 for batch in fake.batches)
    bisected, fake.batches = [base for (base,) in fake.batches], []
    run(fake, SIZE, [ours, beside])
    assert beside.low == 27 and ours.best is not None and ours.best.tokens.base == 20
    assert [batch[1] for batch in fake.batches if len(batch) == 2] == bisected
