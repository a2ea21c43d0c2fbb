"""The golden vectors of models in the package, bit for bit in both token readers, and hostile files in prow.decode."""

from __future__ import annotations

import copy
import dataclasses
import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import prow
from format_spec import VECTORS, make_vectors, model_file, tokens
from format_spec.reader import Violation
from prow import errors, registry
from prow.entropy.context_model import PassContext
from prow.entropy.model import Model, StreamSpec
from prow.entropy.reader import read
from prow.entropy.tables import MAX_MAGNITUDE
from prow.entropy.trim import trim
from prow.entropy.writer import write
from prow.format.config import NEAR
from prow.format.container import parse
from prow.format.tokens import Tokens
from prow.registry import ModelFile

SPEC = Path(__file__).resolve().parents[1] / "format_spec"
GOLDEN = json.loads(make_vectors.INDEX.read_text())
HOSTILE = [v for v in json.loads((VECTORS / "hostile.json").read_text()) if v["stage"] == "decode"]

golden = pytest.mark.parametrize("vector", GOLDEN["vectors"], ids=lambda vector: vector["file"].removesuffix(".prow"))


def content(vector: dict) -> bytes:
    return (make_vectors.GOLDEN / vector["file"]).read_bytes()


def check(vector: dict, found: dict, coefficients: int) -> None:
    """`found` as golden.json has it: base, counts and values of each pass."""
    for name in ("base", "grey", "alpha", "counts", "values"):
        assert found[name] == vector[name]
    assert make_vectors.digest(found["values"], coefficients) == vector["values_sha256"]


def test_every_installed_model_has_vectors() -> None:
    assert list(GOLDEN["models"]) == [info.name for info in prow.models()], f"run `{make_vectors.COMMAND}`"
    for name in GOLDEN["models"]:
        assert sum(vector["model"] == name for vector in GOLDEN["vectors"]) >= 8


def test_every_vector_is_listed_and_every_form_has_one() -> None:
    assert {path.name for path in make_vectors.GOLDEN.iterdir()} == {vector["file"] for vector in GOLDEN["vectors"]}
    headers = [parse(content(vector)) for vector in GOLDEN["vectors"]]
    assert {(header.profile, header.header_bytes > 12) for header, _, _ in headers} >= {
        ("file", False),
        ("file", True),
        ("bare", False),
    }
    assert {state for _, _, state in headers} == {"whole", "cut"} and b"" in [payload for _, payload, _ in headers]
    coded = [[any(counts) for counts in vector["counts"]] for vector in GOLDEN["vectors"]]
    assert any((False, False, True) in zip(row, row[1:], row[2:], strict=False) for row in coded)  # two skipped passes


@golden
def test_every_integer_is_written_down(vector: dict) -> None:
    """So that another reader can see which one it has wrong. The digest is of these integers."""
    config = registry.load(vector["model"]).config
    assert make_vectors.digest(vector["values"], config.coefficients) == vector["values_sha256"]
    assert [len(tiles) for tiles in vector["values"]] == [len(counts) for counts in vector["counts"]]
    ends = np.append(0, np.cumsum(config.token_dims))
    for counts, tiles in zip(vector["counts"], vector["values"], strict=True):
        for count, ranked in zip(counts, tiles, strict=True):
            assert len(ranked) <= ends[count] and (not ranked or ranked[-1] != 0)


@pytest.mark.parametrize("name", GOLDEN["models"])
def test_there_are_vectors_of_several_refining_passes_and_of_every_form_of_the_base(name: str) -> None:
    config = registry.load(name).config
    rows = [vector for vector in GOLDEN["vectors"] if vector["model"] == name]
    refined = [[any(counts) for counts in vector["counts"][-len(config.refine_shifts) :]] for vector in rows]
    assert any(all(row) for row in refined) and any(0 < sum(row) < len(row) for row in refined)
    # Far from the usual base; near it and short (the first symbol, three bits, is not 7); near it and long.
    known = [vector for vector in rows if vector["base"] is not None]
    near = [vector for vector in known if abs(vector["base"] - config.usual_base) <= NEAR]
    assert len(near) < len(known)
    assert {parse(content(vector))[1][0] >> 5 == 7 for vector in near} == {False, True}
    assert b"\xfe" in [parse(content(v))[1] for v in rows if v["base"] is None]  # the first of its two symbols alone


