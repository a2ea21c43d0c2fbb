"""The golden vectors in both token readers, the command that writes them, and hostile files in prow.decode."""

from __future__ import annotations

import hashlib
import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest

import prow
from format_spec import make_vectors, model_file, tokens
from format_spec.reader import Violation
from prow import errors, registry
from prow.container import parse
from prow.stream import read, trim, write

SPEC = Path(__file__).resolve().parents[1] / "format_spec"
GOLDEN = json.loads(make_vectors.INDEX.read_text())
HOSTILE = [v for v in json.loads((SPEC / "vectors" / "hostile.json").read_text()) if v["stage"] == "decode"]

golden = pytest.mark.parametrize("vector", GOLDEN["vectors"], ids=lambda vector: vector["file"].removesuffix(".prow"))


def model_of(name: str) -> registry.Model:
    """The model in the package, which has to be the one that the vectors were written for."""
    model = registry.load(name)
    digest = hashlib.sha256(model.content).hexdigest()
    if digest != GOLDEN["models"][name]:
        pytest.fail(
            f"the golden vectors are for {name} {GOLDEN['models'][name][:12]}, the package has {digest[:12]}: "
            f"if the model was replaced on purpose, run `{make_vectors.COMMAND}`"
        )
    return model


def content(vector: dict) -> bytes:
    return (make_vectors.GOLDEN / vector["file"]).read_bytes()


def check(vector: dict, found: dict, coefficients: int) -> None:
    """`found` as golden.json has it: base, counts and values of each pass."""
    assert found["base"] == vector["base"]
    assert found["counts"] == vector["counts"]
    assert found["values"] == vector.get("values", found["values"])
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
    assert any(any(vector["counts"][-1]) for vector in GOLDEN["vectors"])  # a refining pass with tokens
    sent = [[any(counts) for counts in vector["counts"]] for vector in GOLDEN["vectors"]]
    assert any((False, True) in zip(row, row[1:], strict=False) for row in sent)  # a pass that is left out


@golden
def test_prow_reads_the_golden_tokens(vector: dict) -> None:
    model = model_of(vector["model"])
    header, payload, state = parse(content(vector))
    assert (header.model_id, state) == (model.config.model_id, vector["state"])
    found = read(payload, header.width, header.height, header.model_id, model.config, model.tables)
    check(vector, make_vectors.describe(found), model.config.coefficients)


@golden
def test_the_independent_reader_reads_the_golden_tokens(vector: dict) -> None:
    model = model_of(vector["model"])
    found = tokens.decode_tokens(content(vector), model.content)
    assert found["state"] == vector["state"]
    columns = {key: [step[key] for step in found["passes"]] for key in ("counts", "values")}
    check(vector, {"base": found["base"], **columns}, model.config.coefficients)


@golden
def test_inspect_counts_the_golden_tokens(vector: dict) -> None:
    model_of(vector["model"])
    info = prow.inspect(content(vector))
    assert info.tokens_per_pass is not None
    assert [part.tokens for part in info.tokens_per_pass] == [sum(counts) for counts in vector["counts"]]
    assert info.step == (None if vector["base"] is None else 2 ** ((vector["base"] - 8) / 4))


@pytest.mark.parametrize("vector", [v for v in GOLDEN["vectors"] if v["canonical"]], ids=lambda vector: vector["file"])
def test_prow_writes_the_golden_bytes(vector: dict) -> None:
    """Payloads that the writer made, rather than noise or the first part of one, come out of it again."""
    model = model_of(vector["model"])
    header, payload, _ = parse(content(vector))
    found = read(payload, header.width, header.height, header.model_id, model.config, model.tables)
    assert trim(write(found, model.config, model.tables), found, model.config, model.tables) == payload


def test_the_example_of_the_specification_is_as_generated() -> None:
    example = make_vectors.example(model_of("anchor"))
    assert example in make_vectors.SPEC.read_text(), f"run `{make_vectors.COMMAND}`"


def test_a_replaced_model_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(GOLDEN["models"], "anchor", "0" * 64)
    with pytest.raises(pytest.fail.Exception, match="run `python -m format_spec.make_vectors`"):
        model_of("anchor")


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
    refused = run_tokens(SPEC / "vectors" / "hostile" / "unknown_model_200.bin", "--model", anchor_file)
    assert refused.returncode == 1 and "R10 (model): the file needs model 200, 1 came" in refused.stderr
    assert run_tokens("nothing.prow").returncode == 2


# -- what readers refuse ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", HOSTILE, ids=lambda vector: vector["file"])
def test_decode_refuses_hostile_files(vector: dict) -> None:
    data = (SPEC / "vectors" / "hostile" / vector["file"]).read_bytes()
    with pytest.raises(errors.ProwError, match=vector["message"]) as caught:
        prow.decode(data)
    assert type(caught.value).__name__ == vector["error"]


@pytest.mark.parametrize("vector", HOSTILE, ids=lambda vector: vector["file"])
def test_the_independent_reader_refuses_hostile_files(vector: dict, anchor_file: Path) -> None:
    """With a model file that has the right id where the rule is not about that."""
    data = (SPEC / "vectors" / "hostile" / vector["file"]).read_bytes()
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


@pytest.mark.parametrize("damage", [b"", b"\xff" * 20, bytes(8) + b"{}", b"\x02" + bytes(7) + b"{}"])
def test_both_readers_refuse_what_is_no_model_file(damage: bytes) -> None:
    with pytest.raises(model_file.Refused):
        model_file.parse_model(damage)
    with pytest.raises(errors.ModelError):
        registry.parse_model(damage, "bad")
