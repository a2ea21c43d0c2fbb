"""Rate control: exact sizes, what is searched for them, and what effort buys."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from conftest import draw_picture, psnr, read, same

import prow
from prow.backends.torch_backend import TorchBackend
from prow.coding.codec import Codec, Wanted
from prow.format import container
from prow.format.config import NEAR
from prow.format.geometry import passes
from prow.format.tokens import Tokens
from prow.search import rate
from prow.search.base_search import COARSEST, FINEST, Candidate, useful_passes
from prow.search.effort import EFFORTS
from prow.search.gradient_search import improved

pytestmark = pytest.mark.usefixtures("installed")

BUDGETS = (32, 33, 64, 257, 1000, 2000)


def at_bytes(codec: Codec, pixels: np.ndarray, room: int, number: int) -> rate.Stream:
    """The stream of one picture with effort 1 to 9."""
    effort = EFFORTS[number]

    def improve(pixels: np.ndarray, best: Candidate) -> tuple[bytes, Tokens]:
        assert isinstance(codec.backend, TorchBackend)
        return improved(codec.backend, pixels, best, effort.rounds)

    return rate.at_bytes(codec, [pixels], room, effort, improve if effort.rounds else None)[0]


def test_no_time_goes_into_levels_that_a_budget_cannot_fill(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor into filtering them. A picture of one colour says so little of these that there is room for more."""
    chosen, filtered, made = set(), set(), []
    choose, loop_filter, targets = TorchBackend.choose, TorchBackend.loop_filter, TorchBackend.targets
    monkeypatch.setattr(
        TorchBackend,
        "choose",
        lambda self, pass_, *a, **o: (chosen.add(pass_.level.width), choose(self, pass_, *a, **o))[1],
    )
    monkeypatch.setattr(
        TorchBackend,
        "loop_filter",
        lambda self, pass_, *a, **o: (filtered.add(pass_.level.width), loop_filter(self, pass_, *a, **o))[1],
    )
    monkeypatch.setattr(TorchBackend, "targets", lambda self, *a: (made.append(targets(self, *a)), made[-1])[1])
    pixels = draw_picture(640, 480)
    done = at_bytes(codec, pixels, 60, 5)
    assert len(done.content) == 60 and not done.exhausted
    assert max(chosen) <= max(part.shape[-1] for part in made[0]) == 160
    assert torch.equal(made[0][-1], targets(codec.backend, pixels)[len(made[0]) - 1])
    filtered.clear()
    assert codec.decode(done.tokens).shape == (3, 480, 640)
    assert max(filtered) < 320
    made.clear()
    chosen.clear()
    monkeypatch.setattr(rate, "_SPARSE", 1.0)
    done = at_bytes(codec, np.full((480, 640, 3), 77, np.uint8), 60, 1)
    assert len(done.content) == 60 and not done.exhausted
    assert [len(parts) for parts in made] == [3, len(passes(640, 480, codec.model.config))]
    assert 20 < max(chosen) < 640


# -- the search ---------------------------------------------------------------------------------------------------


