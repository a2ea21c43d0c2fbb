"""Training at toy size: the command line, its files, resuming, and how streams are cut."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import random
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import draw_picture, psnr
from PIL import Image
from safetensors.torch import load as load_tensors
from safetensors.torch import load_file, save_file

from prow.entropy.tables import check_shapes
from prow.format.config import CONFIGS, FULL, MIDDLE, REFINE, START, step_size
from prow.format.geometry import Level, levels, passes
from prow.registry import parse_model
from prow.training import __main__ as command
from prow.training import evaluate
from prow.training.data import Batches, crop_photo, find_sources
from prow.training.descent import Descent
from prow.training.evaluate import rd_figures
from prow.training.export import export
from prow.training.loop import Cut, Result, across_edges, run_passes
from prow.training.resident import ResidentBatches
from prow.training.statistics import Statistics
from prow.training.trainer import Options, Trainer

TOY = CONFIGS["toy"]
PIXELS = 2048  # a batch: one picture of 64 x 64 or larger


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train/: a tar of two photos, a folder of one, a tar of two mosaics; val/: two photos."""
    root = tmp_path_factory.mktemp("photos")
    (root / "train" / "more").mkdir(parents=True)
    (root / "val").mkdir()
    mosaic = [np.hstack([draw_picture(64, 64, s) for s in range(k, k + 3)]) for k in (20, 30)]
    tars = {
        "photos-00.tar": {f"{s}.png": png(draw_picture(300, 280, s)) for s in (1, 2)} | {"notes.txt": b"no photo"},
        "thumbs-00.tar": {f"mosaic-{k}.png": png(m) for k, m in enumerate(mosaic)},
    }
    for name, members in tars.items():
        with tarfile.open(root / "train" / name, "w") as tar:
            for member, content in members.items():
                info = tarfile.TarInfo(member)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    (root / "train" / "more" / "3.png").write_bytes(png(draw_picture(120, 90, 3)))
    for seed in (4, 5):
        (root / "val" / f"{seed}.png").write_bytes(png(draw_picture(70, 50, seed)))
    return root


# -- the command line --------------------------------------------------------------------------------------------


@pytest.fixture
def run(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """run(*options): the command in this process on a clock that moves 2 s whenever it is read."""
    ticks = iter(range(10**9))
    clock = SimpleNamespace(monotonic=lambda: 2.0 * next(ticks), time=lambda: 0.0)
    monkeypatch.setattr(command, "time", clock)
    monkeypatch.setattr("prow.training.trainer.time", clock)
    monkeypatch.setattr(command, "BOOTSTRAP_BATCHES", 3)
    out = tmp_path / "out"

    def call(*options: str, minutes: float) -> Path:
        common = f"prow.training --data {data} --out {out} --config toy --pixels {PIXELS} --device cpu".split()
        monkeypatch.setattr(sys, "argv", [*common, "--minutes", str(minutes), "--collect-minutes", "0", *options])
        command.main()
        return out

    return call


def saved(out: Path) -> dict:
    return torch.load(out / "state.pt", weights_only=True)


def test_command_line(data: Path, tmp_path: Path) -> None:
    """A real run of a few seconds in a process of its own."""
    options = f"--data {data} --out {tmp_path} --config toy --pixels {PIXELS} --minutes 0.02 --collect-minutes 0.005"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, "-m", "prow.training", *options.split(), "--device", "cpu"]
    done = subprocess.run(arguments, capture_output=True, text=True, env=env, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(tmp_path / "toy.safetensors")]
    assert saved(tmp_path)["updates"] >= 1
    assert parse_model((tmp_path / "toy.safetensors").read_bytes(), "toy").config == TOY


