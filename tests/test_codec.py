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
from torch import Tensor

import prow
from prow.backends import select
from prow.backends.torch_backend import TorchBackend
from prow.coding.codec import Codec, Coded, Wanted
from prow.coding.reconstruction import Reconstruction, filter_octaves
from prow.entropy.model import StreamSpec
from prow.entropy.trim import trim
from prow.entropy.writer import write
from prow.format import container
from prow.format.config import FULL, MIDDLE, REFINE, START, step_size
from prow.format.geometry import Pass
from prow.format.tokens import Tokens
from prow.registry import ModelFile
from prow.search.gradient_search import gradients

pytestmark = pytest.mark.usefixtures("installed")

SIZES = [(1, 1), (1, 40), (40, 1), (17, 23), (64, 48), (200, 120)]


@pytest.fixture
def threads() -> Iterator[None]:
    """Puts torch's number of threads back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def passes(codec: Codec, width: int, height: int) -> tuple[Pass, ...]:
    return StreamSpec(width, height, codec.model).passes


def encode(codec: Codec, pixels: np.ndarray, base: int, count: int | None = None, room: int | None = None) -> Coded:
    """The first `count` passes of a picture, or as many of these as have `room` bytes."""
    wanted = Wanted(base, codec.backend.targets(pixels, count), room)
    return codec.encode_many((pixels.shape[1], pixels.shape[0]), [wanted])[0]


def score(codec: Codec, pixels: np.ndarray, tokens: Tokens) -> float:
    return psnr(pixels, codec.backend.to_image(codec.decode(tokens)))


def go_on(codec: Codec, tokens: Tokens, after: Coded) -> Tensor:
    """The picture of tokens, from where they are no longer those that an encoder chose."""
    spec, first = StreamSpec(tokens.width, tokens.height, codec.model), after.same_passes(tokens)
    base = codec.model.config.usual_base if tokens.base is None else tokens.base
    pictures = Reconstruction(codec.backend, [base], filter_octaves(tokens, spec), after.predictions[first])
    for pass_, part in zip(spec.passes[first:], tokens.passes[first:], strict=True):
        pictures.predict(pass_)
        pictures.receive([part])
    return pictures.picture()[0]


def unlike(one: Tokens, other: Tokens) -> float:
    """The largest share of integers of a pass that are not the same."""
    return max((a.values != b.values).mean() for a, b in zip(one.passes, other.passes, strict=True))


# -- both ways ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("refined", [0, 2])
@pytest.mark.parametrize("size", SIZES)
def test_encoder_sees_what_the_decoder_sees(size: tuple[int, int], refined: int, codec: Codec) -> None:
    pixels, plan = draw_picture(*size), passes(codec, *size)
    count = plan[0].octaves + 1 + refined
    coded = encode(codec, pixels, 24, count)
    assert coded.content == write(coded.tokens, codec.model)
    content = trim(coded.content, coded.tokens, codec.model)
    received = read(codec, content, *size)
    assert same(received, coded.tokens)
    picture = codec.decode(received)
    assert picture.shape == (3, size[1], size[0])
    assert float((picture - go_on(codec, coded.tokens, coded)).abs().max()) <= 1
    sent = [part.some for part in received.passes]
    assert (all(sent[:count]) or size == (1, 1)) and not any(sent[count:])
    assert len(coded.predictions) == count
    for last in range(len(plan)):
        draft = codec.draft(received, last)
        assert draft.shape == (1, 3, plan[last].level.height, plan[last].level.width)
        assert float((draft - codec.draft(coded.tokens, last, coded)).abs().max()) <= 1


@pytest.mark.parametrize("size", SIZES)
def test_finer_steps_come_closer(size: tuple[int, int], codec: Codec) -> None:
    """By a finer base, and by each refining pass."""
    pixels = draw_picture(*size)
    levels = passes(codec, *size)[0].octaves + 1

    def reached(base: int, refined: int) -> float:
        return score(codec, pixels, encode(codec, pixels, base, levels + refined).tokens)

    scores = [reached(base, 0) for base in (48, 32, 16, 8)]
    assert scores == sorted(scores) and scores[0] < scores[-1]
    scores = [reached(32, refined) for refined in range(0, 7, 2)]
    assert scores == sorted(scores) and scores[0] < scores[-1]
    assert scores[-1] > 45


def test_tokens_are_those_of_the_plan(codec: Codec) -> None:
    pixels, plan, config = draw_picture(100, 75), passes(codec, 100, 75), codec.model.config
    tokens = encode(codec, pixels, 16, plan[0].octaves + 3).tokens
    for pass_, part in zip(plan, tokens.passes, strict=True):
        assert part.counts.shape == (pass_.level.tiles,)
        assert part.values.shape == (pass_.level.tiles, config.coefficients)
        assert part.counts.min() >= 0 and part.counts.max() <= config.tokens
        ends = np.array([0, *np.cumsum(config.token_dims)])[part.counts]
        assert not part.values[np.arange(config.coefficients) >= ends[:, None]].any()
    assert {plan[i].kind for i in tokens.coded} == {START, MIDDLE, FULL, REFINE}
    assert score(codec, pixels, tokens) > 25


def test_each_refining_pass_leaves_less_to_say(codec: Codec) -> None:
    """A mean square error below a third of its own step's square, and less than the pass before it."""
    pixels, plan = draw_picture(64, 48), passes(codec, 64, 48)
    coded = codec.encode(pixels, 32)
    target, levels = torch.from_numpy(pixels.copy()).permute(2, 0, 1).float(), plan[0].octaves + 1
    assert len(coded.predictions) == len(plan) == levels + len(codec.model.config.refine_shifts)
    errors = [float((prediction[0] - target).square().mean()) for prediction in coded.predictions[levels:]]
    assert all(finer < coarser for coarser, finer in zip(errors, errors[1:], strict=False))
    for error, pass_ in zip(errors, plan[levels - 1 :], strict=False):
        assert error < step_size(pass_.step_index(32)) ** 2 / 3


