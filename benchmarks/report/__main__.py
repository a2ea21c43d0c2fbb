"""Results of rd.py and pictures to go with them as one HTML page: `python -m benchmarks.report RESULTS --data DIR`.

The page needs no network and no other file: plots, tables, styles, script and pictures are all in it. The pictures
are coded and decoded here and now, by the same adapters as in rd.py: the page says which codecs and models made
them, beside those that the results were measured with.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import prow
from benchmarks.codecs.codec import Codec
from benchmarks.codecs.families import FAMILIES, UnknownCodecError, find_codecs
from benchmarks.common.corpus import Picture, find_pictures
from benchmarks.common.machine import checkout, versions
from benchmarks.common.options import MOST_BYTES, check_counts, numbers, parser_of
from benchmarks.common.output import check_place, write
from benchmarks.common.tables import label
from benchmarks.quality import plot
from benchmarks.quality.metrics import METRICS, require
from benchmarks.quality.summary import LEVEL, OURS
from benchmarks.quality.tables import all_rows
from benchmarks.report import gallery
from benchmarks.report.results_file import ResultsError, load
from prow.format.container import MIN_BYTES

PAGE = Path(__file__).parent / "page"  # template, style and script
CUTS = (64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)


def default_codecs(results: dict[str, Any]) -> list[str]:
    """-> those of the results that can be run here; of a classical codec only the best downscale, if there is one."""
    names = [name for name in results["codecs"] if name.removesuffix("-scaled") in FAMILIES]
    return [name for name in names if f"{name}-scaled" not in names and name != "anchor"] or names


def default_budgets(results: dict[str, Any]) -> list[int]:
    """-> every other budget of the results, counted from the largest: so the page stays small."""
    return sorted(results["budgets"])[::-2][::-1]


def section(path: Path, results: dict[str, Any]) -> dict[str, Any]:
    """-> what the template shows of one results file."""
    return {
        "file": path.name,
        "results": results,
        "plots": [(METRICS[m].title, plot.as_svg(results, m)) for m in results["metrics"]],
        "tables": all_rows(results, intervals=True),
        "compared": any(ours in results["comparison"] for ours in OURS),
        "codecs": {name: facts(settings) for name, settings in results["codecs"].items()},
    }


def facts(settings: dict[str, Any]) -> list[tuple[str, str]]:
    """-> a codec's settings as (what, value), those that name its model first."""
    named = {"model": "model", "sha256": "SHA-256 of the model", "code": "SHA-256 of the code", "profile": "profile"}
    pairs = [(title, str(settings[key])) for key, title in named.items() if key in settings]
    rest = {key: value for key, value in settings.items() if key not in (*named, "versions")}
    pairs += [(key.replace("_", " "), _words(value)) for key, value in rest.items()]
    return pairs + [(f"{name} version", str(version)) for name, version in settings.get("versions", {}).items()]


def _words(value: Any) -> str:
    """-> a setting for readers: 1, 2, 4 rather than [1, 2, 4], method 6 rather than {'method': 6}."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    if isinstance(value, list):
        return (" or " if value and isinstance(value[0], dict) else ", ").join(_words(item) for item in value)
    return str(value)


def differences(loaded: list[dict[str, Any]], codecs: list[Codec]) -> list[str]:
    """-> the codecs of the gallery that are in results, but in none with the same settings (model, code, versions)."""
    measured = {c.name: [r["codecs"][c.name] for r in loaded if c.name in r["codecs"]] for c in codecs}
    return [c.name for c in codecs if measured[c.name] and c.settings not in measured[c.name]]


def show(args: argparse.Namespace, loaded: list[dict[str, Any]], pictures: list[Picture]) -> dict[str, Any]:
    """-> all about the pictures: what the page's script reads, what the reader is told about it."""
    metric = loaded[0]["metrics"][0]
    require([metric])
    if not args.codecs:
        raise gallery.GalleryError("none of the results' codecs can be run here: wanted some, see --codecs")
    codecs = find_codecs(args.codecs)
    album = gallery.Album()
    images = [gallery.show(p, codecs, args.budgets, metric, args.max_side, album) for p in pictures]
    walked = gallery.walk(pictures[0], args.model, args.cuts, args.max_side, album) if args.cuts else None
    uris, packed = album.pack(round(args.max_mb * 1e6))
    script = {
        "images": images,
        "codecs": [{"name": name, "label": label(name)} for name in args.codecs],
        "budgets": args.budgets,
        "walk": walked,
        "pictures": uris,
    }
    return {
        "script": script,
        "packed": packed,
        "metric": METRICS[metric].title.partition(",")[0],
        "codecs": {codec.name: facts(codec.settings) for codec in codecs},
        "differ": [label(name) for name in differences(loaded, codecs)],
        "model": next(m for m in prow.models() if m.name == args.model or (args.model == "default" and m.is_default)),
        "commit": checkout(),
        "versions": versions(metric.package for metric in METRICS.values() if metric.package),
    }