def test_a_run_writes_state_log_and_weights(run: Callable[..., Path]) -> None:
    out = run(minutes=1.6)  # a line after the first minute, and one at the end
    assert sorted(p.name for p in out.iterdir()) == ["log.jsonl", "state.pt", "toy.safetensors"]
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert len(lines) == 2
    figures = [f"psnr_at_{bpp}bpp" for bpp in (0.01, 0.03, 0.1, 0.3)]
    assert {"minutes", "updates", "megapixels_a_second", "loss", *figures} == set(lines[0])
    assert lines[0]["minutes"] == pytest.approx(1, abs=0.05)
    assert np.isfinite(list(lines[0].values())).all()
    values = [lines[0][name] for name in figures]
    assert values == sorted(values) and 5 < values[0] < values[-1] < 60

    model = parse_model((out / "toy.safetensors").read_bytes(), "toy")
    assert model.config == TOY
    check_shapes(model.tables, TOY)
    assert np.all(np.sort(model.tables.order, axis=1) == np.arange(TOY.coefficients))
    assert not np.array_equal(model.tables.order[2], np.arange(TOY.coefficients))  # fitted, not natural
    assert len(np.unique(model.tables.classes)) > 20
    state = saved(out)
    assert json.loads(state["config"])["name"] == "toy"
    assert state["updates"] > 20
    filters = ("coarse_filter.leave.weight", "coarse_filter.leave_ahead.weight", "fine_filter.leave.weight")
    heads = ("decoder.head.weight", *filters, "light_filter.leave.weight", "light_filter.leave_ahead.weight")
    assert all(float(state["average"][name].abs().max()) > 0 for name in heads)  # what began at zero has learned