@pytest.mark.parametrize("size", [(96, 64), (37, 50)])
def test_room_leaves_out_what_a_cut_drops(size: tuple[int, int], codec: Codec) -> None:
    """Encoding stops once there are bytes enough; these are the same, and so is the picture made of them."""
    pixels, plan = draw_picture(*size), passes(codec, *size)
    count = plan[0].octaves + 3
    whole = encode(codec, pixels, 22, count)

    def assert_resumed(tokens: Tokens, *encoded: Coded) -> None:
        for coded in encoded:
            assert torch.equal(go_on(codec, tokens, coded), codec.decode(tokens))
            for last in range(count):
                assert torch.equal(codec.draft(tokens, last, coded), codec.draft(tokens, last))

    stopped = 0
    for room in np.geomspace(16, len(whole.content) - 1, 24).astype(int):
        part = encode(codec, pixels, 22, count, room)
        assert len(part.content) >= room and part.content[:room] == whole.content[:room]
        assert len(part.predictions) <= len(whole.predictions)
        stopped += len(part.predictions) < len(whole.predictions)
        assert_resumed(read(codec, part.content[:room], *size), part, whole)
    assert stopped > 3
    assert_resumed(whole.tokens, whole)
    other = encode(codec, pixels, 30, count).tokens  # of another base: nothing is taken over
    assert whole.same_passes(other) == 0
    assert_resumed(other, whole)


def test_targets_are_those_of_the_passes_asked_for(codec: Codec) -> None:
    """No pass beyond these is run, nor are its tokens."""
    pixels, plan = draw_picture(60, 45), passes(codec, 60, 45)
    every = codec.backend.targets(pixels)
    assert [t.shape for t in every] == [(1, 3, pass_.level.height, pass_.level.width) for pass_ in plan]
    assert torch.equal(every[-1][0], torch.from_numpy(pixels.copy()).permute(2, 0, 1).float())
    whole = codec.encode(pixels, 28)
    for count in (1, 2, plan[0].octaves, plan[0].octaves + 1, len(plan)):
        targets = codec.backend.targets(pixels, count)
        assert len(targets) == count
        assert all(torch.allclose(a, b, atol=1e-3) for a, b in zip(targets, every, strict=False))
        coded = encode(codec, pixels, 28, count)
        assert len(coded.predictions) == count
        assert coded.tokens.coded == list(range(count))
        assert all(
            np.array_equal(a.values, b.values)
            for a, b in list(zip(coded.tokens.passes, whole.tokens.passes, strict=True))[:count]
        )


