"""The public face: its names, what it takes, what it refuses and in which words, and that torch stays out of it."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import draw_picture
from PIL import Image

import prow
from prow.format import container

pytestmark = pytest.mark.usefixtures("installed")

NAMES = {
    *("encode", "encode_many", "decode", "decode_many", "tokenize", "detokenize", "inspect", "truncate", "models"),
    *("Info", "PassInfo", "ModelInfo", "tokens_from_array", "placeholder"),
    *("fit_tables", "import_model", "ordered_tokenizer", "register_tokenizer"),
    *("ProwError", "ProwWarning", "CutWarning", "InputError", "BudgetError", "ModelError"),
    *("FormatError", "HeaderError", "VersionError", "DamagedError", "LimitError"),
}
TOY_ID = 120


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return draw_picture(64, 48)


@pytest.fixture
def data(pixels: np.ndarray) -> bytes:
    """A file of 300 bytes: 12 of header, 288 of payload."""
    return prow.encode(pixels, bytes=300)


# -- names -------------------------------------------------------------------------------------------------------


def test_public_names() -> None:
    assert set(prow.__all__) == NAMES
    assert all(hasattr(prow, name) for name in NAMES)
    assert prow.__all__ == sorted(prow.__all__)


def test_error_tree() -> None:
    tree = {
        prow.ProwError: Exception,
        prow.InputError: prow.ProwError,
        prow.BudgetError: prow.InputError,
        prow.FormatError: prow.ProwError,
        prow.HeaderError: prow.FormatError,
        prow.VersionError: prow.FormatError,
        prow.DamagedError: prow.FormatError,
        prow.LimitError: prow.FormatError,
        prow.ModelError: prow.ProwError,
    }
    assert {error: error.__base__ for error in tree} == tree


def test_only_public_names_are_there() -> None:
    assert set(prow.__all__) <= set(dir(prow))
    with pytest.raises(AttributeError, match="module 'prow' has no attribute 'shrink'"):
        prow.shrink  # type: ignore[attr-defined]  # noqa: B018


# -- no torch ----------------------------------------------------------------------------------------------------

LIGHT = """
import json, sys
from pathlib import Path
import prow
import prow.registry as registry
loaded = {"import prow": "torch" in sys.modules}
registry._files, registry.DEFAULT = (lambda: {"toy": Path(sys.argv[1])}), "toy"
data = Path(sys.argv[2]).read_bytes()
for name, work in {
    "models": lambda: prow.models(),
    "inspect": lambda: prow.inspect(data),
    "truncate": lambda: prow.truncate(data, 100),
}.items():
    work()
    loaded[name] = "torch" in sys.modules