def test_rehearsal_of_a_gpu(data: Path, tmp_path: Path, toy_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `--gpu` stands for, all of it but the device, the compiler and the size."""
    smaller = f"--config toy --device cpu --compile eager --minutes 0.01 --pixels {PIXELS}"
    command_line = f"prow.training --gpu --data {data} --out {tmp_path / 'run'} --init {toy_file} {smaller}"
    monkeypatch.setattr(sys, "argv", command_line.split())
    command.main()
    (line,) = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert line["updates"] >= 1
    assert line["megapixels_a_second"] > 0
    before, after = (parse_model(p.read_bytes(), "toy") for p in (toy_file, tmp_path / "run" / "toy.safetensors"))
    names = before.weights("network.").keys()
    fields = [field.name for field in dataclasses.fields(before.tables)]
    assert all(np.array_equal(getattr(before.tables, f), getattr(after.tables, f)) for f in fields)
    assert after.weights("network.").keys() == names
    assert any(not np.array_equal(before.weights("network.")[n], after.weights("network.")[n]) for n in names)


def test_resident_batches_are_crops_of_photos(data: Path) -> None:
    options = data / "train", PIXELS, (64,), (48, 100), 5, torch.device("cpu")
    one, other = ResidentBatches(*options), ResidentBatches(*options)
    assert len(one.photos) == 3
    assert (3, 90, 120) in [photo.shape for photo in one.photos]
    shapes, coarse = set(), []
    for _ in range(8):
        (pixels, kind), (again, _) = one.next(), other.next()
        assert torch.equal(pixels, again)
        assert pixels.dtype == torch.float32 and 0 <= pixels.min() <= pixels.max() <= 255
        assert pixels.std() > 5
        shapes.add(tuple(pixels.shape))
        coarse.append(kind)
    assert coarse == [False, True] * 4
    assert len(shapes) > 2
    assert all(shape[1] == 3 and max(shape[2:]) <= 100 for shape in shapes)


def test_resume_goes_on_from_the_saved_state(run: Callable[..., Path]) -> None:
    first = saved(run(minutes=0.3))
    again = saved(run("--resume", minutes=0.3))  # its minutes are used up: nothing to do
    assert again["updates"] == first["updates"] > 5
    assert all(torch.equal(again["model"][k], first["model"][k]) for k in first["model"])
    further = saved(run("--resume", minutes=0.6))
    assert further["updates"] == pytest.approx(2 * first["updates"], abs=1)
    assert further["minutes"] == pytest.approx(0.6, abs=0.05)
    moments = further["optimiser"]["state"]
    counts = [int(m["step"]) for m in moments.values()]  # the optimiser went on, too
    assert max(counts) == further["updates"]
    assert 0 < min(counts) < max(counts)  # the filters of full resolution and behind cuts do not learn in every update


def test_export_only_trains_nothing(run: Callable[..., Path]) -> None:
    out = run(minutes=0.3)
    before = saved(out)
    (out / "toy.safetensors").unlink()
    run("--export-only", minutes=0.3)
    assert saved(out)["updates"] == before["updates"]
    assert parse_model((out / "toy.safetensors").read_bytes(), "toy").config == TOY


def test_export_only_fits_the_tables_of_a_model_file(run: Callable[..., Path], toy_file: Path) -> None:
    out = run("--export-only", "--init", str(toy_file), minutes=1)
    before, after = (parse_model(path.read_bytes(), "toy") for path in (toy_file, out / "toy.safetensors"))
    assert np.array_equal(before.tables.order, after.tables.order)
    assert not np.array_equal(before.tables.bank, after.tables.bank)
    weights = [load_tensors(model.content) for model in (before, after)]
    names = [name for name in weights[0] if name.startswith("network.")]
    assert names and all(torch.equal(weights[0][name], weights[1][name]) for name in names)
    assert not (out / "state.pt").exists()


# -- state -------------------------------------------------------------------------------------------------------


@pytest.fixture
def options(data: Path, tmp_path: Path) -> Options:
    return Options(
        data=data / "train", out=tmp_path, config="toy", minutes=1, pixels=PIXELS, sides=(64,), coarse_sides=(64, 64)
    )


def test_a_state_comes_back_whole(options: Options) -> None:
    trainer = Trainer(options)
    trainer.bootstrap(2)
    for _ in range(2):
        assert np.isfinite(trainer.train_on_batch())
    trainer.minutes = 0.25
    trainer.save()
    other = Trainer(options)
    other.load()
    assert (other.updates, other.minutes) == (2, 0.25)
    assert torch.equal(other.statistics.order, trainer.statistics.order)
    assert torch.equal(other.statistics.sent, trainer.statistics.sent)
    for name in ("model", "average"):
        pairs = zip(getattr(other, name).parameters(), getattr(trainer, name).parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    assert not list(options.out.glob("*.tmp"))


def test_a_state_of_another_config_is_refused(options: Options) -> None:
    trainer = Trainer(options)
    trainer.save()
    state = saved(options.out)
    state["config"] = state["config"].replace('"fine_width": 8', '"fine_width": 16')
    torch.save(state, trainer.state_file)
    with pytest.raises(ValueError, match=r"fine_width=16.*fine_width=8"):
        Trainer(options).load()


def lagrangian(trainer: Trainer, images: torch.Tensor) -> float:
    """Squared error and price of the bits, in squared steps a pixel, of one picture as it is decoded in the end."""
    bases, bits = torch.full((len(images),), 30), 0.0
    with torch.no_grad():
        for result in run_passes(trainer.model, images, bases, trainer.statistics, 0.08, learn=False):
            bits += float(result.bits.sum())
            error = float(result.error.sum()) * 3 * images.shape[-1] * images.shape[-2]
    return (error / step_size(30) ** 2 + 0.08 * bits) / (images.shape[-1] * images.shape[-2])


def test_training_helps(options: Options) -> None:
    """On one picture, over and over: what the loss stands for, with all tokens, falls."""
    trainer = Trainer(options)
    trainer.bootstrap(4)
    one = trainer.images()[0][:1]
    trainer.images = lambda: (one, trainer.updates % 2 == 1)
    trainer.bases = lambda count: torch.full((count,), 30)
    before = lagrangian(trainer, one)
    assert all(np.isfinite(trainer.train_on_batch()) for _ in range(50))
    assert lagrangian(trainer, one) < 0.97 * before


def test_a_model_grows(options: Options, tmp_path: Path) -> None:
    """From a file whose filters lack inputs and layers, a model begins that does what the file's model does."""
    small = Trainer(options)
    small.bootstrap(2)
    for _ in range(2):
        small.train_on_batch()
    path = export(small.average, small.statistics.tables(), tmp_path)
    tensors = load_file(path)
    for name in ("coarse_filter", "fine_filter"):  # take away the last inputs and the last layer
        weight = tensors.pop(f"network.{name}.enter.weight")
        tensors[f"network.{name}.enter.weight"] = weight[:, :-8].contiguous()
        for kind in ("weight", "bias"):
            del tensors[f"network.{name}.layers.1.{kind}"]
    save_file(tensors, path)
    grown = Trainer(options)
    grown.start_from(path)
    given = [torch.rand(1, 3, 20, 20) * 255 for _ in range(2)]
    step, answers = torch.tensor([45.0]), []
    with torch.no_grad():
        for edges in (0.0, 1.0):  # what it does not know yet must not matter
            places = torch.cat([torch.full((1, 1, 20, 20), 0.5), torch.full((1, 2, 20, 20), edges)], dim=1)
            answers.append(grown.model.finish(*given, places, step, FULL)[0])
        assert torch.equal(*answers)
        assert not torch.allclose(answers[0], given[0], atol=0.01)
    empty = {"tables.order": tensors["tables.order"]}
    save_file(empty, path)
    with pytest.raises(ValueError, match="no weight of"):
        Trainer(options).start_from(path)


def test_bases_are_around_the_usual_one(options: Options) -> None:
    bases = Trainer(options).bases(20_000)
    assert bases.shape == (20_000,) and int(bases.min()) == 8 and int(bases.max()) == 47
    offsets = bases - TOY.usual_base
    near = (offsets >= -4) & (offsets < 4)
    assert 0.85 < float(near.float().mean()) < 0.95
    share = torch.bincount(offsets[near] + 4) / near.sum()
    torch.testing.assert_close(share, torch.full((8,), 1 / 8), rtol=0, atol=0.02)


# -- updates -----------------------------------------------------------------------------------------------------


def weights(*numbers: float) -> torch.nn.ParameterList:
    return torch.nn.ParameterList([torch.nn.Parameter(torch.tensor(float(number))) for number in numbers])


def rates(descent: Descent, progress: list[float]) -> list[float]:
    """The learning rate of each update."""
    used = []
    for share in progress:
        descent.update(share)
        used.append(descent.optimiser.param_groups[0]["lr"])
    return used


def test_the_rate_rises_stays_and_falls() -> None:
    descent = Descent(torch.optim.SGD(weights(1), lr=0.5), warm_up=4, fall=0.4, least=0.03)
    assert rates(descent, [0, 0, 0, 0, 0.3, 0.6]) == pytest.approx([0.125, 0.25, 0.375, 0.5, 0.5, 0.5])
    assert rates(descent, [0.8, 0.9, 1.0, 1.2]) == pytest.approx([0.5 * x for x in (0.53, 0.28, 0.03, 0.03)])
    assert descent.updates == 10
    steady = Descent(torch.optim.SGD(weights(1), lr=0.5), least=1.0)
    assert rates(steady, [0, 0.5, 1.0]) == [0.5] * 3
    groups = [{"params": weights(1), "lr": 0.05}, {"params": weights(1), "lr": 3e-3}]
    several = Descent(torch.optim.SGD(groups))
    several.update(0.5)
    assert [g["lr"] for g in several.optimiser.param_groups] == pytest.approx([0.05 * 0.53, 3e-3 * 0.53])


def test_gradients_are_clipped_together_and_forgotten() -> None:
    for clip, wanted in ((None, [3.0, 4.0]), (1.0, [0.6, 0.8]), (10.0, [3.0, 4.0])):
        moved = weights(0, 0)
        descent = Descent(torch.optim.SGD(moved, lr=1.0), least=1.0, clip=clip)
        for parameter, gradient in zip(moved, (3.0, 4.0), strict=True):
            parameter.grad = torch.tensor(gradient)
        descent.update(0)
        assert [-float(p.detach()) for p in moved] == pytest.approx(wanted, rel=1e-4)
        assert all(p.grad is None for p in moved)


def test_the_average_of_a_young_run_forgets_as_fast_as_it_is_long() -> None:
    now, mean = weights(0), weights(0)
    descent = Descent(torch.optim.SGD(now, lr=1.0), least=1.0, average=(mean, now), decay=0.9)
    wanted = 0.0
    for update in range(1, 200):
        now[0].grad = torch.tensor(-1.0)
        descent.update(0)
        assert float(now[0].detach()) == update
        weight = min(0.9, update / (update + 9))
        wanted = weight * wanted + (1 - weight) * update
        assert float(mean[0].detach()) == pytest.approx(wanted, rel=1e-4)
    assert float(mean[0].detach()) == pytest.approx(199 - 9, abs=0.1)  # the lag of a decay of 0.9


# -- the passes of a batch ---------------------------------------------------------------------------------------


@pytest.fixture
def trained(options: Options) -> Trainer:
    """With statistics, so that passes have tokens."""
    trainer = Trainer(options)
    trainer.bootstrap(3)
    return trainer


def results(trainer: Trainer, images: torch.Tensor, **choices) -> list[Result]:
    bases = torch.full((len(images),), 30)
    return list(run_passes(trainer.model, images, bases, trainer.statistics, 0.05, **choices))


@pytest.fixture(scope="module")
def two() -> torch.Tensor:
    """[2, 3, 40, 64]."""
    return torch.from_numpy(np.stack([draw_picture(64, 40, seed) for seed in (0, 1)])).permute(0, 3, 1, 2).float()


def test_a_batch_has_the_passes_of_the_schedule(trained: Trainer, two: torch.Tensor) -> None:
    plan = passes(64, 40, TOY)
    assert [pass_.kind for pass_ in plan[:5]] == [START, MIDDLE, MIDDLE, FULL, REFINE]
    for refine in (0, 1, 3):
        found = results(trained, two, refine=refine)
        assert [r.pass_ for r in found] == list(plan[: 4 + refine])
        assert all(bool((r.bits > 0).all()) for r in found)
        errors = torch.stack([r.error for r in found[3:]])
        assert bool((errors.diff(dim=0) < 0).all())  # refining passes come closer


def test_coarse_batches_end_below_full_resolution(trained: Trainer, two: torch.Tensor) -> None:
    found = results(trained, two, coarse=True)
    assert [r.pass_ for r in found] == list(passes(64, 40, TOY)[:3])
    assert [r.pass_.level for r in found] == levels(64, 40, TOY.tile)[:-1]
    assert found[-1].picture.shape == (2, 3, 20, 32)
    assert all(r.ahead is not None for r in found)  # full resolution is what the last one looks ahead to
    assert all(bool((r.bits > 0).all()) for r in found)


def test_batches_may_be_pictures_of_which_finer_levels_are_not_shown(trained: Trainer, two: torch.Tensor) -> None:
    """The passes are those of a larger picture, at the same steps."""
    plan = passes(64 << 2, 40 << 2, TOY)
    found = results(trained, two, coarse=True, beyond=2)
    assert [r.pass_ for r in found] == [pass_ for pass_ in plan if pass_.octaves >= 2]
    assert found[-1].picture.shape == two.shape and found[-1].pass_.kind == MIDDLE


def test_behind_a_cut_the_light_filter_runs_alone(trained: Trainer, two: torch.Tensor) -> None:
    """It is trained there, and nowhere else; at full resolution there is nothing to train."""
    plan, full = passes(64, 40, TOY), results(trained, two, refine=2)
    light = list(trained.model.light_filter.parameters())
    whole = torch.ones(2)
    for index in range(6):
        found = results(trained, two, refine=2, cut=Cut(index, whole))
        assert [r.pass_ for r in found] == list(plan[: max(index + 1, 3)])
        for number, (r, uncut) in enumerate(zip(found, full, strict=False)):
            if number <= index:  # all of the pass is there
                assert torch.equal(r.picture, uncut.picture) and torch.equal(r.bits, uncut.bits)
            else:
                assert not r.bits.any() and bool((r.error > uncut.error).all())
        trained.model.zero_grad(set_to_none=True)
        sum(r.loss for r in found).backward()
        assert [p.grad is not None for p in light] == [index < 2] * len(light)
    nothing = results(trained, two, cut=Cut(1, torch.zeros(2)))
    assert bool((nothing[0].bits > 0).all()) and bool((nothing[1].error > full[1].error).all())


def test_figures_are_those_of_streams_that_end_after_each_pass(
    trained: Trainer, two: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [two[:1], two[1:, :, :33, :50]]

    def figures(*some: torch.Tensor) -> list[float]:
        found = rd_figures(trained.model, list(some), trained.statistics, 0.05)
        assert list(found) == [f"psnr_at_{bpp}bpp" for bpp in evaluate.BPP]
        return list(found.values())

    values = figures(*images)
    assert values == sorted(values) and values[-1] > values[0] + 3
    assert values == pytest.approx(np.mean([figures(image) for image in images], axis=0), abs=0.01)
    monkeypatch.setattr(evaluate, "BPP", (1e-9, 100.0))  # the shortest stream and the longest one
    shortest, longest = figures(two[:1])
    base = torch.full((1,), TOY.usual_base)
    *_, last = run_passes(trained.model, two[:1], base, trained.statistics, 0.05, learn=False, refine=1)
    assert longest == pytest.approx(psnr(two[0].numpy(), last.picture[0].detach()), abs=0.01)
    mean = two[0].mean((1, 2), keepdim=True).expand_as(two[0])  # about what a single tile of 8 x 5 px says
    assert psnr(two[0].numpy(), mean) - 1 < shortest < longest - 8


def test_steps_across_tile_borders_are_found() -> None:
    level, error = Level(20, 9, 8), torch.zeros(2, 3, 9, 20)
    assert torch.all(across_edges(error + 5, level) == 0)
    error[0, :, :, 7:] += 2.0  # between columns 6 and 7: the border of the tiles of 7, 7 and 6 px
    error[0, 1, 5:] += 1.0  # rows of 5 and 4 px
    error[1, :, :, 3:] += 9.0  # inside of a tile
    wanted = torch.tensor([(3 * 9 * 2.0**2 + 20) / (3 * 9 * 20), 0.0])
    torch.testing.assert_close(across_edges(error, level), wanted)


# -- data --------------------------------------------------------------------------------------------------------


def test_sources_are_found_in_tars_and_folders(data: Path, tmp_path: Path) -> None:
    photos, mosaics = find_sources(data / "train")
    assert sorted(s.name for s in photos) == ["1.png", "2.png", "3.png"]
    assert [s.name for s in mosaics] == ["mosaic-0.png"]  # the last one is held out
    assert {s.open().size for s in photos} == {(300, 280), (120, 90)}
    with pytest.raises(FileNotFoundError, match="no photos"):
        find_sources(tmp_path)


def test_batches_are_the_same_for_the_same_seed(data: Path) -> None:
    batches = [Batches(data / "train", 2 * 64 * 64, (64, 128), (40, 90), seed) for seed in (1, 1, 2)]
    first, again, other = ([b.next() for _ in range(8)] for b in batches)
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a.pixels, b.pixels) for a, b in zip(first, other, strict=True))
    assert [b.coarse for b in first] == 4 * [False, True]
    for batch in first + other:
        assert batch.pixels.dtype == np.uint8 and batch.pixels.shape[-1] == 3
        side = max(batch.pixels.shape[1:3])
        assert 40 <= side <= 90 if batch.coarse else side in (64, 128)


