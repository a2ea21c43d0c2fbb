"""Whatever callers give: a result, or a ProwError that names what came. Numbers of numpy are numbers."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from conftest import draw_picture
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import prow
from prow import links, metrics
from prow.arguments import told
from prow.format import container, extras
from prow.format.tokens import PassTokens, Tokens

PIXELS = draw_picture(12, 9)
HUGE = 10**400
ODD: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 7, 30, 99, 255, HUGE, -HUGE, 10**5000, 2**63, 0.0, 0.5, 1e-320, 1e308),
    *(float("nan"), float("inf"), Decimal("3"), Fraction(1, 3), 1j, np.int64(40), np.uint8(7), np.float32(0.5)),
    *(np.bool_(True), np.nan, np.array(3), np.array([1, 2]), np.zeros((3, 4, 3), np.uint8), np.zeros(0), np.array("x")),
    *("", "file", "bare", "default", "toy", "cpu", "vivid", "crc32", "\0", "\ud800", b"", b"\xf5\xf0", bytearray(b"x")),
    *((), [], {}, set(), object(), int, print, range(3), [None], [b"x"], (1, 2), slice(3), memoryview(b"abc")),
]

WRONG = {  # functions whose arguments here are none that will do, and why
    "encode ms_ssim": "161 px",
    "register_tokenizer": "NoneType",
    "import_model": "no such file",
    "fit_tables": "imported are",
}


@pytest.fixture
def data(installed: None) -> bytes:
    return prow.encode(PIXELS, bytes=60, effort=1)


def calls(data: bytes) -> dict[str, tuple[Callable[..., Any], dict[str, Any]]]:
    """Every public function with arguments that are right."""
    tokens = prow.tokenize(PIXELS, bytes=60, effort=1)
    how = {"model": "default", "effort": 1, "device": "cpu"}
    some = {"bytes": 60, **how, "profile": "file", "max_pixels": 108}
    seen = {"style": "faithful", "device": "cpu", "strict": True, "max_pixels": 108}
    size = {"width": 12, "height": 9}
    more = {"check": "crc16", "keep_metadata": False, "letterbox": False}
    return {
        "encode": (prow.encode, {"image": PIXELS, **some, **more}),
        "encode bpp": (prow.encode, {"image": PIXELS, "bpp": 5.0, "effort": 1}),
        "encode quality": (prow.encode, {"image": PIXELS, "quality": 3, "effort": 1}),
        "encode psnr": (prow.encode, {"image": PIXELS, "psnr": 5.0, "effort": 1}),
        "encode ms_ssim": (prow.encode, {"image": PIXELS, "ms_ssim": 0.5, "effort": 1}),
        "encode_many": (prow.encode_many, {"images": [PIXELS], **some}),
        "tokenize": (prow.tokenize, {"image": PIXELS, **some}),
        "placeholder": (prow.placeholder, {"image": PIXELS, "bytes": 30, **how}),
        "decode": (prow.decode, {"data": data, **seen, "octaves": 0}),
        "decode_many": (prow.decode_many, {"files": [data], **seen}),
        "detokenize": (prow.detokenize, {"tokens": tokens, "style": "faithful", "device": "cpu", "octaves": 0}),
        "tokens_from_array": (prow.tokens_from_array, {"array": tokens.to_array(), **size, "model": "toy"}),
        "tokens_from_array sampled": (
            prow.tokens_from_array,
            {"array": [1], **size, "strict": False, "letterbox": False},
        ),
        "to_array": (tokens.to_array, {"length": 900}),
        "ordered_tokenizer": (prow.ordered_tokenizer, {"model": "toy", "side": 8, "tokens": 9, "device": "cpu"}),
        "register_tokenizer": (prow.register_tokenizer, {"name": "none", "tokenizer": None, "sha256": "00" * 32}),
        "import_model": (prow.import_model, {"name": "none", "file": "no such file", "replace": False}),
        "fit_tables": (prow.fit_tables, {"name": "none", "data": [], "device": "cpu"}),
        "inspect": (prow.inspect, {"data": data, "tokens": True, "bare": False}),
        "truncate": (prow.truncate, {"data": data, "n": 40}),
        "split": (links.split, {"data": data, "packet": 40, "parity": 2}),
        "join": (links.join, {"packets": links.split(data, 40)}),
        "arrivals": (links.arrivals, {"packets": links.split(data, 40)}),
        "psnr": (metrics.psnr, {"wanted": PIXELS, "got": PIXELS}),
        "ms_ssim": (metrics.ms_ssim, {"wanted": np.zeros((161, 161), np.uint8), "got": np.zeros((161, 161), np.uint8)}),
        "pack": (container.pack, {"payload": b"x", **size, "model_id": 2, "profile": "file", "extras": {"EXIF": b""}}),
        "parse": (container.parse, {"data": data}),
        "parse_extras": (container.parse_extras, {"data": data}),
        "add_extras": (container.add_extras, {"data": data, "extras": {"EXIF": b""}}),
        "chunk": (extras.chunk, {"tag": "EXIF", "content": b""}),
    }


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_every_public_function_works_or_says_why_not(data: bytes, choice: st.DataObject) -> None:
    """One argument of each function after the other is replaced by something odd."""
    for work, given_ in calls(data).values():
        argument = choice.draw(st.sampled_from(sorted(given_)))
        value = ODD[choice.draw(st.integers(0, len(ODD) - 1))]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                work(**{**given_, argument: value})
            except prow.ProwError as error:
                assert str(error)


def test_all_odd_values_of_all_arguments_of_the_cheap_functions(data: bytes) -> None:
    for name, (work, given_) in calls(data).items():
        if name.startswith(("encode", "tokenize", "placeholder", "decode", "ms_ssim")):
            continue
        for argument in given_:
            for value in ODD:
                try:
                    work(**{**given_, argument: value})
                except prow.ProwError as error:
                    assert str(error), (name, argument)


def test_right_arguments_are_right(data: bytes) -> None:
    for name, (work, given_) in calls(data).items():
        try:
            assert work(**given_) is not None, name
        except prow.ProwError as error:
            assert WRONG[name] in str(error)


@pytest.mark.parametrize(
    ("work", "reason"),
    [
        (lambda: prow.encode(PIXELS, bpp=HUGE), "bpp 10{5}.* came, wanted a number above 0"),
        (lambda: prow.encode(PIXELS, bpp=float("nan")), "bpp nan came, wanted a number above 0"),
        (lambda: prow.encode(PIXELS, bpp=True), "bpp True came"),
        (lambda: prow.encode(PIXELS, psnr=HUGE), "psnr 10{5}.* came, wanted a number of dB above 0"),
        (lambda: prow.encode(PIXELS, quality=True), "quality True came, wanted a number from 0 to 100"),
        (lambda: prow.encode(PIXELS, bytes=10**5000, effort=0), "effort 0 came"),
        (lambda: prow.encode(PIXELS, bytes=-(10**5000)), "bytes of type int came, wanted a whole number"),
        (lambda: prow.encode(PIXELS, device=5), "device 5 came, wanted 'auto'"),
        (lambda: prow.encode(PIXELS, model=["toy"]), "model .*toy.* came, wanted the name of one"),
        (lambda: prow.encode_many(None), "images of type NoneType came, wanted pictures to go through"),
        (lambda: prow.encode_many("photo.jpg"), "images of type str came"),
        (lambda: prow.decode_many(None), "files of type NoneType came, wanted files to go through"),
        (lambda: prow.decode_many(b"file"), "files of type bytes came"),
        (lambda: prow.detokenize(None), "tokens of type NoneType came"),
        (lambda: links.join(None), "packets of type NoneType came"),
        (lambda: links.join([3]), "a packet is bytes, not int"),
        (lambda: prow.tokens_from_array([[1], [2, 3]], width=3, height=3), "symbols came that are no array"),
    ],
)
def test_what_came_and_what_was_wanted(installed: None, work: Callable[[], Any], reason: str) -> None:
    with pytest.raises(prow.InputError, match=reason):
        work()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"width": 13 * 8}, "passes came, 104 x 9 px of model toy want|wanted integers"),
        ({"width": "12"}, "'12' x 9 px came"),
        ({"base": 99}, "base 99 came, wanted 0 to 63 or None"),
        ({"base": "3"}, "base '3' came"),
        ({"base": 3.0}, "base 3.0 came"),
        ({"external": "x"}, "external 'x' came, wanted None or an External"),
        ({"model_id": [1]}, r"model_id \[1\] came, wanted a whole number from 1 to 255"),
        ({"passes": None}, "passes None came, wanted a tuple of PassTokens"),
        ({"passes": (1, 2)}, r"passes \(1, 2\) came"),
        ({"alpha": (PassTokens(np.zeros(1), np.zeros((1, 1))),)}, "1 passes came"),
        ({"grey": "no"}, "grey 'no' came, wanted True or False"),
    ],
)
def test_tokens_that_do_not_fit(data: bytes, changes: dict[str, Any], reason: str) -> None:
    tokens = dataclasses.replace(prow.tokenize(PIXELS, bytes=60, effort=1), **changes)
    with pytest.raises(prow.InputError, match=reason):
        prow.detokenize(tokens)


def test_numbers_of_numpy_are_numbers(data: bytes) -> None:
    assert prow.encode(PIXELS, bytes=np.int16(60), effort=np.uint8(1), max_pixels=np.int64(108)) == data
    assert prow.encode(PIXELS, bpp=np.float32(60 * 8 / 108 + 0.01), effort=1) == data
    assert prow.encode(PIXELS, quality=np.int8(3)) == prow.encode(PIXELS, quality=3.0)
    assert prow.truncate(data, np.uint8(40)) == prow.truncate(data, 40)
    assert prow.decode(data, octaves=np.int8(1), max_pixels=np.uint32(108)) == prow.decode(data, octaves=1)
    assert links.split(data, np.int32(40), np.int64(2)) == links.split(data, 40, 2)
    fields = {"width": np.int16(300), "height": np.uint8(200), "model_id": np.uint8(2)}
    assert container.pack(b"x", **fields) == container.pack(b"x", width=300, height=200, model_id=2)
    tokens = prow.tokenize(PIXELS, bytes=np.int64(60))
    assert np.array_equal(tokens.to_array(np.int32(900)), tokens.to_array(900))
    assert prow.tokens_from_array(tokens.to_array(), width=np.uint8(12), height=np.int8(9)) == tokens
    assert tokens[: np.int64(3)] == tokens[:3] and tokens[np.int16(2)][:3] == tokens[2][:3]
    same = dataclasses.replace(tokens, width=np.int16(12), height=np.uint8(9), base=np.int64(tokens.base or 0))
    assert prow.detokenize(same) == prow.detokenize(tokens) and isinstance(same, Tokens)


def test_a_value_is_told_in_few_characters() -> None:
    assert told(3) == "3" and told("a b") == "'a b'" and len(told("x" * 999)) == 60 and "\n" not in told("a\nb" * 9)
    assert told(10**5000) == "of type int"