def bases_tried(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows by the base of every stream that is made."""
    tried, encode_many = [], Codec.encode_many
    monkeypatch.setattr(
        Codec,
        "encode_many",
        lambda self, size, batch, **options: (
            tried.extend(wanted.base for wanted in batch),
            encode_many(self, size, batch, **options),
        )[1],
    )
    return tried


def test_efforts_try_more_and_more_bases(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    """First the usual one, which is all that the least effort looks at, and none twice."""
    tried, numbers, usual = bases_tried(monkeypatch), [], codec.model.config.usual_base
    assert sorted(EFFORTS) == list(range(1, 10))
    for effort in EFFORTS:
        tried.clear()
        done = at_bytes(codec, draw_picture(72, 56), 200, min(effort, 5))
        assert len(done.content) == 200 and not done.exhausted
        assert tried[0] == usual and len(set(tried)) == len(tried)
        assert all(FINEST <= base <= COARSEST for base in tried)
        assert done.tokens.base in tried
        numbers.append(len(tried))
    assert numbers == sorted(numbers) and numbers[0] == 1 < numbers[4]


def test_a_stream_that_is_too_short_calls_for_a_finer_base(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a picture that the usual base tells in less than what there is room for."""
    pixels, usual = draw_picture(9, 7), codec.model.config.usual_base
    sizes = {base: len(codec.encode(pixels, base).content) for base in range(usual - 3, usual + 1)}
    assert sizes[usual] < sizes[usual - 1]
    tried, room = bases_tried(monkeypatch), sizes[usual] + 1
    done = at_bytes(codec, pixels, room, 5)
    assert len(done.content) == room and not done.exhausted
    assert tried[0] == usual and done.tokens.base is not None and done.tokens.base < usual


def compared(codec: Codec, pixels: np.ndarray, room: int, effort: int) -> tuple[float, float]:
    """How far a file is from the picture, and how far a cut of the stream of the usual base is."""
    height, width = pixels.shape[:2]
    done = at_bytes(codec, pixels, room, effort)
    assert len(done.content) == room
    assert same(read(codec, done.content, width, height), done.tokens)
    content = codec.encode(pixels, codec.model.config.usual_base, room=room).content
    usual = read(codec, content[:room], width, height)
    last, targets = max(useful_passes(usual), useful_passes(done.tokens)), codec.backend.targets(pixels)
    found, before = (codec.distortion(tokens, targets, last) for tokens in (done.tokens, usual))
    return found, before


@pytest.mark.parametrize("room", [24, 60, 200, 900])
@pytest.mark.parametrize("seed", [2, 3])
def test_no_effort_is_worse_than_the_usual_base(room: int, seed: int, codec: Codec) -> None:
    pixels = draw_picture(72, 56, seed=seed)
    pairs = [compared(codec, pixels, room, effort) for effort in (1, 2, 3, 5, 7)]
    assert all(found <= before + 1e-3 for found, before in pairs)
    assert any(found < before - 0.01 for found, before in pairs)  # or there would be no need to search


@pytest.mark.parametrize("room", [100, 200])
def test_more_effort_is_never_worse(room: int, codec: Codec) -> None:
    pixels = draw_picture(72, 56, seed=2)
    found = [at_bytes(codec, pixels, room, effort).tokens for effort in (1, 3, 5, 9)]
    targets = codec.backend.targets(pixels)
    last = max(map(useful_passes, found))
    scores = [codec.distortion(tokens, targets, last) for tokens in found]
    assert scores == sorted(scores, reverse=True) and scores[-1] < scores[1]


# -- masters ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(64, 48), (100, 75), (31, 9)])
def test_with_the_least_effort_a_file_is_a_cut_of_the_master(size: tuple[int, int], codec: Codec) -> None:
    """The stream of the usual base with all passes, whatever the size of the cut."""
    pixels = draw_picture(*size)
    master = codec.encode(pixels, codec.model.config.usual_base).content
    for room in np.unique(np.geomspace(4, len(master) - 1, 25).astype(int)).tolist():
        done = at_bytes(codec, pixels, room, 1)
        assert done.content == master[:room]
        assert same(done.tokens, read(codec, master[:room], *size)) and not done.exhausted
    assert prow.encode(pixels, bytes=300, effort=1)[12:] == master[:288]


def test_a_cut_of_the_master_where_passes_end(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the passes that a room can fill have just so many bytes, the file goes on as the master does, too."""
    size = (64, 48)
    pixels, plan = draw_picture(*size), passes(*size, codec.model.config)
    master = codec.encode(pixels, codec.model.config.usual_base).content
    for count in range(1, plan[0].octaves + 1):
        first = Wanted(codec.model.config.usual_base, codec.backend.targets(pixels, count))
        length = len(codec.encode_many(size, [first])[0].content)
        level = plan[count - 1].level
        for room in range(max(1, length - 10), length + 3):
            monkeypatch.setattr(rate, "_SPARSE", 8 * room / (2 * level.width * level.height))  # so that there are these
            done = at_bytes(codec, pixels, room, 1)
            assert done.content == master[:room]
            assert same(done.tokens, read(codec, master[:room], *size))


# -- exact sizes -------------------------------------------------------------------------------------------------

PICTURES = {
    "drawing": lambda: draw_picture(96, 64),
    "small": lambda: draw_picture(31, 44, seed=3),
    "noise": lambda: np.random.default_rng(1).integers(0, 256, (48, 64, 3), np.uint8),
}


@pytest.mark.parametrize("name", PICTURES)
def test_budgets_are_exact(name: str) -> None:
    """Exactly N bytes for every N, and not one more; none of these pictures is told in 2,000 bytes."""
    pixels, scores = PICTURES[name](), []
    for budget in BUDGETS:
        data = prow.encode(pixels, bytes=budget)
        assert len(data) == budget
        info = prow.inspect(data)
        assert (info.state, info.declared_bytes, info.model, info.trailing_bytes) == ("whole", budget, "toy", 0)
        scores.append(psnr(pixels, prow.decode(data)))
    fall = 0.6 if name == "small" else 0.2  # the toy's networks are random: what they add to a few tiles is noise
    assert all(better > worse - fall for worse, better in zip(scores, scores[1:], strict=False))
    assert scores[-1] > scores[0] + (1 if name == "noise" else 5)


@pytest.mark.parametrize("budget", [16, 17, 40, 333])
def test_bare_profile_is_exact(budget: int) -> None:
    pixels = draw_picture(64, 48)
    data = prow.encode(pixels, bytes=budget, profile="bare")
    assert len(data) == budget
    info = prow.inspect(data)
    assert (info.profile, info.state, info.declared_bytes) == ("bare", "whole", None)
    assert prow.decode(data).size == (64, 48)
    head = container.header_bytes(64, 48, 0, "bare")
    whole = prow.encode(pixels, bytes=budget - head + 12) if budget > 32 else None
    if whole is not None:  # the same payload in another container
        assert whole[12:] == data[head:]
        assert np.array_equal(prow.decode(whole), prow.decode(data))


@pytest.mark.parametrize("bpp", [0.2, 0.77, 2])
def test_bpp_counts_the_whole_file(bpp: float) -> None:
    data = prow.encode(draw_picture(96, 64), bpp=bpp)
    assert len(data) == int(bpp * 96 * 64 / 8)


@pytest.mark.parametrize("size", [(17, 23), (64, 48)])
def test_quality_is_monotone_in_size(size: tuple[int, int]) -> None:
    pixels = draw_picture(*size)
    files = [prow.encode(pixels, quality=q) for q in np.linspace(0, 100, 25)]  # every other step
    sizes = [len(data) for data in files]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) >= 18  # of so small a picture, the lowest qualities say next to nothing
    scores = [psnr(pixels, prow.decode(data)) for data in files[::6]]
    assert all(later > earlier + 0.3 for earlier, later in zip(scores, scores[1:], strict=False))
    assert scores[-1] > scores[0] + 20
    assert prow.encode(pixels) == prow.encode(pixels, quality=50)


@pytest.mark.parametrize("size", [(1, 1), (17, 23), (768, 512)])
def test_quality_says_which_step_a_stream_ends_with(size: tuple[int, int], codec: Codec) -> None:
    plan, usual = passes(*size, codec.model.config), codec.model.config.usual_base
    coarsest = usual - plan[0].shift + 4 * plan[0].octaves
    found = {}
    for wanted in range(rate.LARGEST, rate.SMALLEST + 1):
        base, count = rate._ending(plan, usual, wanted)
        assert abs(base - usual) <= NEAR and 1 <= count <= len(plan)
        found[wanted] = base, count
        last = plan[count - 1]
        if wanted <= coarsest + NEAR:
            assert base - last.shift + 4 * last.octaves == wanted  # in units of full resolution
        else:
            assert (base, count) == (usual + NEAR, 1)  # the coarsest there is
    counts = [count for _, count in found.values()]
    assert counts == sorted(counts, reverse=True) and counts[0] == len(plan)
    for pass_ in plan:  # the usual base, wherever that will do
        index = usual - pass_.shift + 4 * pass_.octaves
        assert index not in found or found[index][0] == usual


def test_quality_chooses_base_and_last_pass(codec: Codec) -> None:
    pixels, plan = draw_picture(64, 48), passes(64, 48, codec.model.config)
    for quality, base, count in ((0, 35, 1), (25, 34, 2), (50, 32, 4), (62.5, 30, 5), (100, 32, 10)):
        wanted = round(rate.SMALLEST - (rate.SMALLEST - rate.LARGEST) * quality / 100)
        done = rate.at_quality(codec, [pixels], quality)[0]
        assert (base, count) == rate._ending(plan, 32, wanted) and done.tokens.base == base
        assert done.tokens.coded == list(range(count)) and len(done.tokens.passes) == 10
        assert same(read(codec, done.content, 64, 48), done.tokens)
        with_rest = codec.encode(pixels, base).tokens
        assert same(
            dataclasses.replace(with_rest, passes=with_rest.passes[:count]),
            dataclasses.replace(done.tokens, passes=done.tokens.passes[:count]),
        )


@pytest.mark.parametrize("budget", [500, 10**9])
def test_a_pixel_exhausts_the_model(budget: int) -> None:
    pixel = np.array([[[200, 30, 90]]], np.uint8)
    data = prow.encode(pixel, bytes=budget)
    assert 12 < len(data) < 40  # the model has nothing left to say, and says so by stopping
    assert prow.inspect(data).state == "whole"
    assert np.abs(np.asarray(prow.decode(data), int) - pixel).max() <= 1
    assert prow.encode(pixel, bytes=budget) == data


def test_exhausted_says_so(codec: Codec) -> None:
    pixels = draw_picture(9, 7)
    done = at_bytes(codec, pixels, 100_000, 5)
    assert done.exhausted and len(done.content) < 100_000
    assert same(read(codec, done.content, 9, 7), done.tokens)
    assert not same(read(codec, done.content[:-1], 9, 7), done.tokens)  # not a byte too long
    room = len(done.content) - 3
    cut = at_bytes(codec, pixels, room, 5)
    assert not cut.exhausted and len(cut.content) == room


def test_tokens_of_tokenize_are_those_of_the_file(codec: Codec) -> None:
    pixels = draw_picture(64, 48)
    tokens = prow.tokenize(pixels, bytes=300)
    data = prow.encode(pixels, bytes=300)
    assert same(tokens, read(codec, container.parse(data)[1], 64, 48))
    assert np.array_equal(prow.detokenize(tokens), prow.decode(data))