@golden
def test_prow_reads_the_golden_tokens(vector: dict) -> None:
    model = registry.load(vector["model"])
    header, payload, state = parse(content(vector))
    assert (header.model_id, state) == (model.config.model_id, vector["state"])
    found = read(payload, StreamSpec(header.width, header.height, model))
    check(vector, make_vectors.describe(found), model.config.coefficients)


@golden
def test_the_independent_reader_reads_the_golden_tokens(vector: dict) -> None:
    model = registry.load(vector["model"])
    found = tokens.decode_tokens(content(vector), model.content)
    assert found["state"] == vector["state"]
    check(vector, make_vectors.describe_row(found), model.config.coefficients)


def test_one_other_integer_is_seen() -> None:
    vector = next(v for v in GOLDEN["vectors"] if v["file"] == "anchor_100x75.prow")
    for name in ("values", "counts"):
        changed = copy.deepcopy(vector)
        at = next(tiles for tiles in changed[name] if tiles[0])
        at[0] = [at[0][0] + 1, *at[0][1:]] if name == "values" else at[0] + 1
        with pytest.raises(AssertionError):
            test_prow_reads_the_golden_tokens(changed)
        with pytest.raises(AssertionError):
            test_the_independent_reader_reads_the_golden_tokens(changed)


@golden
def test_inspect_counts_the_golden_tokens(vector: dict) -> None:
    info = prow.inspect(content(vector), tokens=True)
    assert info.tokens_per_pass is not None
    colour = vector["counts"][: len(info.tokens_per_pass)]
    assert [part.tokens for part in info.tokens_per_pass] == [sum(counts) for counts in colour]
    assert info.mode == ("L" if vector["grey"] else "RGB") + "A" * vector["alpha"]
    assert info.step == (None if vector["base"] is None else 2 ** ((vector["base"] - 8) / 4))


@pytest.mark.parametrize("vector", [v for v in GOLDEN["vectors"] if v["canonical"]], ids=lambda vector: vector["file"])
def test_prow_writes_the_golden_bytes(vector: dict) -> None:
    """Payloads that the writer made, rather than noise or the first part of one, come out of it again."""
    model = registry.load(vector["model"])
    header, payload, _ = parse(content(vector))
    found = read(payload, StreamSpec(header.width, header.height, model))
    assert trim(write(found, model), found, model) == payload


def test_the_example_of_the_specification_is_as_generated() -> None:
    example = make_vectors.example(registry.load("anchor"))
    assert example in make_vectors.SPEC.read_text(), f"run `{make_vectors.COMMAND}`"


# -- random streams in both readers -------------------------------------------------------------------------------


def check_readers_agree(payload: bytes, like: Tokens, model: ModelFile) -> Tokens:
    """What both readers find in a stream of a picture of the same size."""
    spec = StreamSpec(like.width, like.height, model)
    found = read(payload, spec)
    decoder = tokens.RangeDecoder(payload)
    theirs = tokens.decode_stream(decoder, spec.width, spec.height, model_file.parse_model(model.content))
    assert make_vectors.describe_row(theirs) == make_vectors.describe(found)
    if found.base is not None:
        indices = [pass_.step_index(found.base) for pass_ in spec.passes]
        assert [row["step_index"] for row in theirs["passes"]] == indices
    return found


def check_random_stream(model: ModelFile, base: int, seed: int, **choices: Any) -> None:
    """A stream of random tokens in all passes (nine by default), whole and cut."""
    rng = np.random.default_rng(seed)
    sent = make_vectors.random_tokens(20, 13, base, model, rng, refine=True, **choices)
    payload = write(sent, model)
    found = check_readers_agree(payload, sent, model)
    assert make_vectors.describe(found) == make_vectors.describe(sent)
    for length in rng.integers(0, len(payload), 4):
        check_readers_agree(payload[:length], sent, model)