def test_an_unreadable_photo_reaches_the_training_thread(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_text("no picture")
    with pytest.raises(OSError, match="cannot identify"):
        Batches(tmp_path, 4096, (64,), (64, 64), 0).next()


def test_crops_have_the_size_asked_for() -> None:
    photo, rng = Image.fromarray(draw_picture(50, 70)), random.Random(0)
    for width, height in ((64, 64), (20, 30), (50, 70), (128, 16)):
        for _ in range(4):
            assert crop_photo(photo, width, height, rng).shape == (height, width, 3)


# -- cuts --------------------------------------------------------------------------------------------------------


def test_a_cut_keeps_whole_rounds_and_then_the_first_tiles() -> None:
    """As a reader sees it: tokens come in rounds, one for each tile that has so many, tile by tile."""
    counts = torch.tensor([[3, 0, 2, 1], [1, 1, 0, 1], [4, 4, 4, 4]])
    for share, wanted in {
        0.0: [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]],
        # of 4, 2 and 5 rounds
        0.3: [[2, 0, 1, 1], [1, 1, 0, 0], [2, 2, 1, 1]],
        0.55: [[3, 0, 2, 1], [1, 1, 0, 1], [3, 3, 3, 2]],
        0.8: [[3, 0, 2, 1], [1, 1, 0, 1], [4, 4, 4, 4]],
        1.0: counts.tolist(),
    }.items():
        cut = Cut(2, torch.full((3,), share))
        assert cut.of(counts, 2).tolist() == wanted
        assert torch.equal(cut.of(counts, 1), counts)  # the pass before goes on
        assert not cut.of(counts, 3).any()  # and that behind has nothing