def render(sections: list[dict[str, Any]], shown: dict[str, Any]) -> str:
    """-> the page."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    options = {"autoescape": True, "undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    environment = Environment(loader=FileSystemLoader(PAGE), **options)
    environment.filters["label"] = label
    style, script = ((PAGE / f"report.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    template = environment.get_template("report.html")
    return template.render(sections=sections, shown=shown, style=style, script=script, level=LEVEL)


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """-> the options, checked as far as that goes without the results."""
    parser = parser_of("report", __doc__)
    parser.add_argument("results", type=Path, nargs="+", metavar="RESULTS", help="rd.json of benchmarks.rd, or more")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of images")
    parser.add_argument("--out", type=Path, default=Path("build/report.html"), help="default: %(default)s")
    parser.add_argument("--images", type=int, default=3, metavar="N", help="the first N images; default: %(default)s")
    parser.add_argument("--codecs", help="such as prow,webp-scaled; default: those of the first results")
    parser.add_argument("--budgets", help="bytes of the pictures' files; default: every other one of the results")
    parser.add_argument("--cuts", default=",".join(map(str, CUTS)), help="bytes, or none; default: %(default)s")
    parser.add_argument("--model", default="default", help="of the file that is cut; default: prow's own default")
    parser.add_argument(
        "--max-side", type=int, default=768, metavar="PX", help="shrink images to; default: %(default)s"
    )
    parser.add_argument("--max-mb", type=float, default=12, help="megabytes of pictures; default: %(default)s")
    args = parser.parse_args(argv)
    check_counts(parser, args, "images", "max-side")
    if not args.max_mb > 0:
        parser.error(f"--max-mb is {args.max_mb}: must be above 0")
    for option, least in (("budgets", 1), ("cuts", MIN_BYTES)):
        text = getattr(args, option)
        given = [] if text in (None, "none") else numbers(parser, option, text, int, least, MOST_BYTES)
        setattr(args, option, given)
    if args.model != "default" and args.model not in (names := [m.name for m in prow.models()]):
        parser.error(f"unknown model {args.model!r}: wanted one of default, {', '.join(names)}")
    return args


def main(argv: list[str] | None = None) -> None:
    """Make the page; see the module's docstring."""
    args = parse_args(argv)
    try:
        loaded = [load(path) for path in args.results]
        args.codecs = list(dict.fromkeys(args.codecs.split(","))) if args.codecs else default_codecs(loaded[0])
        args.budgets = args.budgets or default_budgets(loaded[0])
        pictures = find_pictures(args.data, args.images)
        check_place(args.out, "report")
        shown = show(args, loaded, pictures)
        page = render([section(*pair) for pair in zip(args.results, loaded, strict=True)], shown)
    except (ResultsError, UnknownCodecError, gallery.GalleryError, ImportError, prow.ProwError) as error:
        raise SystemExit(f"report: {error}") from None
    write(args.out, page)
    print(f"{args.out}: {len(page.encode()):,} bytes, {len(pictures)} images, {shown['packed']}")


if __name__ == "__main__":
    main()
