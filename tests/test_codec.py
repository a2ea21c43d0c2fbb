"""The whole way with a toy model: any size, exact budgets, and tokens that no float can change."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from conftest import Draw, draw_picture
from PIL import Image

import prow
from prow import container, rate, registry, stream
from prow.codec import ALLOCATIONS, Codec, Wanted, to_image
from prow.config import FULL, MIDDLE, REFINE, START
from prow.geometry import every_other, passes
from prow.registry import Model
from prow.stream import Tokens

pytestmark = pytest.mark.usefixtures("installed")

SIZES = [(1, 1), (1, 40), (40, 1), (17, 23), (64, 48), (200, 120)]
BUDGETS = (32, 33, 64, 257, 1000, 2000)


def psnr(wanted: np.ndarray, got: object) -> float:
    error = np.mean((np.asarray(got, float) - wanted) ** 2)
    return 10 * np.log10(255**2 / max(error, 1e-6))


def same(a: Tokens, b: Tokens) -> bool:
    head = (a.width, a.height, a.model_id, a.base) == (b.width, b.height, b.model_id, b.base)
    return head and all(
        np.array_equal(x.counts, y.counts) and np.array_equal(x.values, y.values)
        for x, y in zip(a.passes, b.passes, strict=True)
    )


def read(codec: Codec, content: bytes, width: int, height: int) -> Tokens:
    return stream.read(content, width, height, codec.config.model_id, codec.config, codec.tables)


@pytest.fixture
def threads() -> Iterator[None]:
    """Puts torch's number of threads back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


# -- both ways ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("refine", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_encoder_sees_what_the_decoder_sees(size: tuple[int, int], refine: bool, codec: Codec) -> None:
    pixels = draw_picture(*size)
    coded = codec.encode(pixels, 24, refine=refine)
    assert coded.content == stream.write(coded.tokens, codec.config, codec.tables)
    content = stream.trim(coded.content, coded.tokens, codec.config, codec.tables)
    received = read(codec, content, *size)
    assert same(received, coded.tokens)
    picture = codec.decode(received)
    assert picture.shape == (3, size[1], size[0])
    assert float((picture - codec.decode(coded.tokens, after=coded)).abs().max()) <= 1
    refined = [part.counts.any() for part in received.passes[-len(codec.config.refine_shifts) :]]
    assert not any(refined) if not refine else (all(refined) or size == (1, 1))


@pytest.mark.parametrize("size", SIZES)
def test_finer_steps_come_closer(size: tuple[int, int], codec: Codec) -> None:
    pixels = draw_picture(*size)
    scores = [
        psnr(pixels, to_image(codec.decode(codec.encode(pixels, base, refine=True).tokens))) for base in (48, 32, 16, 8)
    ]
    assert scores == sorted(scores)
    assert scores[-1] > 45


def test_tokens_are_those_of_the_plan(codec: Codec) -> None:
    tokens = codec.encode(draw_picture(100, 75), 16, refine=True).tokens
    plan = passes(100, 75, codec.config)
    for step, part in zip(plan, tokens.passes, strict=True):
        assert part.counts.shape == (step.level.tiles,)
        assert part.values.shape == (step.level.tiles, codec.config.coefficients)
        assert part.counts.min() >= 0 and part.counts.max() <= codec.config.tokens
        ends = np.array([0, *np.cumsum(codec.config.token_dims)])[part.counts]
        assert not part.values[np.arange(codec.config.coefficients) >= ends[:, None]].any()
    assert {plan[i].kind for i, part in enumerate(tokens.passes) if part.counts.any()} == {START, MIDDLE, FULL, REFINE}


