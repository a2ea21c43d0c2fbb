"""The whole way with a toy model: any size, exact budgets, and tokens that no float can change."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from conftest import Draw, draw_picture, psnr, read, same
from PIL import Image

import prow
from prow import container, rate, registry, stream
from prow.base_codec import ALLOCATIONS, Wanted
from prow.codec import Codec, to_image
from prow.config import FULL, MIDDLE, REFINE, START, step_size
from prow.geometry import passes
from prow.registry import Model

pytestmark = pytest.mark.usefixtures("installed")

SIZES = [(1, 1), (1, 40), (40, 1), (17, 23), (64, 48), (200, 120)]


@pytest.fixture
def threads() -> Iterator[None]:
    """Puts torch's number of threads back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


# -- both ways ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("refined", [0, 2])
@pytest.mark.parametrize("size", SIZES)
def test_encoder_sees_what_the_decoder_sees(size: tuple[int, int], refined: int, codec: Codec) -> None:
    pixels, plan = draw_picture(*size), passes(*size, codec.config)
    count = plan[0].depth + 1 + refined
    coded = codec.encode(pixels, 24, targets=codec.targets(pixels, count))
    assert coded.content == stream.write(coded.tokens, codec.config, codec.tables)
    content = stream.trim(coded.content, coded.tokens, codec.config, codec.tables)
    received = read(codec, content, *size)
    assert same(received, coded.tokens)
    picture = codec.decode(received)
    assert picture.shape == (3, size[1], size[0])
    assert float((picture - codec.decode(coded.tokens, after=coded)).abs().max()) <= 1
    sent = [part.counts.any() for part in received.passes]
    assert (all(sent[:count]) or size == (1, 1)) and not any(sent[count:])
    assert len(coded.contexts) == count


@pytest.mark.parametrize("size", SIZES)
def test_finer_steps_come_closer(size: tuple[int, int], codec: Codec) -> None:
    """By a finer base step, and by each refining pass."""
    pixels = draw_picture(*size)
    levels = passes(*size, codec.config)[0].depth + 1

    def score(base: int, refined: int) -> float:
        targets = codec.targets(pixels, levels + refined)
        return psnr(pixels, to_image(codec.decode(codec.encode(pixels, base, targets=targets).tokens)))

    scores = [score(base, 0) for base in (48, 32, 16, 8)]
    assert scores == sorted(scores) and scores[0] < scores[-1]
    scores = [score(32, refined) for refined in range(0, 7, 2)]
    assert scores == sorted(scores) and scores[0] < scores[-1]
    assert scores[-1] > 45


def test_tokens_are_those_of_the_plan(codec: Codec) -> None:
    pixels, plan = draw_picture(100, 75), passes(100, 75, codec.config)
    tokens = codec.encode(pixels, 16, targets=codec.targets(pixels, plan[0].depth + 3)).tokens
    for step, part in zip(plan, tokens.passes, strict=True):
        assert part.counts.shape == (step.level.tiles,)
        assert part.values.shape == (step.level.tiles, codec.config.coefficients)
        assert part.counts.min() >= 0 and part.counts.max() <= codec.config.tokens
        ends = np.array([0, *np.cumsum(codec.config.token_dims)])[part.counts]
        assert not part.values[np.arange(codec.config.coefficients) >= ends[:, None]].any()
    assert {plan[i].kind for i, part in enumerate(tokens.passes) if part.counts.any()} == {START, MIDDLE, FULL, REFINE}


def test_each_refining_pass_leaves_less_to_say(codec: Codec) -> None:
    """A mean square error below a third of its own step's square, and less than the pass before it."""
    pixels, plan = draw_picture(64, 48), passes(64, 48, codec.config)
    coded = codec.encode(pixels, 32)
    target, levels = torch.from_numpy(pixels.copy()).permute(2, 0, 1).float(), plan[0].depth + 1
    assert len(coded.contexts) == len(plan) == levels + len(codec.config.refine_shifts)
    errors = [float((context[0] - target).square().mean()) for context in coded.contexts[levels:]]
    assert all(finer < coarser for coarser, finer in zip(errors, errors[1:], strict=False))
    for error, step in zip(errors, plan[levels - 1 :], strict=False):
        assert error < step_size(step.step_index(32)) ** 2 / 3


