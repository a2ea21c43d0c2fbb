"""Metrics against what their authors' code says; means, intervals, wins, BD-rates and their tables."""

from __future__ import annotations

import importlib
import importlib.metadata
import shutil
import sys
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data as photos

from benchmarks.common.tables import markdown
from benchmarks.quality import cvvdp, metrics, summary, tables
from prow.training.published import MissingPackageError


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """A photo of 240 x 256 px, [256, 240, 3]."""
    return np.asarray(Image.fromarray(photos.astronaut()).resize((240, 256)))


def skip_without(package: str | None) -> None:
    """Skip a test that needs a package which is not installed."""
    try:
        importlib.metadata.distribution(package or "torch")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{package} is not installed")


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", refuse)


def noisy(image: np.ndarray, amount: int) -> np.ndarray:
    """The same picture with uniform noise of -amount to amount."""
    noise = np.random.default_rng(amount).integers(-amount, amount + 1, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def test_psnr_and_ms_ssim() -> None:
    pytest.importorskip("pytorch_msssim")
    grey = np.full((170, 161, 3), 100, np.uint8)
    assert metrics.psnr(grey, grey) == metrics.PSNR_OF_EQUALS
    assert metrics.psnr(grey, grey + np.uint8(1)) == pytest.approx(48.1308, abs=1e-4)
    noise = np.random.default_rng(5).integers(0, 256, grey.shape, np.uint8)
    assert metrics.ms_ssim(noise, noise) == pytest.approx(1.0)
    assert metrics.ms_ssim(grey[:, :160], grey[:, :160]) is None


@pytest.mark.parametrize("name", metrics.METRICS)
def test_every_metric_refuses_what_is_no_pair_of_pictures(name: str) -> None:
    grey = np.full((170, 161, 3), 100, np.uint8)
    with pytest.raises(ValueError, match=r"\[170, 161, 3\] and \[170, 160, 3\]"):
        metrics.METRICS[name].of(grey, grey[:, :160])
    with pytest.raises(ValueError, match=r"'got' is float64 \[170, 161, 3\], must be uint8"):
        metrics.METRICS[name].of(grey, grey * 1.0)


def test_top1_is_a_yes_or_a_no(photo: np.ndarray) -> None:
    skip_without(metrics.METRICS["top1"].package)
    assert metrics.top1(photo, photo) == 1
    assert metrics.top1(photo, np.full_like(photo, 128)) == 0


@pytest.mark.parametrize("name", [name for name in metrics.METRICS if name != "top1"])
def test_every_metric_says_which_way_is_up(name: str, photo: np.ndarray) -> None:
    metric = metrics.METRICS[name]
    skip_without(metric.package)
    same, near, far = (metric.of(photo, noisy(photo, n)) for n in (0, 8, 60))
    assert same is not None and near is not None and far is not None
    assert metric.is_better(same, near) and metric.is_better(near, far) and not metric.is_better(far, far)
    assert ("higher" if same > far else "lower") in metric.heading


def test_ssimulacra2_is_the_packages_own(photo: np.ndarray, tmp_path) -> None:
    package = pytest.importorskip("ssimulacra2")
    paths = [tmp_path / "wanted.png", tmp_path / "got.png"]
    for path, pixels in zip(paths, (photo, noisy(photo, 20)), strict=True):
        Image.fromarray(pixels).save(path)
    assert metrics.ssimulacra2(photo, noisy(photo, 20)) == package.compute_ssimulacra2(*paths)
    assert metrics.ssimulacra2(photo, photo) == 100
    small = np.ascontiguousarray(photo[:224])
    assert metrics.ssimulacra2(small, small) is None


@pytest.mark.usefixtures("nothing_installed")
def test_a_missing_package_is_named_with_the_command_that_installs_it() -> None:
    metrics.require(["psnr"])
    wanted = (
        r"metric 'st_lpips' needs the package stlpips-pytorch, .*: .*pip install -c constraints.txt stlpips-pytorch"
    )
    with pytest.raises(MissingPackageError, match=wanted):
        metrics.require(["psnr", "st_lpips"])


# -- ST-LPIPS ------------------------------------------------------------------------------------------------------


@pytest.fixture
def authors_network(monkeypatch: pytest.MonkeyPatch) -> torch.nn.Module:
    """The package's network; what it imports without need is replaced for the time of one test."""
    skip_without("stlpips-pytorch")
    wanted = {"torchvision": "models", "IPython": "embed", "torchsummary": "summary"}
    for name, attribute in wanted.items():
        stub = ModuleType(name)
        setattr(stub, attribute, None)
        monkeypatch.setitem(sys.modules, name, stub)
    for name in [name for name in sys.modules if name.split(".")[0] == "stlpips_pytorch"]:
        monkeypatch.delitem(sys.modules, name)
    module = importlib.import_module("stlpips_pytorch.stlpips")
    network = module.LPIPS(net="alex", variant="shift_tolerant", verbose=False)
    for name in [name for name in sys.modules if name.split(".")[0] == "stlpips_pytorch"]:
        del sys.modules[name]  # made with stubs: of no use to anybody else
    return network


def test_st_lpips_is_the_authors_network(authors_network: torch.nn.Module, photo: np.ndarray) -> None:
    rng = np.random.default_rng(3)
    for i, (height, width) in enumerate([(64, 64), (21, 21), (21, 64), (65, 47), (100, 33)] * 2):
        y, x = rng.integers(0, 256 - height), rng.integers(0, 240 - width)
        wanted = np.ascontiguousarray(photo[y : y + height, x : x + width])
        got = noisy(wanted, 10 + 10 * i)
        with torch.no_grad():
            tensors = [torch.tensor(a).permute(2, 0, 1)[None].float() / 127.5 - 1 for a in (wanted, got)]
            theirs = float(authors_network(*tensors))
        assert metrics.st_lpips(wanted, got) == pytest.approx(theirs, rel=1e-4, abs=1e-7)


def test_st_lpips_of_equals_and_of_too_small_pictures(photo: np.ndarray) -> None:
    skip_without("stlpips-pytorch")
    patch = np.ascontiguousarray(photo[:40, :40])
    assert metrics.st_lpips(patch, patch) == 0
    assert metrics.st_lpips(patch[:20], patch[:20]) is None
    first = metrics.st_lpips(patch, noisy(patch, 30))
    other = np.ascontiguousarray(photo[40:80, :40])
    metrics.st_lpips(other, patch)  # another original in between
    assert metrics.st_lpips(patch, noisy(patch, 30)) == first


def test_st_lpips_wants_exactly_its_weights() -> None:
    from prow.training import st_lpips

    weights = {name: torch.zeros(shape) for name, shape in st_lpips.SHAPES.items()}
    assert st_lpips.checked(weights) is weights
    with pytest.raises(ValueError, match=r"weight 'lin9' has shape \(1,\), wanted None"):
        st_lpips.checked({**weights, "lin9": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"'lin0.model.1.weight' has shape None, wanted \(1, 64, 1, 1\)"):
        st_lpips.checked({n: w for n, w in weights.items() if n != "lin0.model.1.weight"})


# -- ColorVideoVDP -------------------------------------------------------------------------------------------------


@pytest.fixture
def authors_cvvdp(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The package's code; what it imports without need here is replaced for the time of one test."""
    skip_without("cvvdp")
    for name in ("scipy", "imageio"):
        pytest.importorskip(name)
    wanted: dict[str, dict[str, object]] = {
        "torchvision": {},
        "torchvision.transforms": {"GaussianBlur": Blur},
        "torchvision.ops": {"MLP": torch.nn.Module},
        "einops": {"rearrange": None, "repeat": None},
        "einops.layers": {},
        "einops.layers.torch": {"Rearrange": None},
        "huggingface_hub": {"hf_hub_download": None},
        "tqdm": {"tqdm": lambda steps, **_: steps},
        "ffmpeg": {},
        "pyexr": {},
    }
    for name, attributes in wanted.items():
        stub = ModuleType(name)
        vars(stub).update(attributes)
        monkeypatch.setitem(sys.modules, name, stub)
    before, path = set(sys.modules), list(sys.path)
    yield importlib.import_module("pycvvdp")
    sys.path[:] = path  # the package adds its own folder
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("pycvvdp", "third_party", "interp"):
            del sys.modules[name]  # made with stubs: of no use to anybody else


class Blur:
    """torchvision's GaussianBlur, of `side` px."""

    def __init__(self, side: int, sigma: float) -> None:
        line = torch.exp(-0.5 * ((torch.arange(side) - side // 2) / sigma) ** 2)
        self.kernel = torch.outer(line, line)[None, None] / line.sum() ** 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        padded = torch.nn.functional.pad(x, (self.kernel.shape[-1] // 2,) * 4, "reflect")
        return torch.nn.functional.conv2d(padded, self.kernel)


def test_cvvdp_is_the_authors_own(authors_cvvdp: ModuleType, photo: np.ndarray) -> None:
    theirs = authors_cvvdp.cvvdp(display_name=cvvdp.DISPLAY, device=torch.device("cpu"), quiet=True)
    assert cvvdp.load().pixels_per_degree == pytest.approx(theirs.pix_per_deg)
    for i, (height, width) in enumerate([(64, 64), (16, 16), (33, 18), (101, 140), (140, 101), (97, 65)]):
        wanted = np.ascontiguousarray(photo[20 : 20 + height, 30 : 30 + width])
        got = noisy(wanted, 2 + 15 * i)
        with torch.no_grad():
            found = float(theirs.predict(got, wanted, dim_order="HWC")[0])
        assert metrics.cvvdp(wanted, got) == pytest.approx(found, abs=1e-4)


def test_cvvdp_of_equals_and_of_too_small_pictures(photo: np.ndarray) -> None:
    skip_without("cvvdp")
    patch = np.ascontiguousarray(photo[:40, :40])
    assert metrics.cvvdp(patch, patch) == 10
    assert metrics.cvvdp(patch[:15], patch[:15]) is None
    first = metrics.cvvdp(patch, noisy(patch, 30))
    assert first is not None and first < 10
    metrics.cvvdp(np.ascontiguousarray(photo[40:80, :40]), patch)  # another original in between
    assert metrics.cvvdp(patch, noisy(patch, 30)) == first


def test_cvvdp_wants_exactly_its_files(monkeypatch: pytest.MonkeyPatch) -> None:
    skip_without("cvvdp")
    monkeypatch.setitem(cvvdp.SHA256, "display_models.json", "5e" * 32)
    with pytest.raises(ValueError, match=r"display_models.json has SHA-256 65397972.*, wanted 5e5e5e5e"):
        cvvdp.read("display_models.json")


@pytest.mark.usefixtures("nothing_installed")
def test_a_package_without_need_of_others_is_asked_for_alone() -> None:
    with pytest.raises(MissingPackageError, match="pip install --no-deps -c constraints.txt cvvdp$"):
        metrics.require(["cvvdp"])


# -- summary and tables --------------------------------------------------------------------------------------------


def point(budget: int, value: float | None, metric: str = "psnr") -> dict:
    """A point of one metric whose file has as many bytes as it may; not reached if the value is None."""
    if value is None:
        return {"budget": budget, "reached": False}
    return {"budget": budget, "reached": True, metric: {"value": value, "bytes": budget}}


def test_intervals_hold_the_mean_and_are_the_same_every_time() -> None:
    values = [20.0, 21.0, 25.0, 30.0, 22.0]
    low, high = summary.interval(values)
    assert 20 < low < np.mean(values) < high < 30
    assert summary.interval(values) == (low, high)
    assert summary.interval([7.0]) == (7.0, 7.0)
    wide = np.random.default_rng(0).normal(size=400)  # 95 % of a normal mean: 1.96 standard errors each way
    low, high = summary.interval(list(wide))
    assert high - low == pytest.approx(2 * 1.96 * wide.std() / 20, rel=0.1)


def test_summary_of_points() -> None:
    undefined = {"budget": 64, "reached": True, "psnr": {"value": None, "bytes": 64}}
    cell = summary.summarise([point(64, 20.0), point(64, 22.0), point(64, None), undefined], ["psnr"])
    assert cell["reached"] == 3
    assert (cell["psnr"]["images"], cell["psnr"]["mean"], cell["psnr"]["bytes"]) == (2, 21.0, 64.0)
    assert 20 <= cell["psnr"]["low"] <= 21 <= cell["psnr"]["high"] <= 22


@pytest.mark.parametrize(("metric", "share"), [("psnr", 0.25), ("st_lpips", 0.5)])
def test_wins_count_strictly_better_where_both_have_a_value(metric: str, share: float) -> None:
    ours = [point(64, v, metric) for v in (3.0, 1.0, 1.0, 2.0, None, 9.0)]
    theirs = [point(64, v, metric) for v in (2.0, 2.0, 2.0, 2.0, 1.0, None)]
    found = summary.wins(ours, theirs, metric)
    assert (found["images"], found["share"], found["difference"]["mean"]) == (4, share, -0.25)
    assert summary.wins(ours[4:], theirs[4:], metric)["share"] is None


@pytest.mark.parametrize(("metric", "sign"), [("psnr", 1), ("st_lpips", -1)])
def test_bd_rate_of_a_curve_that_needs_half_the_bytes(metric: str, sign: int) -> None:
    pytest.importorskip("bjontegaard")
    budgets = [64, 128, 256, 512, 1024]
    theirs = {b: [point(b, sign * np.log2(b), metric)] for b in budgets}
    ours = {b: [point(b, sign * (np.log2(b) + 1), metric)] for b in budgets}  # one doubling ahead
    found = summary.bd_rate(theirs, ours, budgets, metric)
    assert found == {"percent": -50.0, "budgets": budgets, "overlap": 0.6}
    found = summary.bd_rate(ours, theirs, budgets, metric)
    assert found == {"percent": 100.0, "budgets": budgets, "overlap": 0.6}
    theirs[64] = [point(64, None)]
    found = summary.bd_rate(theirs, ours, budgets, metric)
    assert found == {"percent": -50.0, "budgets": budgets[1:], "overlap": 0.5}


def test_no_bd_rate_without_curves_that_overlap() -> None:
    budgets = [64, 128, 256]
    rising = {b: [point(b, float(b))] for b in budgets}
    assert summary.bd_rate(rising, {b: [point(b, 1000.0 + b)] for b in budgets}, budgets, "psnr") is None
    assert summary.bd_rate(rising, {b: [point(b, 100.0)] for b in budgets}, budgets, "psnr") is None
    missing = {**rising, 64: [point(64, None)]}
    assert summary.bd_rate(rising, missing, budgets, "psnr") is None


def test_tables() -> None:
    values = {"prow": (21.0, 22.0, 23.25), "jpeg-scaled": (None, 20.014, 21.5)}
    budgets = [64, 128, 1256]
    points = {c: {b: [point(b, v)] * 2 for b, v in zip(budgets, row, strict=True)} for c, row in values.items()}
    points["jpeg-scaled"][128] = [point(128, 20.014), point(128, None)]
    results = {
        "corpus": {"images": 2},
        "budgets": budgets,
        "metrics": ["psnr"],
        "summary": {c: {str(b): summary.summarise(points[c][b], ["psnr"]) for b in budgets} for c in points},
        "comparison": summary.compare(points, budgets, ["psnr"]),
    }
    means, won, bd = (text.splitlines() for text in tables.all_tables(results))
    assert means == [
        "| PSNR, dB (higher is better) |  64 B |     128 B | 1,256 B |",
        "|-----------------------------|------:|----------:|--------:|",
        "| prow                        | 21.00 |     22.00 |   23.25 |",
        "| jpeg, best downscale        |     - | 20.01 (1) |   21.50 |",
    ]
    assert won == [
        "| prow better in PSNR, dB, % of images | 64 B |   128 B | 1,256 B |",
        "|--------------------------------------|-----:|--------:|--------:|",
        "| than jpeg, best downscale            |    - | 100 (1) |     100 |",
    ]
    assert bd == [
        "| bytes of prow for the same quality (BD-rate) | PSNR, dB |",
        "|----------------------------------------------|---------:|",
        "| against jpeg, best downscale                 |        - |",
    ]
    bd_rate = {"percent": -12.34, "budgets": budgets, "overlap": 0.5}
    results["comparison"]["prow"]["jpeg-scaled"]["psnr"]["bd_rate"] = bd_rate
    assert markdown(tables.bd_rows(results, "prow")).splitlines()[2].endswith("|  -12.3 % |")


# -- Butteraugli -----------------------------------------------------------------------------------------------------


def test_butteraugli_grows_with_noise(photo: np.ndarray) -> None:
    if shutil.which(metrics.BUTTERAUGLI) is None:
        pytest.skip(f"{metrics.BUTTERAUGLI} is not on the PATH")
    patch = np.ascontiguousarray(photo[:64, :80])
    values = [metrics.butteraugli(patch, noisy(patch, spread)) for spread in (0, 5, 30)]
    assert values[0] == 0 < values[1] < values[2]


def test_butteraugli_says_what_is_missing_or_failed(monkeypatch: pytest.MonkeyPatch, photo: np.ndarray) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingPackageError, match="butteraugli_main.*libjxl-devtools"):
        metrics.require(["psnr", "butteraugli"])
    monkeypatch.undo()
    monkeypatch.setattr(metrics, "BUTTERAUGLI", "false")
    with pytest.raises(RuntimeError, match="false ended with 1"):
        metrics.butteraugli(photo[:40, :40], photo[:40, :40])