@pytest.mark.parametrize("size", [(96, 64), (37, 50)])
def test_room_leaves_out_what_a_cut_drops(size: tuple[int, int], codec: Codec) -> None:
    """Encoding stops once there are bytes enough; these are the same, and so is the picture made of them."""
    pixels = draw_picture(*size)
    whole = codec.encode(pixels, 22, refine=True)
    stopped = 0
    for room in np.geomspace(16, len(whole.content) - 1, 24).astype(int):
        part = codec.encode(pixels, 22, refine=True, room=room)
        assert len(part.content) >= room and part.content[:room] == whole.content[:room]
        assert len(part.contexts) <= len(whole.contexts)
        stopped += len(part.contexts) < len(whole.contexts)
        received = read(codec, part.content[:room], *size)
        resumed = [codec.decode(received, after=coded) for coded in (part, whole)]
        assert all(torch.equal(picture, codec.decode(received)) for picture in resumed)
    assert stopped > 3
    assert torch.equal(codec.decode(whole.tokens, after=whole), codec.decode(whole.tokens))
    other = codec.encode(pixels, 30).tokens  # of another base step: nothing is taken over
    assert torch.equal(codec.decode(other, after=whole), codec.decode(other))


@pytest.mark.parametrize("allocation", ALLOCATIONS)
def test_allocations_are_valid_streams(allocation: str, codec: Codec) -> None:
    pixels = draw_picture(64, 48)
    coded = codec.encode(pixels, 26, refine=True, allocation=allocation)
    received = read(codec, stream.write(coded.tokens, codec.config, codec.tables), 64, 48)
    assert same(received, coded.tokens)
    for step, part in zip(passes(64, 48, codec.config), received.passes, strict=True):
        if allocation == "even":  # 64 x 48 px are whole tiles of 8 px at every level of more than one tile
            assert len(np.unique(part.counts)) == 1 or step.level.tiles == 1
    assert psnr(pixels, to_image(codec.decode(received))) > 25


def test_slopes_are_worth_it(codec: Codec) -> None:
    """Detail in one corner only: tiles that choose their own prefix get a better picture out of the same bytes."""
    pixels = np.full((64, 96, 3), 120, np.uint8)
    pixels[40:, 64:] = draw_picture(32, 24)
    scores = {}
    for allocation in ALLOCATIONS:

        class Fixed(Codec):
            def encode_many(self, size, batch, **options):  # type: ignore[override]
                return super().encode_many(size, batch, **{**options, "allocation": allocation})  # noqa: B023

        fixed = Fixed(codec.network, codec.tables)
        coded = rate.at_bytes(fixed, [pixels], 300, 3)[0]
        assert len(coded.content) == 300
        scores[allocation] = psnr(pixels, to_image(codec.decode(coded.tokens)))
    assert scores["slope"] > scores["even"] + 0.5


