"""The command line: what each command does, its exit codes, what it says, and that no half-written file is left."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

import prow
from prow_cli import output
from prow_cli.main import main
from prow_cli.sizes import parse_size

ROOT = Path(__file__).parent.parent
COMMANDS = ("encode", "decode", "info", "truncate", "models")
SIZE = (64, 48)  # px, of the photo
FILE_BYTES = 400


def prow_cli(*args: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args], input=stdin)


def process(*args: object, stdin: bytes = b"", code: str = "from prow_cli.main import main; main()"):
    """The command line in a process of its own."""
    paths = [str(ROOT / name) for name in ("codec", "kernels", "cli")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.run(command, input=stdin, capture_output=True, env=env, timeout=120)


def assert_fails(result: Result, code: int, *words: str) -> None:
    """One line on stderr that holds all `words`, this exit code, nothing on stdout."""
    assert result.exit_code == code, result.output
    assert result.stdout_bytes == b""
    assert re.fullmatch(r"prow: [^\n]+\n", result.stderr), result.stderr
    for word in words:
        assert word in result.stderr


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    """64 x 48 px with edges, a gradient and noise, so that 400 bytes have something to say."""
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    rgb = np.stack([4 * x, 255 * ((x - 30) ** 2 + (y - 20) ** 2 < 200), 5 * y], axis=-1)
    rgb = rgb + np.random.default_rng(0).normal(0, 20, rgb.shape)
    return Image.fromarray(rgb.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def whole(photo: Image.Image) -> bytes:
    data = prow.encode(photo, bytes=FILE_BYTES)
    assert 0.97 * FILE_BYTES <= len(data) <= FILE_BYTES
    return data


@pytest.fixture
def folder(tmp_path: Path, photo: Image.Image, whole: bytes) -> Path:
    """photo.png, and photo.prow made of it."""
    photo.save(tmp_path / "photo.png")
    (tmp_path / "photo.prow").write_bytes(whole)
    return tmp_path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# --- sizes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("700", 700),
        ("2k", 2000),
        ("2K", 2000),
        ("2kB", 2000),
        ("1.5k", 1500),
        ("2KiB", 2048),
        ("2kib", 2048),
        ("0.5 KiB", 512),
        ("1M", 1_000_000),
        ("1MiB", 1_048_576),
        ("64b", 64),
        ("1.0015k", 1001),
        ("0.29k", 290),
        ("0", 0),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "k", "-5", "1e3", "2kk", "2g", "1,000", "0x10", "nan", "1.", ".5k", "٣", "1 2"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


# --- encode


def test_encode_keeps_within_the_size(folder: Path) -> None:
    result = prow_cli("encode", folder / "photo.png", folder / "a.prow", "--bytes", "0.3k")
    assert (result.exit_code, result.output) == (0, "")
    data = (folder / "a.prow").read_bytes()
    assert 291 <= len(data) <= 300
    assert (prow.inspect(data).width, prow.inspect(data).height) == SIZE


def test_encode_gives_what_the_library_gives(folder: Path) -> None:
    assert prow_cli("encode", folder / "photo.png", folder / "a.prow", "--bytes", FILE_BYTES).exit_code == 0
    assert (folder / "a.prow").read_bytes() == (folder / "photo.prow").read_bytes()


def test_encode_by_bpp_and_quality(folder: Path) -> None:
    assert prow_cli("encode", folder / "photo.png", folder / "bpp.prow", "--bpp", "0.5").exit_code == 0
    assert 186 <= (folder / "bpp.prow").stat().st_size <= 192  # 0.5 * 64 * 48 / 8
    sizes = []
    for quality in (5, 60):
        out = folder / f"{quality}.prow"
        assert prow_cli("encode", folder / "photo.png", out, "--quality", quality).exit_code == 0
        sizes.append(out.stat().st_size)
    assert sizes[0] < sizes[1]


def test_encode_bare_by_the_anchor(folder: Path) -> None:
    result = prow_cli(
        *("encode", folder / "photo.png", folder / "a.bin", "--bytes", 80, "--model", "anchor"),
        *("--profile", "bare", "--device", "cpu"),
    )
    assert (result.exit_code, result.output) == (0, "")
    info = prow.inspect((folder / "a.bin").read_bytes())
    assert (info.profile, info.model) == ("bare", "anchor")


@pytest.mark.parametrize("bad", [(), ("--bytes", 300, "--bpp", 1), ("--quality", 50, "--bytes", 300)])
def test_encode_wants_exactly_one_size(folder: Path, bad: tuple[object, ...]) -> None:
    result = prow_cli("encode", folder / "photo.png", folder / "a.prow", *bad)
    assert_fails(result, 2, "exactly one of --bytes, --bpp and --quality")
    assert names(folder) == {"photo.png", "photo.prow"}


@pytest.mark.parametrize(
    "bad",
    [
        ("--bytes", "lots"),
        ("--bytes", "-1"),
        ("--bpp", "0"),
        ("--bpp", "nan"),
        ("--bpp", "inf"),
        ("--quality", "101"),
        ("--quality", "nan"),
        ("--bytes", "300", "--profile", "naked"),
        ("--bytes", "300", "--no-such-option"),
        ("--bytes",),
    ],
)
def test_wrong_usage_of_encode(folder: Path, bad: tuple[str, ...]) -> None:
    assert_fails(prow_cli("encode", folder / "photo.png", folder / "a.prow", *bad), 2, "--help')")
    assert names(folder) == {"photo.png", "photo.prow"}


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (("--bytes", "0"), ("0", "32")),
        (("--bytes", "31"), ("31", "32")),
        (("--bytes", "300", "--model", "nobody"), ("nobody", "anchor")),
        (("--bytes", "300", "--device", "abacus"), ("abacus",)),
    ],
)
def test_arguments_that_the_library_refuses(folder: Path, bad: tuple[str, ...], words: tuple[str, ...]) -> None:
    assert_fails(prow_cli("encode", folder / "photo.png", folder / "a.prow", *bad), 1, *words)
    assert names(folder) == {"photo.png", "photo.prow"}


def test_encode_of_what_is_no_picture(folder: Path) -> None:
    (folder / "text.png").write_text("no picture")
    assert_fails(prow_cli("encode", folder / "text.png", folder / "a.prow", "--bytes", 300), 1, "text.png")
    assert_fails(prow_cli("encode", folder / "none.png", folder / "a.prow", "--bytes", 300), 1, "none.png")
    assert_fails(
        prow_cli("encode", "-", folder / "a.prow", "--bytes", 300, stdin=b"no"), 1, "standard input", "2 bytes"
    )
    cut = (folder / "photo.png").read_bytes()[:2000]
    assert_fails(prow_cli("encode", "-", folder / "a.prow", "--bytes", 300, stdin=cut), 1)
    assert names(folder) == {"photo.png", "photo.prow", "text.png"}


def test_encode_says_when_nothing_is_left_to_say(folder: Path) -> None:
    Image.new("RGB", (8, 8), "navy").save(folder / "flat.png")
    result = prow_cli("encode", folder / "flat.png", folder / "flat.prow", "--bytes", "50k")
    assert result.exit_code == 0
    size = (folder / "flat.prow").stat().st_size
    assert result.stderr == (
        f"prow: {folder / 'flat.prow'} has {size:,} of the 50,000 bytes asked for: the model has nothing left to say\n"
    )


# --- decode


def test_decode(folder: Path) -> None:
    result = prow_cli("decode", folder / "photo.prow", folder / "out.png")
    assert (result.exit_code, result.output) == (0, "")
    image = Image.open(folder / "out.png")
    assert (image.format, image.mode, image.size) == ("PNG", "RGB", SIZE)
    assert image.tobytes() == prow.decode((folder / "photo.prow").read_bytes()).tobytes()


@pytest.mark.parametrize(("suffix", "kind"), [(".jpg", "JPEG"), (".JPEG", "JPEG"), (".webp", "WEBP"), (".bmp", "BMP")])
def test_the_suffix_chooses_the_format(folder: Path, suffix: str, kind: str) -> None:
    assert prow_cli("decode", folder / "photo.prow", folder / f"out{suffix}").exit_code == 0
    assert Image.open(folder / f"out{suffix}").format == kind


@pytest.mark.parametrize(("out", "word"), [("out.xyz", "'.xyz'"), ("out", "missing suffix"), ("out.prow", "'.prow'")])
def test_an_unknown_suffix_is_wrong_usage(folder: Path, out: str, word: str) -> None:
    assert_fails(prow_cli("decode", folder / "photo.prow", folder / out), 2, word)
    assert names(folder) == {"photo.png", "photo.prow"}


def test_decode_of_a_cut_file_says_so(folder: Path, whole: bytes) -> None:
    cut = folder / "cut.prow"
    cut.write_bytes(whole[:200])
    result = prow_cli("decode", cut, folder / "out.png")
    assert result.exit_code == 0
    assert result.output == f"prow: {cut} is cut: 200 of {len(whole):,} bytes; decoded what is there\n"
    assert Image.open(folder / "out.png").size == SIZE


def test_decode_of_a_damaged_file(folder: Path, whole: bytes) -> None:
    damaged = folder / "damaged.prow"
    damaged.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert_fails(prow_cli("decode", damaged, folder / "out.png"), 1, "damaged.prow", "--allow-damaged")
    assert not (folder / "out.png").exists()
    result = prow_cli("decode", damaged, folder / "out.png", "--allow-damaged")
    assert result.exit_code == 0
    assert result.output == f"prow: {damaged} is damaged: its checksum is wrong; decoded all the same\n"
    assert Image.open(folder / "out.png").size == SIZE


@pytest.mark.parametrize("data", [b"", b"\xf5", b"\x89PNG" * 9, b"\xf5\x70\xff" * 9, b"\xf5\x70\x20\x02" + bytes(3)])
def test_bytes_that_are_no_prow_file(folder: Path, data: bytes) -> None:
    bad = folder / "bad.prow"
    bad.write_bytes(data)
    assert_fails(prow_cli("decode", bad, folder / "out.png"), 1, "bad.prow")
    assert_fails(prow_cli("info", bad), 1, "bad.prow")
    assert_fails(prow_cli("truncate", bad, folder / "out.prow", "--bytes", 100), 1, "bad.prow")
    assert names(folder) == {"photo.png", "photo.prow", "bad.prow"}


def test_a_model_that_is_not_installed(folder: Path, whole: bytes) -> None:
    (folder / "new.prow").write_bytes(whole[:3] + b"\xc8" + whole[4:-1])
    assert_fails(prow_cli("decode", folder / "new.prow", folder / "out.png"), 1, "new.prow", "200", "prow-small")
    result = prow_cli("info", folder / "new.prow")
    assert result.exit_code == 0
    assert "not installed (id 200)" in result.stdout


def test_a_picture_that_the_format_cannot_hold(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prow, "decode", lambda data, **options: Image.new("RGB", (20_000, 1)))
    assert_fails(prow_cli("decode", folder / "photo.prow", folder / "out.webp"), 1, "WEBP", "20000 x 1 px")
    assert not (folder / "out.webp").exists()


# --- info, truncate, models


def test_info(folder: Path, whole: bytes) -> None:
    result = prow_cli("info", folder / "photo.prow")
    assert result.exit_code == 0
    assert result.stderr == ""
    for word in ("version 1", "file profile", "prow-small (id 2)", "64 x 48 px", f"{len(whole):,} bytes, whole"):
        assert word in result.stdout


def test_info_json(folder: Path, whole: bytes) -> None:
    (folder / "cut.prow").write_bytes(whole[:100])
    facts = json.loads(prow_cli("info", folder / "cut.prow", "--json").stdout)
    assert facts["state"] == "cut"
    assert (facts["declared_bytes"], facts["present_bytes"]) == (len(whole), 100)
    assert (facts["width"], facts["height"]) == SIZE
    assert all({"kind", "width", "height", "tiles", "step", "tokens"} == set(one) for one in facts["tokens_per_pass"])


def test_info_counts_extras(folder: Path, whole: bytes) -> None:
    result = prow_cli("info", "-", stdin=whole + b"extra")
    assert result.exit_code == 0
    assert "5 bytes after the stream" in result.stdout


def test_truncate(folder: Path, whole: bytes) -> None:
    result = prow_cli("truncate", folder / "photo.prow", folder / "small.prow", "--bytes", "0.1KiB")
    assert (result.exit_code, result.output) == (0, "")
    small = (folder / "small.prow").read_bytes()
    assert small == prow.truncate(whole, 102)
    assert prow.inspect(small).state == "whole"
    assert prow_cli("decode", folder / "small.prow", folder / "out.png").output == ""


def test_truncate_wants_a_possible_size(folder: Path) -> None:
    assert_fails(prow_cli("truncate", folder / "photo.prow", folder / "a.prow"), 2, "--bytes")
    assert_fails(prow_cli("truncate", folder / "photo.prow", folder / "a.prow", "--bytes", 5), 1, "5", "13")
    assert names(folder) == {"photo.png", "photo.prow"}


def test_models_lists_every_model() -> None:
    result = prow_cli("models")
    assert result.exit_code == 0
    for one in prow.models():
        assert any(f"{one.id}  {one.name}" in line for line in result.stdout.splitlines())
    assert [line for line in result.stdout.splitlines() if line.startswith("* ") and "prow-small" in line]


# --- stdin and stdout


def test_through_pipes(photo: Image.Image) -> None:
    png = io.BytesIO()
    photo.save(png, "PNG")
    encoded = process("encode", "-", "-", "--bytes", "300", stdin=png.getvalue())
    assert (encoded.returncode, encoded.stderr) == (0, b"")
    assert 291 <= len(encoded.stdout) <= 300
    shorter = process("truncate", "-", "-", "--bytes", "200", stdin=encoded.stdout)
    assert 194 <= len(shorter.stdout) <= 200
    decoded = process("decode", "-", "-", stdin=shorter.stdout[:150])
    assert decoded.returncode == 0
    said = f"prow: standard input is cut: 150 of {len(shorter.stdout)} bytes; decoded what is there"
    assert decoded.stderr.decode().splitlines() == [said]
    assert Image.open(io.BytesIO(decoded.stdout)).format == "PNG"


def test_a_reader_that_goes_away_is_no_traceback(folder: Path) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    code = f"import os; os.dup2({write_end}, 1); from prow_cli.main import main; main()"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, "decode", str(folder / "photo.prow"), "-"]
    result = subprocess.run(command, pass_fds=[write_end], stderr=subprocess.PIPE, env=env, timeout=120)
    os.close(write_end)
    assert (result.returncode, result.stderr) == (1, b"")


def test_a_cut_imports_neither_numpy_nor_pillow(folder: Path) -> None:
    code = (
        "import atexit, sys; from prow_cli.main import main; "
        "atexit.register(lambda: print(*[n for n in ('numpy', 'PIL') if n in sys.modules], file=sys.stderr)); main()"
    )
    cut = ("truncate", folder / "photo.prow", folder / "t.prow", "--bytes", 100)
    for args, wanted in ((cut, b""), (("encode", "--help"), b""), (("info", folder / "t.prow"), b"numpy")):
        result = process(*args, code=code)
        assert result.returncode == 0, result.stderr
        assert result.stderr.splitlines()[-1] == wanted, args


def test_a_stdout_that_takes_nothing_is_one_line(folder: Path) -> None:
    code = "import os; os.dup2(os.open(os.devnull, os.O_RDONLY), 1); from prow_cli.main import main; main()"
    for args in (("truncate", folder / "photo.prow", "-", "--bytes", 100), ("info", folder / "photo.prow")):
        result = process(*args, code=code)
        assert result.returncode == 1
        assert re.fullmatch(rb"prow: [^\n]*Bad file descriptor\n", result.stderr), result.stderr


def test_torch_stays_out_of_what_needs_no_model(folder: Path) -> None:
    code = (
        "import atexit, sys; from prow_cli.main import main; "
        "atexit.register(lambda: print('torch' in sys.modules, file=sys.stderr)); main()"
    )
    for args in (
        ("info", folder / "photo.prow"),
        ("truncate", folder / "photo.prow", folder / "t.prow", "--bytes", 100),
        ("models",),
        ("encode", "--help"),
        ("--version",),
        ("decode", folder / "photo.prow", folder / "out.xyz"),
    ):
        result = process(*args, code=code)
        assert result.stderr.splitlines()[-1] == b"False", args


# --- output files


@pytest.mark.parametrize(
    "args",
    [
        ("encode", "photo.png", "old.png", "--bytes", "300"),
        ("decode", "photo.prow", "old.png"),
        ("truncate", "photo.prow", "old.png", "--bytes", "100"),
    ],
)
def test_an_existing_file_is_kept_unless_forced(
    folder: Path, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...]
) -> None:
    monkeypatch.chdir(folder)
    Path("old.png").write_bytes(b"old")
    assert_fails(prow_cli(*args), 1, "old.png exists already", "--force")
    assert Path("old.png").read_bytes() == b"old"
    assert prow_cli(*args, "--force").exit_code == 0
    assert len(Path("old.png").read_bytes()) > 3
    assert names(folder) == {"photo.png", "photo.prow", "old.png"}


def test_a_failure_on_the_way_leaves_the_old_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    old = folder / "old.prow"
    old.write_bytes(b"old")
    monkeypatch.setattr(output.os, "fsync", no_space)
    args = ("truncate", folder / "photo.prow", old, "--bytes", 100, "--force")
    assert_fails(prow_cli(*args), 1, "old.prow: No space left on device")
    assert old.read_bytes() == b"old"
    assert names(folder) == {"photo.png", "photo.prow", "old.prow"}


def test_an_interrupt_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(output.os, "replace", interrupt)
    result = prow_cli("truncate", folder / "photo.prow", folder / "a.prow", "--bytes", 100)
    assert result.exit_code == 130
    assert names(folder) == {"photo.png", "photo.prow"}


def test_places_where_no_file_can_be(folder: Path) -> None:
    args = ("truncate", folder / "photo.prow")
    assert_fails(prow_cli(*args, folder, "--bytes", 100, "--force"), 1, "is a folder")
    assert_fails(prow_cli(*args, folder / "no" / "a.prow", "--bytes", 100), 1, "does not exist")


def test_devices_are_written_to_and_links_stay(folder: Path) -> None:
    assert prow_cli("truncate", folder / "photo.prow", os.devnull, "--bytes", 100, "--force").exit_code == 0
    assert not Path(os.devnull).is_file()
    (folder / "old.prow").write_bytes(b"old")
    (folder / "link.prow").symlink_to("old.prow")
    assert prow_cli("truncate", folder / "photo.prow", folder / "link.prow", "--bytes", 100, "--force").exit_code == 0
    assert (folder / "link.prow").is_symlink()
    assert len((folder / "old.prow").read_bytes()) > 3


def test_permissions_are_those_of_any_new_file_or_of_the_old_one(folder: Path) -> None:
    (folder / "plain").write_bytes(b"")
    prow_cli("truncate", folder / "photo.prow", folder / "new.prow", "--bytes", 100)
    assert (folder / "new.prow").stat().st_mode == (folder / "plain").stat().st_mode
    (folder / "new.prow").chmod(0o640)
    prow_cli("truncate", folder / "photo.prow", folder / "new.prow", "--bytes", 90, "--force")
    assert (folder / "new.prow").stat().st_mode & 0o777 == 0o640


# --- help and documents


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_stands_in_the_readme(command: str) -> None:
    result = prow_cli(command, "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: prow {command}")
    assert main.commands[command].help
    assert all(param.help for param in main.commands[command].params if param.param_type_name == "option")
    assert f"prow {command}" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_there_are_no_other_commands() -> None:
    assert set(main.commands) == set(COMMANDS)
    assert_fails(prow_cli("enlarge"), 2, "enlarge", "(see 'prow --help')")


def test_prow_alone_shows_its_help() -> None:
    result = prow_cli()
    assert result.exit_code == 2
    assert all(command in result.stderr for command in COMMANDS)


def test_version_is_that_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert prow_cli("--version").stdout == f"prow {project['version']}\n"
    assert f"## {project['version']}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