def test_what_an_encoder_knows_changes_no_picture(codec: Codec) -> None:
    """A decoder that goes on from an encoder's pictures leaves out the same filters as one that starts anew."""
    pixels = draw_picture(640, 480)
    coded, spec = encode(codec, pixels, 40, 3), StreamSpec(640, 480, codec.model)  # tokens at coarse levels alone
    assert len(coded.predictions) == 3 and filter_octaves(coded.tokens, spec)[0] > 1
    for size in (4, 20, 40, len(coded.content)):
        tokens = read(codec, coded.content[:size], 640, 480)
        torch.testing.assert_close(go_on(codec, tokens, coded), codec.decode(tokens), rtol=0, atol=1e-2)
        last = len(spec.passes) - 1
        torch.testing.assert_close(codec.draft(tokens, last, coded), codec.draft(tokens, last), rtol=0, atol=1e-2)


def test_pictures_are_encoded_together_as_alone(codec: Codec) -> None:
    """Whatever their bases, and whether one ends earlier, for want of targets or of room."""
    size, seeds = (96, 64), (0, 1, 2, 3)
    pictures = [draw_picture(*size, seed=seed) for seed in seeds]
    choices = ((24, 3, None), (34, None, None), (30, None, 150), (24, 6, 900))
    wanted = [Wanted(b, codec.backend.targets(p, n), room) for p, (b, n, room) in zip(pictures, choices, strict=True)]
    together = codec.encode_many(size, wanted)
    counts = [len(coded.predictions) for coded in together]
    assert counts[:2] == [3, 11] and 1 < counts[2] < 11 and 1 < counts[3] < 6
    for one, coded in zip(wanted, together, strict=True):
        alone = codec.encode_many(size, [one])[0]
        assert len(alone.predictions) == len(coded.predictions)
        assert unlike(alone.tokens, coded.tokens) < 0.01


def test_a_stream_that_ends_early_says_so(codec: Codec) -> None:
    """Of what no pass was run for, a reader finds nothing, although whether a pass is coded has skewed odds."""
    for number in range(150):
        width, height, base = 1 + number % 13, 1 + number % 7, 20 + number % 28
        pixels, count = draw_picture(width, height, seed=number), 1 + number % 5
        coded = encode(codec, pixels, base, count)
        assert len(coded.predictions) == count < len(coded.tokens.passes)
        assert same(read(codec, coded.content, width, height), coded.tokens)
        if number % 10 == 0:
            trimmed = trim(coded.content, coded.tokens, codec.model, coded.classes)
            assert same(read(codec, trimmed, width, height), coded.tokens)


def test_gradients_are_those_of_the_decoder(codec: Codec) -> None:
    """An integer that is moved by a little moves the error as its gradient says."""
    pixels = draw_picture(40, 30)
    tokens, spec = codec.encode(pixels, 26).tokens, StreamSpec(40, 30, codec.model)
    last = len(spec.passes) - 1 - len(codec.model.config.refine_shifts)
    target = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float()
    found = gradients(codec.backend, spec, tokens, target, last)
    assert [g.shape for g in found] == [part.values.shape for part in tokens.passes[: last + 1]]
    for index, gradient in enumerate(found):
        tile, rank = np.unravel_index(int(gradient.abs().argmax()), gradient.shape)
        errors = []
        for change in (-1, 1):
            values = tokens.passes[index].values.copy()
            values[tile, rank] += change
            part = dataclasses.replace(tokens.passes[index], values=values)
            parts = (*tokens.passes[:index], part, *tokens.passes[index + 1 :])
            picture = codec.draft(dataclasses.replace(tokens, passes=parts), last)
            errors.append(float((picture - target).square().mean()))
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
    master = codec.encode(pixels, codec.model.config.usual_base)
    assert len(master.predictions) == len(passes(codec, *size))
    scores = []
    for n in np.unique(np.geomspace(1, len(master.content), 50).astype(int)):
        tokens = read(codec, master.content[:n], *size)
        scores.append(psnr(pixels, codec.backend.to_image(go_on(codec, tokens, master))))
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


