"""Rate control: exact sizes, what is searched for them, and what effort buys."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import draw_picture, psnr, read, same

import prow
from prow import container, rate
from prow.codec import Codec
from prow.geometry import every_other, passes

pytestmark = pytest.mark.usefixtures("installed")

BUDGETS = (32, 33, 64, 257, 1000, 2000)


def test_no_time_goes_into_levels_that_a_budget_cannot_fill(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor into filtering them. A picture of one colour says so little that even the finest level is looked at."""
    chosen, filtered, made = set(), set(), []
    choose, finish, targets = Codec._choose_tokens, Codec._finish, Codec.targets
    monkeypatch.setattr(
        Codec, "_choose_tokens", lambda self, step, *a: (chosen.add(step.level.width), choose(self, step, *a))[1]
    )
    monkeypatch.setattr(
        Codec, "_finish", lambda self, step, *a, **o: (filtered.add(step.level.width), finish(self, step, *a, **o))[1]
    )
    monkeypatch.setattr(Codec, "targets", lambda self, *a: (made.append(targets(self, *a)), made[-1])[1])
    pixels = draw_picture(640, 480)
    done = rate.at_bytes(codec, [pixels], 60, 5)[0]
    assert len(done.content) == 60 and not done.exhausted
    assert max(chosen) == max(part.shape[-1] for part in made[0]) == 160
    assert torch.equal(made[0][-1], targets(codec, pixels)[len(made[0]) - 1])
    filtered.clear()
    assert codec.decode(done.tokens).shape == (3, 480, 640)
    assert max(filtered) < 320
    assert len(rate.at_bytes(codec, [np.full((480, 640, 3), 77, np.uint8)], 60, 5)[0].content) == 60
    assert max(chosen) == 640


def test_an_encoder_tries_several_plans(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    tried, sent = set(), set()
    encode_many = Codec.encode_many
    monkeypatch.setattr(
        Codec,
        "encode_many",
        lambda self, size, batch, **options: (
            tried.update(wanted.left_out for wanted in batch if self.config.network),
            encode_many(self, size, batch, **options),
        )[1],
    )
    size = (300, 32)
    plan = passes(*size, codec.config)
    rate.at_bytes(codec, [draw_picture(*size)], 500, 3)
    assert len(tried) == 1  # what is best for the anchor
    done = rate.at_bytes(codec, [draw_picture(*size)], 500, 5)[0]
    assert len(done.content) == 500
    assert tried == {every_other(plan, phase, lowest=lowest) for phase in (0, 1) for lowest in (True, False)}
    sent = {i for i, part in enumerate(done.tokens.passes) if part.counts.any()}
    assert any(not sent & left_out for left_out in tried)


@pytest.mark.parametrize("room", [60, 200])
def test_more_effort_is_never_worse(room: int, codec: Codec) -> None:
    pixels = draw_picture(72, 56, seed=2)
    scores = []
    for effort in (1, 3, 5, 9):
        done = rate.at_bytes(codec, [pixels], room, effort)[0]
        assert len(done.content) == room
        assert same(read(codec, done.content, 72, 56), done.tokens)
        targets = codec.targets(pixels)
        scores.append(codec.distortion(done.tokens, targets, len(targets) - 1))
    assert scores == sorted(scores, reverse=True) and scores[-1] < scores[1]
    assert sorted(rate.EFFORTS) == list(range(1, 10))


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
    files = [prow.encode(pixels, quality=q) for q in (0, 12.5, 25, 37, 50, 62, 75, 88, 100)]
    sizes = [len(data) for data in files]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) >= 8  # of so small a picture, the lowest qualities say nothing at all
    assert (
        psnr(pixels, prow.decode(files[-1])) > psnr(pixels, prow.decode(files[4])) > psnr(pixels, prow.decode(files[0]))
    )
    assert prow.encode(pixels) == prow.encode(pixels, quality=50)


def test_a_pixel_exhausts_the_model() -> None:
    pixel = np.array([[[200, 30, 90]]], np.uint8)
    data = prow.encode(pixel, bytes=500)
    assert 12 < len(data) < 40  # the model has nothing left to say, and says so by stopping
    assert prow.inspect(data).state == "whole"
    assert np.abs(np.asarray(prow.decode(data), int) - pixel).max() <= 1
    assert prow.encode(pixel, bytes=10**9) == data


def test_exhausted_says_so(codec: Codec) -> None:
    pixels = draw_picture(9, 7)
    done = rate.at_bytes(codec, [pixels], 100_000, 5)[0]
    assert done.exhausted and len(done.content) < 100_000
    assert same(read(codec, done.content, 9, 7), done.tokens)
    assert not same(read(codec, done.content[:-1], 9, 7), done.tokens)  # not a byte too long
    room = len(done.content) - 3
    cut = rate.at_bytes(codec, [pixels], room, 5)[0]
    assert not cut.exhausted and len(cut.content) == room


def test_tokens_of_tokenize_are_those_of_the_file(codec: Codec) -> None:
    pixels = draw_picture(64, 48)
    tokens = prow.tokenize(pixels, bytes=300)
    data = prow.encode(pixels, bytes=300)
    assert same(tokens, read(codec, container.parse(data)[1], 64, 48))
    assert np.array_equal(prow.detokenize(tokens), prow.decode(data))
