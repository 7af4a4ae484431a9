"""Write a report's files: markdown and HTML from templates, the rest from `writers`."""

import base64
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from espnet_ext.scoring import writers
from espnet_ext.scoring.pages import Page, make_page
from espnet_ext.scoring.words import TableReport
from espnet_ext.utils.atomic import atomic_dir, atomic_write_text

if TYPE_CHECKING:  # --plots false must not wait for matplotlib
    from matplotlib.figure import Figure

# File's stem -> caption, and a figure or that figure as PNG.
Figures = Mapping[str, tuple[str, "Figure"]]
Images = Mapping[str, tuple[str, bytes]]


def write_report(
    report: TableReport, output: Path, figures: Figures | None
) -> list[Path]:
    """Write all files of a table, or of models on one test set, each in one step.

    Returns:
        The files written, RESULTS.md first.
    """
    images = _draw(figures)
    page = make_page(report)
    if report.one_set:
        texts = {
            "scores.json": writers.set_json(report),
            "scores.csv": writers.set_csv(report),
            "scores.tex": writers.latex(report),
        }
    else:
        texts = {
            "report.html": _fill("report.html.j2", page, images),
            "table.csv": writers.table_csv(report),
            "comparisons.csv": writers.comparisons_csv(report),
            "table.json": writers.table_json(report),
            "table.tex": writers.latex(report),
            "comparisons.tex": writers.comparisons_latex(report),
        }
    # Last: whatever it links to is there.
    texts["RESULTS.md"] = markdown(page, images)
    output.mkdir(parents=True, exist_ok=True)
    if images:
        with atomic_dir(output / "plots") as folder:
            for name, (_, image) in images.items():
                (folder / f"{name}.png").write_bytes(image)
    for name, content in texts.items():
        atomic_write_text(output / name, content)
    plots = [f"plots/{name}.png" for name in images]
    return [output / name for name in ("RESULTS.md", *list(texts)[:-1], *plots)]


def markdown(page: Page, images: Images) -> str:
    """RESULTS.md, as ESPnet's recipes have it."""
    return _fill("results.md.j2", page, images)


def _fill(template: str, page: Page, images: Images) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=template.endswith(".html.j2"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["base64"] = lambda data: base64.b64encode(data).decode()
    values: dict[str, Any] = {"page": page, "made_with": asdict(page.environment)}
    filled = environment.get_template(template).render(images=images, **values)
    return filled.strip() + "\n"


def _draw(figures: Figures | None) -> Images:
    if not figures:
        return {}
    from espnet_ext.scoring.plots import png_of

    return {name: (caption, png_of(f)) for name, (caption, f) in figures.items()}