def test_without_a_base_there_is_the_usual_one(codec: Codec) -> None:
    nothing, usual = read(codec, b"", 64, 48), codec.model.config.usual_base
    assert nothing.base is None and not nothing.coded
    blank = codec.decode(dataclasses.replace(nothing, base=usual))
    assert torch.equal(codec.decode(nothing), blank) and torch.equal(codec.decode_many([nothing])[0], blank)
    assert torch.equal(codec.draft(nothing, 3), codec.draft(dataclasses.replace(nothing, base=usual), 3))
    some = codec.encode(draw_picture(64, 48), usual).tokens
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
    assert isinstance(codec.backend, TorchBackend)
    network = copy.deepcopy(codec.backend.network)
    generator = torch.Generator().manual_seed(5)
    for tensor in [*network.parameters(), *network.buffers()]:
        tensor.mul_(1 + amount * torch.randn(tensor.shape, generator=generator))
    return Codec(dataclasses.replace(codec.backend, network=network))


def test_the_entropy_coder_does_not_notice_other_floats(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder whose weights are all off by 1e-3 gets other pixels, but exactly the tokens that were sent."""
    pixels, seen = draw_picture(64, 48), []
    data = prow.encode(pixels, bytes=700)
    sent = prow.tokenize(pixels, bytes=700)
    clean = np.asarray(prow.decode(data), int)
    other = perturbed(codec, 1e-3)
    monkeypatch.setattr(select, "open_backend", lambda *a, **options: other.backend)
    images = Codec.images
    monkeypatch.setattr(
        Codec, "images", lambda self, batch, octaves: images(self, seen.extend(batch) or batch, octaves)
    )
    picture = np.asarray(prow.decode(data), int)
    assert len(seen) == 1 and same(seen[0], sent)
    assert 1 <= np.abs(picture - clean).max() <= 20


def test_an_encoder_with_other_floats_is_understood(codec: Codec) -> None:
    pixels = draw_picture(64, 48)
    sent = perturbed(codec, 1e-3).encode(pixels, 24).tokens
    assert not same(sent, codec.encode(pixels, 24).tokens)  # its choices are its own
    received = read(codec, write(sent, codec.model), 64, 48)
    assert same(received, sent)
    assert score(codec, pixels, received) > 30


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


def test_the_toy_model_stands_alone(toy_model: ModelFile) -> None:
    assert [(m.id, m.name, m.is_default) for m in prow.models()] == [(120, "toy", True)]
    assert prow.models()[0].weights_bytes == len(toy_model.content)


def test_levels_behind_the_last_token_have_the_light_filter(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless there are too many px for each integer that is not 0."""
    pixels = draw_picture(640, 480)
    coded, spec = codec.encode(pixels, 32, room=60), StreamSpec(640, 480, codec.model)
    tokens, plan = read(codec, coded.content[:60], 640, 480), spec.passes
    known = sum(np.count_nonzero(part.values) for part in tokens.passes)
    last = max(i for i, part in enumerate(tokens.passes) if part.counts.any())
    light, full = filter_octaves(tokens, spec)
    assert full == plan[last].octaves
    behind = [pass_ for pass_ in plan[last + 1 :] if pass_.kind == MIDDLE]
    per_integer = {pass_.octaves: pass_.level.width * pass_.level.height / known for pass_ in behind}
    assert [o for o, px in per_integer.items() if px <= 200] == list(range(full - 1, max(light, 1) - 1, -1)) != []
    used, network = [], codec.backend.network
    finish = network.finish
    monkeypatch.setattr(network, "finish", lambda *a, light: used.append(light) or finish(*a, light=light))
    codec.decode(tokens)
    assert used == [False] * sum(pass_.octaves >= full for pass_ in plan if pass_.kind != REFINE) + [True] * (
        full - max(light, 1)
    )
    whole = encode(codec, pixels, 30, plan[0].octaves + 1).tokens
    assert whole.passes[plan[0].octaves].some and filter_octaves(whole, spec) == (0, 0)