@pytest.mark.parametrize("offset", [-32, -20, -4, -3, -1, 0, 3, 4, 17, 31])
def test_streams_of_any_base_in_both_readers(offset: int, toy_model: ModelFile) -> None:
    check_random_stream(toy_model, toy_model.config.usual_base + offset, 40 + offset)


@pytest.mark.parametrize(
    "skipped", [(0,), (1,), (0, 1, 2), (2, 3), (3, 4, 6), (1, 5, 6, 7), tuple(range(8)), tuple(range(9))]
)
def test_skipped_passes_in_both_readers(skipped: tuple[int, ...], toy_model: ModelFile) -> None:
    check_random_stream(toy_model, 30, 7, skipped=skipped, mean_tokens=6)


def test_refining_passes_in_both_readers(toy_model: ModelFile) -> None:
    for seed, (density, largest) in enumerate([(0.1, 1), (0.5, 2), (1, MAX_MAGNITUDE)]):
        check_random_stream(toy_model, 33, seed, density=density, largest=largest, mean_tokens=8)


def test_what_several_passes_said_at_a_level_is_held(toy_model: ModelFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """The streams above are others if only the pass before counts; those of one pass a level are the same."""
    rng = np.random.default_rng(2)
    refined, plain = (
        make_vectors.random_tokens(20, 13, 33, toy_model, rng, mean_tokens=6, refine=refine) for refine in (True, False)
    )
    right = [write(sent, toy_model) for sent in (refined, plain)]
    monkeypatch.setattr(PassContext, "held", lambda self: self.magnitudes)
    wrong = [write(sent, toy_model) for sent in (refined, plain)]
    assert right[0] != wrong[0] and right[1] == wrong[1]


def with_config(model: bytes, **changes: Any) -> bytes:
    """A model file with other values in its config."""
    length = int.from_bytes(model[:8], "little")
    header = json.loads(model[8 : 8 + length])
    header["__metadata__"]["prow"] = json.dumps(json.loads(header["__metadata__"]["prow"]) | changes)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + model[8 + length :]


@pytest.mark.parametrize("usual", [3, 21, 60])
def test_every_base_in_both_readers_short_or_long(usual: int, toy_file: Path) -> None:
    """A writer for another usual base writes some in the form that is not the right one; a reader accepts it."""
    model = registry.parse_model(with_config(toy_file.read_bytes(), usual_base=usual), "toy")
    for base in range(64):
        sent = make_vectors.random_tokens(9, 3, base, model, np.random.default_rng(base))
        far = Model(dataclasses.replace(model.config, usual_base=3 if base > 6 else 60), model.tables)
        short, long = (write(sent, writer) for writer in (model, far))
        assert (short == long) == (abs(base - usual) > NEAR)
        for payload in (short, long):
            assert check_readers_agree(payload, sent, model).base == base
        for length in (0, 1):  # a base of two symbols takes more than one byte
            found = check_readers_agree(long[:length], sent, model)
            assert found.base is None


def test_other_schedules_in_both_readers(toy_file: Path) -> None:
    for changes in (
        {"octave_step": 0, "refine_shifts": []},
        {"octave_step": 9, "refine_shifts": [0, 40, 2], "usual_base": 50},
    ):
        model = registry.parse_model(with_config(toy_file.read_bytes(), **changes), "toy")
        for base in (2, 33, 60):
            check_random_stream(model, base, base, mean_tokens=4)


# -- the command line of the independent reader -------------------------------------------------------------------


def run_tokens(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The script in a bare interpreter: no site-packages, nothing of ours on the path but its own folder."""
    command = [sys.executable, "-S", "-E", "-s", str(SPEC / "tokens.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def anchor_file() -> Path:
    return Path(registry.__file__).parent / "weights" / "anchor.safetensors"


def test_tokens_prints_json(anchor_file: Path) -> None:
    file = make_vectors.GOLDEN / "anchor_1x1.prow"
    whole = run_tokens(file, "--model", anchor_file, "--values")
    expected = tokens.decode_tokens(file.read_bytes(), anchor_file.read_bytes())
    assert (whole.returncode, whole.stderr) == (0, "") and json.loads(whole.stdout) == expected
    brief = json.loads(run_tokens(file, "--model", anchor_file).stdout)
    assert "values" not in brief["passes"][0] and brief["passes"][0]["counts"] == expected["passes"][0]["counts"]


def test_tokens_refuses_a_hostile_file_by_its_rule(anchor_file: Path) -> None:
    refused = run_tokens(VECTORS / "hostile" / "unknown_model_200.bin", "--model", anchor_file)
    assert refused.returncode == 1 and "R10 (model): the file needs model 200, 1 came" in refused.stderr
    assert run_tokens("nothing.prow").returncode == 2


# -- what readers refuse ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", HOSTILE, ids=lambda vector: vector["file"])
def test_decode_refuses_hostile_files(vector: dict) -> None:
    data = (VECTORS / "hostile" / vector["file"]).read_bytes()
    with pytest.raises(errors.ProwError, match=vector["message"]) as caught:
        prow.decode(data)
    assert type(caught.value).__name__ == vector["error"]


@pytest.mark.parametrize("vector", HOSTILE, ids=lambda vector: vector["file"])
def test_the_independent_reader_refuses_hostile_files(vector: dict, anchor_file: Path) -> None:
    """With a model file that has the right id where the rule is not about that."""
    data = (VECTORS / "hostile" / vector["file"]).read_bytes()
    model_id = 2 if vector["rule"] == "R11" else 1
    model = anchor_file.read_bytes().replace(rb"\"model_id\": 1", rb"\"model_id\": %d" % model_id)
    with pytest.raises((Violation, model_file.Refused), match=f"^{vector['rule']} "):
        tokens.decode_tokens(data, model)


def with_number(model: bytes, name: str, value: int) -> bytes:
    """A model file with one number of an I32 tensor replaced."""
    length = int.from_bytes(model[:8], "little")
    at = 8 + length + json.loads(model[8 : 8 + length])[name]["data_offsets"][0] + 4 * 5
    return model[:at] + struct.pack("<i", value) + model[at + 4 :]


@pytest.mark.parametrize(
    ("name", "value"),
    [("tables.bank", 0), ("tables.bank", 2**24), ("tables.odds", 0), ("tables.odds", 2**24)],
)
def test_both_readers_refuse_a_model_with_a_bad_table(name: str, value: int, anchor_file: Path) -> None:
    model = with_number(anchor_file.read_bytes(), name, value)
    with pytest.raises(model_file.Refused, match=name):
        model_file.parse_model(model)
    with pytest.raises(errors.ModelError):
        registry.parse_model(model, "bad")


@pytest.mark.parametrize(
    "changes",
    [
        {"usual_base": 2},
        {"usual_base": 61},
        {"octave_step": -1},
        {"refine_shifts": [4, -1]},
        {"token_dims": [700]},
        {"token_dims": [0, 768]},
    ],
    ids=str,
)
def test_both_readers_refuse_a_model_with_a_bad_config(changes: dict[str, Any], anchor_file: Path) -> None:
    model = with_config(anchor_file.read_bytes(), **changes)
    with pytest.raises(model_file.Refused):
        model_file.parse_model(model)
    with pytest.raises(errors.ModelError):
        registry.parse_model(model, "bad")


@pytest.mark.parametrize("damage", [b"", b"\xff" * 20, bytes(8) + b"{}", b"\x02" + bytes(7) + b"{}"])
def test_both_readers_refuse_what_is_no_model_file(damage: bytes) -> None:
    with pytest.raises(model_file.Refused):
        model_file.parse_model(damage)
    with pytest.raises(errors.ModelError):
        registry.parse_model(damage, "bad")