def test_each_picture_has_a_cut_of_its_own() -> None:
    counts = torch.full((4, 5), 3)
    kept = Cut(0, torch.tensor([0.0, 0.29, 0.62, 1.0])).of(counts, 0)
    assert kept.tolist() == [[0] * 5, [2, 1, 1, 1, 1], [3, 3, 3, 2, 2], [3] * 5]


def test_cuts_are_all_over_a_pass() -> None:
    """Every number of tokens is as likely as the next one, and the whole pass a little more."""
    torch.manual_seed(0)
    counts = torch.full((20_000, 3), 4)
    kept = Cut(0, torch.rand(20_000)).of(counts, 0)
    assert bool((kept.diff(dim=1) <= 0).all()) and bool((kept[:, 0] - kept[:, -1] <= 1).all())
    share = torch.bincount(kept.sum(1), minlength=13) / len(kept)
    torch.testing.assert_close(share, torch.tensor([0, *[1.0] * 11, 4]) / 15, rtol=0, atol=0.01)


# -- statistics --------------------------------------------------------------------------------------------------


def test_statistics_count_what_is_sent() -> None:
    statistics = Statistics(TOY, "cpu")
    values = torch.zeros(2, TOY.coefficients)
    values[0, :3] = torch.tensor([4.0, -1.0, 0.0])
    sent = torch.zeros(2, TOY.coefficients, dtype=torch.bool)
    sent[0, :8] = True
    statistics.add(2, torch.tensor([30, 31]), values, sent, torch.tensor([2, 0]), torch.tensor([2, 5]))
    number, nonzero, magnitude = statistics.sent[:, 2, 30, :9]
    assert number.tolist() == [1] * 8 + [0]
    assert nonzero.tolist() == [1, 1] + [0] * 7
    assert magnitude.tolist() == [4, 1] + [0] * 7
    asked, went = statistics.flags[:, 2]
    assert asked[30].tolist() == [1, 1, 0, 0, 0] and went[30].tolist() == [1, 1, 0, 0, 0]  # its last token: no stop
    assert asked[31].tolist() == [1, 0, 0, 0, 0] and went[31].tolist() == [0] * 5


def test_tables_follow_the_statistics() -> None:
    """What was seen often gets cheap."""
    statistics = Statistics(TOY, "cpu")
    indices = torch.full((400,), 30)
    values = torch.zeros(400, TOY.coefficients)
    values[:, :10] = (torch.randn(400, 10, generator=torch.Generator().manual_seed(0)) * 8).round()
    sent = torch.ones_like(values, dtype=torch.bool)
    counts = torch.full((400,), TOY.tokens)
    statistics.add(1, indices, values, sent, counts, counts)
    tables = statistics.tables()
    zero_bits = tables.bits[tables.classes[1, 30]][:, 0]
    assert zero_bits[:10].min() > 2 and zero_bits[100:].max() < 0.2
    go, stop = tables.flag_bits(1, 30)
    assert go.max() < 0.1 and stop.min() > 5