tokens = sum(p.tokens for p in prow.inspect(prow.truncate(data, 100), tokens=True).tokens_per_pass)
prow.decode(data)
print(json.dumps([loaded, tokens, "torch" in sys.modules]))
"""


def test_torch_waits_until_pixels_are_asked_for(data: bytes, toy_file: Path, tmp_path: Path) -> None:
    (tmp_path / "a.prow").write_bytes(data)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", LIGHT, str(toy_file), str(tmp_path / "a.prow")]
    done = subprocess.run(command, capture_output=True, env=env, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    loaded, tokens, in_the_end = json.loads(done.stdout)
    assert loaded == dict.fromkeys(("import prow", "models", "inspect", "truncate"), False)
    assert tokens > 5
    assert in_the_end  # or this test would prove nothing


# -- what goes in ------------------------------------------------------------------------------------------------


def test_every_kind_of_image(pixels: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path)
    wanted = prow.encode(pixels, bytes=200)
    rgba = Image.fromarray(pixels).convert("RGBA")
    for same in (Image.fromarray(pixels), path, str(path), rgba, np.asfortranarray(pixels)):
        assert prow.encode(same, bytes=200) == wanted


def test_every_kind_of_grey_image(pixels: np.ndarray) -> None:
    grey = pixels[..., 0].copy()
    wanted = prow.encode(grey, bytes=200)
    wide = Image.fromarray(grey.astype(np.uint16) * 257)
    assert wide.mode.startswith("I;16")
    for same in (grey[..., None], Image.fromarray(grey), wide):
        assert prow.encode(same, bytes=200) == wanted
    decoded = prow.decode(wanted)
    assert (decoded.mode, decoded.size) == ("L", (64, 48))


def test_the_picture_given_is_not_changed(pixels: np.ndarray) -> None:
    given = pixels.copy()
    prow.encode(given, bytes=100)
    assert np.array_equal(given, pixels)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_every_kind_of_bytes(kind: Callable, data: bytes) -> None:
    assert np.array_equal(prow.decode(kind(data)), prow.decode(data))
    assert prow.inspect(kind(data)) == prow.inspect(data)
    assert prow.truncate(kind(data), 80) == prow.truncate(data, 80)


def test_models_by_name(pixels: np.ndarray) -> None:
    assert prow.encode(pixels, bytes=99, model="toy") == prow.encode(pixels, bytes=99, model="default")
    assert prow.encode(pixels, bytes=99, device="cpu") == prow.encode(pixels, bytes=99)


def test_inspect(data: bytes) -> None:
    info = prow.inspect(data + b"extras", tokens=True)
    assert dataclasses.replace(info, tokens_per_pass=None) == prow.inspect(data + b"extras")
    assert (info.version, info.profile, info.model, info.model_id) == (1, "file", "toy", TOY_ID)
    assert (info.width, info.height, info.state) == (64, 48, "whole")
    assert (info.declared_bytes, info.present_bytes, info.trailing_bytes) == (300, 306, 6)
    assert info.tokens_per_pass is not None and info.step is not None
    passes = [(p.kind, p.width, p.height, p.tiles) for p in info.tokens_per_pass]
    middle = [("middle", 16, 12, 4), ("middle", 32, 24, 12)]
    assert passes == [("start", 8, 6, 1), *middle, ("full", 64, 48, 48), *[("refine", 64, 48, 48)] * 6]
    steps = [p.step / info.step for p in info.tokens_per_pass]  # an octave below is coarser by a quarter of an octave
    assert steps == pytest.approx(
        [2 ** (3 / 4), 2 ** (2 / 4), 2 ** (1 / 4), 1, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64]
    )
    cut = prow.inspect(data[:100], tokens=True)
    assert (cut.state, cut.declared_bytes, cut.present_bytes) == ("cut", 300, 100)
    assert cut.tokens_per_pass is not None
    pairs = zip(cut.tokens_per_pass, info.tokens_per_pass, strict=True)
    assert all(some.tokens <= every.tokens for some, every in pairs)
    assert 0 < sum(p.tokens for p in cut.tokens_per_pass) < sum(p.tokens for p in info.tokens_per_pass)


def test_truncate(data: bytes) -> None:
    short = prow.truncate(data, 120)
    assert len(short) == 120 and prow.inspect(short).state == "whole"
    assert np.array_equal(prow.decode(short), prow.decode(data[:120]))
    assert prow.truncate(data, 1000) == data


# -- what is refused: the class, what came, what was wanted --------------------------------------------------------


def refuse(error: type[Exception], work: Callable[[], object], *words: str) -> None:
    """`work()` raises exactly this class, with all words in its message."""
    with pytest.raises(prow.ProwError) as caught:
        work()
    assert type(caught.value) is error, repr(caught.value)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def readers() -> list[Callable[[bytes], object]]:
    return [prow.decode, prow.inspect, lambda data: prow.truncate(data, 200)]


def test_empty_file() -> None:
    for reader in readers():
        refuse(prow.HeaderError, lambda: reader(b""), "0 bytes came", "at least 3 wanted")  # noqa: B023


def test_truncated_header(data: bytes) -> None:
    for reader in readers():
        for n in range(1, 12):
            came = "1 byte came" if n == 1 else f"{n} bytes came"
            refuse(prow.HeaderError, lambda: reader(data[:n]), came, "12 wanted")  # noqa: B023
        refuse(prow.HeaderError, lambda: reader(bytes([TOY_ID, 0x80])), "2 bytes came", "width")  # noqa: B023


def test_wrong_magic(data: bytes) -> None:
    for reader in readers():
        for start in (b"\x89PNG", b"\xff\xd8\xff\xe0", b"\xf5\x70", b"\xf5\xf0\x20", b"\0\0"):
            foreign = start + data[len(start) :]
            words = (foreign[:3].hex(" ") + " came", "f5 f0", "wanted")
            refuse(prow.HeaderError, lambda: reader(foreign), *words)  # noqa: B023


def test_unknown_version(data: bytes) -> None:
    newer = data[:2] + bytes([data[2] ^ 3 << 5]) + data[3:]
    for reader in readers():
        refuse(prow.VersionError, lambda: reader(newer), "2 came", "1 wanted")  # noqa: B023


def test_header_check_and_model_0(data: bytes) -> None:
    narrow, none = data[:3] + b"\0" + data[4:], data[:8] + b"\0" + bytes([container.crc8(data[:8] + b"\0")]) + data[10:]
    for reader in readers():
        for n in (len(narrow), 100, 12):
            refuse(prow.HeaderError, lambda: reader(narrow[:n]), "header check", "came", "wanted")  # noqa: B023
        refuse(prow.HeaderError, lambda: reader(none), "0 came", "1 to 255 wanted")  # noqa: B023


def test_unknown_model(pixels: np.ndarray) -> None:
    foreign = container.pack(b"tokens", width=64, height=48, model_id=77)
    refuse(prow.ModelError, lambda: prow.decode(foreign), "model id 77", "120 (toy)", "pip install")
    info = prow.inspect(foreign)  # that much can be said without the model
    assert (info.model, info.model_id, info.step, info.tokens_per_pass) == (None, 77, None, None)
    assert prow.inspect(prow.truncate(foreign, 14)).present_bytes == 14
    refuse(prow.ModelError, lambda: prow.encode(pixels, bytes=99, model="vivid"), "'vivid' came", "120 (toy)")


def test_absurd_sizes(data: bytes) -> None:
    vast = container.pack(data[12:], width=65_535, height=65_535, model_id=TOY_ID)
    refuse(prow.LimitError, lambda: prow.decode(vast), "4,294,836,225 pixels", "67,108,864", "max_pixels")
    assert prow.inspect(vast).tokens_per_pass is None
    refuse(prow.LimitError, lambda: prow.decode(data, max_pixels=3071), "64 x 48", "3,072 pixels", "3,071")
    assert prow.decode(data, max_pixels=3072).size == (64, 48)
    start = b"\xf5\xf0\xbf\xff\xf0" + bytes(6) + bytes([TOY_ID])
    too_wide = start + bytes([container.crc8(start), 0, 0])
    for reader in readers():
        refuse(prow.HeaderError, lambda: reader(too_wide), "65,536 px came", "65,535 wanted")  # noqa: B023


def test_random_bytes() -> None:
    """Either a ProwError, or a picture: nothing else. No random bytes make a reader allocate without limit."""
    rng, errors = np.random.default_rng(7), 0
    starts = [b"", b"\xf5", b"\xf5\xf0\xa0", b"\xf5\xf0\xa0\x0f\xc0\xbc\0\7\x78", b"\x78", b"\x78\x05\x07"]
    for number in range(240):
        junk = starts[number % len(starts)] + rng.bytes(int(rng.integers(0, 60)))
        for reader in (lambda data: prow.decode(data, max_pixels=1000, strict=False), *readers()[2:]):
            try:
                reader(junk)
            except prow.ProwError as error:
                errors += 1
                assert str(error)
    assert 200 < errors < 480


def test_random_payloads_decode() -> None:
    """There are no wrong tokens: whatever the payload, it stands for some picture."""
    rng = np.random.default_rng(8)
    for _ in range(30):
        payload = rng.bytes(int(rng.integers(0, 400)))
        for profile in ("file", "bare"):
            junk = container.pack(payload, width=33, height=21, model_id=TOY_ID, profile=profile)
            assert prow.decode(junk).size == (33, 21)


def test_damaged(data: bytes) -> None:
    damaged = data[:150] + bytes([data[150] ^ 4]) + data[151:]
    assert prow.inspect(damaged).state == "damaged"
    refuse(prow.DamagedError, lambda: prow.decode(damaged), "CRC", "damaged", "strict=False")
    refuse(prow.DamagedError, lambda: prow.truncate(damaged, 100), "CRC", "damaged")
    assert prow.decode(damaged, strict=False).size == (64, 48)
    assert np.array_equal(prow.decode(damaged[:150]), prow.decode(data[:150]))  # cut before the damage


def test_unreadable_images(tmp_path: Path, pixels: np.ndarray) -> None:
    (tmp_path / "text.png").write_text("no picture")
    Image.fromarray(pixels).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:900])
    for name in ("missing.png", "text.png", "cut.png"):
        refuse(prow.InputError, lambda: prow.encode(tmp_path / name), str(tmp_path / name))  # noqa: B023
    refuse(prow.InputError, lambda: prow.encode(tmp_path), str(tmp_path))


ARRAYS = {
    "dtype": (np.zeros((4, 4, 3), np.float32), ("float32 came", "uint8 wanted")),
    "channels": (np.zeros((4, 4, 5), np.uint8), ("[4, 4, 5] came", "[H, W, 1 to 4]")),
    "dimensions": (np.zeros((2, 4, 4, 3), np.uint8), ("[2, 4, 4, 3] came", "[H, W]")),
    "nothing": (np.zeros((0, 4, 3), np.uint8), ("4 x 0 px came", "1 to 65,535")),
    "a side too long": (np.zeros((1, 65_536), np.uint8), ("65536 x 1 px came", "1 to 65,535")),
    "no image": (["pixels"], ("a PIL image, a numpy array or a path", "list")),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_bad_arrays(name: str) -> None:
    image, words = ARRAYS[name]
    refuse(prow.InputError, lambda: prow.encode(image, bytes=100), *words)  # type: ignore[arg-type]


BAD_ARGUMENTS = {
    "a budget of 31": ({"bytes": 31}, prow.BudgetError, ("31 bytes came", "at least 32")),
    "no budget": ({"bytes": 0}, prow.BudgetError, ("0 bytes came", "at least 32")),
    "a negative budget": ({"bytes": -5}, prow.BudgetError, ("-5 bytes came", "at least 32")),
    "a bare budget of 15": ({"bytes": 15, "profile": "bare"}, prow.BudgetError, ("15 bytes came", "at least 16")),
    "half a byte": ({"bytes": 99.5}, prow.InputError, ("99.5 came", "whole number")),
    "a yes": ({"bytes": True}, prow.InputError, ("True came", "whole number")),
    "a word": ({"bytes": "700"}, prow.InputError, ("'700' came", "whole number")),
    "few bits": ({"bpp": 0.05}, prow.BudgetError, ("19 bytes came", "at least 32")),
    "no bits": ({"bpp": 0}, prow.InputError, ("0 came", "above 0")),
    "endless bits": ({"bpp": float("inf")}, prow.InputError, ("inf came", "above 0")),
    "quality 101": ({"quality": 101}, prow.InputError, ("101 came", "0 to 100")),
    "quality -1": ({"quality": -1}, prow.InputError, ("-1 came", "0 to 100")),
    "no number": ({"quality": float("nan")}, prow.InputError, ("nan came", "0 to 100")),
    "quality best": ({"quality": "best"}, prow.InputError, ("'best' came", "0 to 100")),
    "two sizes": ({"bytes": 99, "bpp": 1}, prow.InputError, ("bytes and bpp came", "one of bytes, bpp and quality")),
    "three sizes": ({"bytes": 99, "bpp": 1, "quality": 1}, prow.InputError, ("bytes and bpp and quality came",)),
    "a profile": ({"profile": "raw"}, prow.InputError, ("'raw' came", "'file', 'bare'")),
    "a device": ({"device": "abacus"}, prow.InputError, ("'abacus' came", "torch cannot use it")),
    "no such GPU": ({"device": "cuda:99"}, prow.InputError, ("'cuda:99' came", "torch cannot use it")),
}


@pytest.mark.parametrize("name", BAD_ARGUMENTS)
@pytest.mark.parametrize("work", [prow.encode, prow.tokenize])
def test_bad_arguments(work: Callable, name: str, pixels: np.ndarray) -> None:
    arguments, error, words = BAD_ARGUMENTS[name]
    refuse(error, lambda: work(pixels, **arguments), *words)


def test_bad_arguments_of_readers(data: bytes) -> None:
    refuse(prow.InputError, lambda: prow.decode(data, device="abacus"), "'abacus' came", "torch cannot use it")
    for reader in readers():
        refuse(prow.InputError, lambda: reader("a.prow"), "bytes", "str")  # type: ignore[arg-type]  # noqa: B023
    refuse(prow.BudgetError, lambda: prow.truncate(data, 12), "12 bytes came", "at least 13")
    refuse(prow.InputError, lambda: prow.truncate(data, 99.5), "99.5 came", "a whole number")  # type: ignore[arg-type]


@pytest.mark.parametrize("effort", [0, 10, 2.5, True, "fast"])
def test_an_effort_outside_1_to_9_is_refused(effort: object) -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(prow.InputError, match=r"effort .* came, wanted a whole number from 1 to 9"):
        prow.encode(pixels, bytes=64, effort=effort)  # type: ignore[arg-type]