@pytest.mark.parametrize("size", [(96, 64), (37, 50)])
def test_room_leaves_out_what_a_cut_drops(size: tuple[int, int], codec: Codec) -> None:
    """Encoding stops once there are bytes enough; these are the same, and so is the picture made of them."""
    pixels = draw_picture(*size)
    targets = codec.targets(pixels, passes(*size, codec.config)[0].depth + 3)
    whole = codec.encode(pixels, 22, targets=targets)
    stopped = 0
    for room in np.geomspace(16, len(whole.content) - 1, 24).astype(int):
        part = codec.encode(pixels, 22, targets=targets, room=room)
        assert len(part.content) >= room and part.content[:room] == whole.content[:room]
        assert len(part.contexts) <= len(whole.contexts)
        stopped += len(part.contexts) < len(whole.contexts)
        received = read(codec, part.content[:room], *size)
        resumed = [codec.decode(received, after=coded) for coded in (part, whole)]
        assert all(torch.equal(picture, codec.decode(received)) for picture in resumed)
    assert stopped > 3
    assert torch.equal(codec.decode(whole.tokens, after=whole), codec.decode(whole.tokens))
    other = codec.encode(pixels, 30, targets=targets).tokens  # of another base step: nothing is taken over
    assert torch.equal(codec.decode(other, after=whole), codec.decode(other))


def test_targets_are_those_of_the_passes_asked_for(codec: Codec) -> None:
    """No pass beyond these is run, nor are its tokens."""
    pixels, plan = draw_picture(60, 45), passes(60, 45, codec.config)
    every = codec.targets(pixels)
    assert [t.shape for t in every] == [(1, 3, step.level.height, step.level.width) for step in plan]
    assert torch.equal(every[-1][0], torch.from_numpy(pixels.copy()).permute(2, 0, 1).float())
    whole = codec.encode(pixels, 28)
    for count in (1, 2, plan[0].depth, plan[0].depth + 1, len(plan)):
        targets = codec.targets(pixels, count)
        assert len(targets) == count
        assert all(torch.allclose(a, b, atol=1e-3) for a, b in zip(targets, every, strict=False))
        coded = codec.encode(pixels, 28, targets=targets)
        assert len(coded.contexts) == count
        sent = [part.counts.any() for part in coded.tokens.passes]
        assert sent == [True] * count + [False] * (len(plan) - count)
        assert all(
            np.array_equal(a.values, b.values)
            for a, b in list(zip(coded.tokens.passes, whole.tokens.passes, strict=True))[:count]
        )


@pytest.mark.parametrize("allocation", ALLOCATIONS)
def test_allocations_are_valid_streams(allocation: str, codec: Codec) -> None:
    pixels = draw_picture(64, 48)
    coded = codec.encode(pixels, 26, targets=codec.targets(pixels, 5), allocation=allocation)
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


def test_what_an_encoder_knows_changes_no_picture(codec: Codec) -> None:
    """A decoder that goes on from an encoder's pictures leaves out the same filters as one that starts anew."""
    pixels = draw_picture(640, 480)
    coded = codec.encode(pixels, 40, targets=codec.targets(pixels, 3))  # with tokens at coarse levels alone
    assert len(coded.contexts) == 3 and coded.tokens.filter_depths(codec.config)[0] > 1
    for size in (4, 20, 40, len(coded.content)):
        tokens = read(codec, coded.content[:size], 640, 480)
        torch.testing.assert_close(codec.decode(tokens, after=coded), codec.decode(tokens), rtol=0, atol=1e-2)


def test_pictures_are_encoded_together_as_alone(codec: Codec) -> None:
    """Whatever their base steps, and whether one ends earlier, for want of targets or of room."""
    size, seeds = (96, 64), (0, 1, 2, 3)
    pictures = [draw_picture(*size, seed=seed) for seed in seeds]
    choices = ((24, 3, None), (34, None, None), (30, None, 150), (24, 6, 900))
    wanted = [Wanted(b, codec.targets(p, n), room) for p, (b, n, room) in zip(pictures, choices, strict=True)]
    together = codec.encode_many(size, wanted)
    counts = [len(coded.contexts) for coded in together]
    assert counts[:2] == [3, 11] and 1 < counts[2] < 11 and 1 < counts[3] < 6
    for one, coded in zip(wanted, together, strict=True):
        alone = codec.encode_many(size, [one])[0]
        assert len(alone.contexts) == len(coded.contexts)
        different = [
            (a.values != b.values).mean() for a, b in zip(alone.tokens.passes, coded.tokens.passes, strict=True)
        ]
        assert max(different) < 0.01