def test_no_time_goes_into_levels_that_a_budget_cannot_fill(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor into filtering them. A picture of one colour says so little that even the finest level is looked at."""
    chosen, filtered, made = set(), set(), []
    choose, finish, targets = Codec._choose_tokens, Codec._finish, Codec.targets
    monkeypatch.setattr(
        Codec, "_choose_tokens", lambda self, step, *a: (chosen.add(step.level.width), choose(self, step, *a))[1]
    )
    monkeypatch.setattr(
        Codec, "_finish", lambda self, step, *a: (filtered.add(step.level.width), finish(self, step, *a))[1]
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


def test_what_an_encoder_knows_changes_no_picture(codec: Codec) -> None:
    """A decoder that goes on from an encoder's pictures leaves out the same filters as one that starts anew."""
    coded = codec.encode(draw_picture(640, 480), 56)
    assert len(coded.contexts) > 1 and coded.tokens.unfiltered(codec.config) > 1  # with tokens at coarse levels alone
    for size in (4, 20, 40, len(coded.content)):
        tokens = read(codec, coded.content[:size], 640, 480)
        torch.testing.assert_close(codec.decode(tokens, after=coded), codec.decode(tokens), rtol=0, atol=1e-2)


def test_passes_can_be_left_out(codec: Codec) -> None:
    """That costs a bit each, and the next pass learns from the one before them as if they were not there."""
    pixels, size = draw_picture(96, 64), (96, 64)
    plan, sets = passes(*size, codec.config), [frozenset(out) for out in ((), (1,), (2, 4), (1, 2, 3))]
    assert len(plan) == 6 and every_other(plan) == {1, 3}
    wanted = [Wanted(24, codec.targets(pixels), left_out=left_out) for left_out in sets]
    together = codec.encode_many(size, wanted)
    for left_out, one, coded in zip(sets, wanted, together, strict=True):
        sent = [i for i, part in enumerate(coded.tokens.passes) if part.counts.any()]
        assert sent == [i for i in range(5) if i not in left_out]
        assert same(codec.encode_many(size, [one])[0].tokens, coded.tokens)
        received = read(codec, coded.content, *size)
        assert same(received, coded.tokens)
        assert float((codec.decode(received) - codec.decode(coded.tokens, after=coded)).abs().max()) <= 1
        writers = [stream.Writer(24, codec.config, codec.tables) for _ in range(2)]
        for index, (step, part) in enumerate(zip(plan, coded.tokens.passes, strict=True)):
            writers[0].add(step, part)
            if index in sent:
                writers[1].add(step, part)
        longer, shorter = (len(writer.bytes()) for writer in writers)
        assert shorter <= longer <= shorter + 4  # words of 4 bytes
    assert same(codec.encode(pixels, 24).tokens, codec.encode_many(size, [Wanted(24, codec.targets(pixels))])[0].tokens)


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


def test_gradients_are_those_of_the_decoder(codec: Codec) -> None:
    """An integer that is moved by a little moves the error as its gradient says."""
    pixels = draw_picture(40, 30)
    tokens = codec.encode(pixels, 26).tokens
    plan = passes(40, 30, codec.config)
    last = len(plan) - 1 - len(codec.config.refine_shifts)
    target = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float()
    gradients = codec.gradients(tokens, target, last)
    assert [g.shape for g in gradients] == [part.values.shape for part in tokens.passes[: last + 1]]
    for index, gradient in enumerate(gradients):
        tile, rank = np.unravel_index(int(gradient.abs().argmax()), gradient.shape)
        errors = []
        for change in (-1, 1):
            values = tokens.passes[index].values.copy()
            values[tile, rank] += change
            part = dataclasses.replace(tokens.passes[index], values=values)
            parts = (*tokens.passes[:index], part, *tokens.passes[index + 1 :])
            picture = codec.decode(dataclasses.replace(tokens, passes=parts), last=last)
            errors.append(float((picture - target[0]).square().mean()))
        assert (errors[1] - errors[0]) / 2 == pytest.approx(float(gradient[tile, rank]), rel=0.3)


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


# -- any prefix --------------------------------------------------------------------------------------------------


def test_every_prefix_is_a_file() -> None:
    pixels = draw_picture(64, 48)
    data = prow.encode(pixels, bytes=240)
    scores = []
    for n in range(12, 241, 4):
        state = prow.inspect(data[:n]).state
        assert state == ("whole" if n == 240 else "cut")
        scores.append(psnr(pixels, prow.decode(data[:n])))
        if n > 12:
            assert np.array_equal(prow.decode(prow.truncate(data, n)), prow.decode(data[:n]))
    assert scores[-1] == max(scores) and scores[0] == min(scores)
    assert all(later > max(scores[: i + 1]) - 1 for i, later in enumerate(scores[1:]))


def test_tokens_only_grow_with_the_prefix(codec: Codec) -> None:
    content = container.parse(prow.encode(draw_picture(64, 48), bytes=400))[1]
    counts = np.zeros(1, int)
    for n in range(0, len(content) + 1, 7):
        now = np.concatenate([part.counts for part in read(codec, content[:n], 64, 48).passes])
        assert np.all(now >= counts)
        counts = now
    assert counts.sum() > 20


def test_a_header_alone_is_a_grey_picture() -> None:
    data = prow.encode(draw_picture(64, 48), bytes=64)
    assert np.asarray(prow.decode(data[:12])).std() < 8  # a network may paint a little even without a token
    assert prow.inspect(data[:12]).step is None


# -- floats may differ, tokens may not ---------------------------------------------------------------------------


def test_threads_change_nothing(threads: None, codec: Codec) -> None:
    pixels = draw_picture(200, 120)
    files, tokens, pictures = [], [], []
    for number in (1, 2):
        torch.set_num_threads(number)
        files.append(prow.encode(pixels, bytes=900))
        tokens.append(read(codec, container.parse(files[0])[1], 200, 120))
        pictures.append(np.asarray(prow.decode(files[0]), int))
    assert files[0] == files[1]
    assert same(*tokens)
    assert np.abs(pictures[0] - pictures[1]).max() <= 1


def perturbed(codec: Codec, amount: float) -> Codec:
    """The codec of a machine whose arithmetic is off: every weight times 1 +- amount."""
    network = copy.deepcopy(codec.network)
    generator = torch.Generator().manual_seed(5)
    for tensor in [*network.parameters(), *network.buffers()]:
        tensor.mul_(1 + amount * torch.randn(tensor.shape, generator=generator))
    return Codec(network, codec.tables)


def test_the_entropy_coder_does_not_notice_other_floats(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder whose weights are all off by 1e-3 gets other pixels, but exactly the tokens that were sent."""
    pixels, seen = draw_picture(64, 48), []
    data = prow.encode(pixels, bytes=700)
    sent = prow.tokenize(pixels, bytes=700)
    clean = np.asarray(prow.decode(data), int)
    other = perturbed(codec, 1e-3)
    monkeypatch.setattr(registry, "_network", lambda name, device: other.network)
    decode_many = Codec.decode_many
    monkeypatch.setattr(Codec, "decode_many", lambda self, batch: decode_many(self, seen.extend(batch) or batch))
    picture = np.asarray(prow.decode(data), int)
    assert len(seen) == 1 and same(seen[0], sent)
    assert 1 <= np.abs(picture - clean).max() <= 20


def test_an_encoder_with_other_floats_is_understood(codec: Codec) -> None:
    pixels = draw_picture(64, 48)
    sent = perturbed(codec, 1e-3).encode(pixels, 24).tokens
    assert not same(sent, codec.encode(pixels, 24).tokens)  # its choices are its own
    received = read(codec, stream.write(sent, codec.config, codec.tables), 64, 48)
    assert same(received, sent)
    assert psnr(pixels, to_image(codec.decode(received))) > 30


# -- pictures that are unlike photos -----------------------------------------------------------------------------


def checker(width: int, height: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.repeat(np.where((x + y) % 2, 255, 0).astype(np.uint8)[..., None], 3, axis=2)


def gradient(width: int, height: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 / (width - 1), y * 255 / (height - 1), 255 - x * 255 / (width - 1)], -1).astype(np.uint8)


UNUSUAL = {
    # name: (picture, PSNR in dB at 600 bytes that even a toy reaches)
    "black": (np.zeros((40, 56, 3), np.uint8), 40),
    "white": (np.full((40, 56, 3), 255, np.uint8), 40),
    "one colour": (np.broadcast_to(np.array([255, 0, 17], np.uint8), (40, 56, 3)), 40),
    "gradient": (gradient(56, 40), 36),
    "checker": (checker(56, 40), 6),
    "noise": (np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8), 9),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_pictures(name: str) -> None:
    pixels, least = UNUSUAL[name]
    for budget in (32, 600):
        data = prow.encode(pixels, bytes=budget)
        assert len(data) <= budget
        score = psnr(pixels, prow.decode(data))
    assert score > least


@pytest.mark.parametrize("size", SIZES)
def test_any_size_through_the_api(size: tuple[int, int], draw: Draw) -> None:
    for profile in ("file", "bare"):
        data = prow.encode(draw(*size), bytes=60, profile=profile)
        assert len(data) <= 60
        image = prow.decode(data)
        assert isinstance(image, Image.Image)
        assert (image.mode, image.size) == ("RGB", size)


def test_the_toy_model_stands_alone(toy_model: Model) -> None:
    assert [(m.id, m.name, m.is_default) for m in prow.models()] == [(120, "toy", True)]
    assert prow.models()[0].weights_bytes == len(toy_model.content)