def test_a_stream_that_ends_early_says_so(codec: Codec) -> None:
    """Of what no pass was run for, a reader finds nothing, although whether a pass is sent has skewed odds."""
    for number in range(150):
        width, height, base = 1 + number % 13, 1 + number % 7, 20 + number % 28
        pixels, count = draw_picture(width, height, seed=number), 1 + number % 5
        coded = codec.encode(pixels, base, targets=codec.targets(pixels, count))
        assert len(coded.contexts) == count < len(coded.tokens.passes)
        assert same(read(codec, coded.content, width, height), coded.tokens)
        if number % 10 == 0:
            trimmed = stream.trim(coded.content, coded.tokens, codec.config, codec.tables, coded.classes)
            assert same(read(codec, trimmed, width, height), coded.tokens)


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


@pytest.mark.parametrize("size", [(64, 48), (96, 64), (100, 75)])
def test_any_cut_of_a_master_is_a_good_picture(size: tuple[int, int], codec: Codec) -> None:
    """From the first level to the last refining pass more bytes are a better picture, at no size are they a much worse
    one."""
    pixels = draw_picture(*size)
    master = codec.encode(pixels, codec.config.usual_base)
    assert len(master.contexts) == len(passes(*size, codec.config))
    scores = []
    for n in np.unique(np.geomspace(1, len(master.content), 50).astype(int)):
        tokens = read(codec, master.content[:n], *size)
        scores.append(psnr(pixels, to_image(codec.decode(tokens, after=master))))
    assert all(later > max(scores[: i + 1]) - 1 for i, later in enumerate(scores[1:]))
    assert all(later > earlier + 1 for earlier, later in zip(scores[4::6], scores[10::6], strict=False))
    assert scores[0] < 16 and scores[-1] > 42


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


def test_without_a_base_step_there_is_the_usual_one(codec: Codec) -> None:
    nothing = read(codec, b"", 64, 48)
    assert nothing.base is None and not any(part.counts.any() for part in nothing.passes)
    blank = codec.decode(dataclasses.replace(nothing, base=codec.config.usual_base))
    assert torch.equal(codec.decode(nothing), blank) and torch.equal(codec.decode_many([nothing])[0], blank)
    some = codec.encode(draw_picture(64, 48), codec.config.usual_base).tokens
    same_picture, other = (codec.decode(dataclasses.replace(some, base=b)) for b in (None, 50))
    assert torch.equal(same_picture, codec.decode(some)) and not torch.equal(other, same_picture)


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


def test_levels_behind_the_last_token_have_the_light_filter(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless there are too many px for each integer that is not 0."""
    pixels = draw_picture(640, 480)
    coded = codec.encode(pixels, 32, room=60)
    tokens = read(codec, coded.content[:60], 640, 480)
    plan = passes(640, 480, codec.config)
    known = sum(np.count_nonzero(part.values) for part in tokens.passes)
    last = max(i for i, part in enumerate(tokens.passes) if part.counts.any())
    light, full = tokens.filter_depths(codec.config)
    assert full == plan[last].depth
    behind = [step for step in plan[last + 1 :] if step.kind == MIDDLE]
    per_integer = {step.depth: step.level.width * step.level.height / known for step in behind}
    assert [d for d, px in per_integer.items() if px <= 200] == list(range(full - 1, max(light, 1) - 1, -1)) != []
    used = []
    finish = codec.network.finish
    monkeypatch.setattr(codec.network, "finish", lambda *a, light: used.append(light) or finish(*a, light=light))
    codec.decode(tokens)
    assert used == [False] * sum(step.depth >= full for step in plan if step.kind != REFINE) + [True] * (
        full - max(light, 1)
    )
    whole = codec.encode(pixels, 30, targets=codec.targets(pixels, plan[0].depth + 1)).tokens
    assert whole.passes[plan[0].depth].counts.any() and whole.filter_depths(codec.config) == (0, 0)
