"""Write a report's files: markdown and HTML from templates, the rest from `writers`."""

import base64
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from espnet_ext.scoring import names, text, words, writers
from espnet_ext.scoring.claims import LEGEND
from espnet_ext.scoring.one_set import (
    SetReport,
    describe_set,
    format_csv,
    notes_of,
    report_json,
)
from espnet_ext.scoring.trainings import Environment, read_environment
from espnet_ext.scoring.verdicts import HOW_TESTED, LEVEL, SCOPES
from espnet_ext.scoring.words import TableReport
from espnet_ext.utils.atomic import atomic_dir, atomic_write_text

if TYPE_CHECKING:  # --plots false must not wait for matplotlib
    from matplotlib.figure import Figure

Figures = Mapping[
    str, tuple[str, "Figure"]
]  # file's stem -> caption, matplotlib figure
Images = Mapping[str, tuple[str, bytes]]  # the same, drawn as PNG


def table_markdown(report: TableReport, plots: Mapping[str, str]) -> str:
    """RESULTS.md of a table.

    Args:
        report: The results.
        plots: Caption -> path relative to RESULTS.md.
    """
    return _fill("table.md.j2", report=report, plot_files=plots, legend=LEGEND)


def table_html(report: TableReport, images: Images) -> str:
    """One HTML page of a table, its figures in it."""
    return _fill("table.html.j2", report=report, figures=images, legend=LEGEND)


def set_markdown(
    report: SetReport, environment: Environment, plots: Mapping[str, str]
) -> str:
    """RESULTS.md of one test set, as ESPnet's recipes have it.

    Args:
        report: The scores.
        environment: What they were made with.
        plots: Caption -> path relative to RESULTS.md.
    """
    how_tested = ""
    if report.pairs:
        how_tested = HOW_TESTED.format(
            number=len(report.pairs), level=LEVEL, resamples=report.resamples
        )
        how_tested += f"A verdict is {SCOPES[report.pairs[0].basis]}: that takes "
        how_tested += "several seeds and `ser_score --table`."
    return _fill(
        "set.md.j2",
        report=report,
        environment_found=environment,
        described=describe_set(report),
        notes=notes_of(report),
        how_tested=how_tested,
        plot_files=plots,
    )


def _fill(template: str, **values: Any) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=template.endswith(".html.j2"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    for name in ("printed", "signed", "p_text", "with_interval", "difference_text"):
        environment.filters[name] = getattr(text, name)
    environment.filters["base64"] = lambda data: base64.b64encode(data).decode()
    filled = environment.get_template(template).render(
        words=words, names=names, **values
    )
    return filled.strip() + "\n"


def draw_images(figures: Figures) -> dict[str, tuple[str, bytes]]:
    """Draw figures into memory; the same figure gives the same bytes."""
    from espnet_ext.scoring.plots import png_of

    return {name: (caption, png_of(f)) for name, (caption, f) in figures.items()}


def _write_plots(images: Images, output: Path) -> dict[str, str]:
    """Write figures; return caption -> path relative to the output."""
    with atomic_dir(output / "plots") as folder:
        for name, (_, image) in images.items():
            (folder / f"{name}.png").write_bytes(image)
    return {caption: f"plots/{name}.png" for name, (caption, _) in images.items()}


def _write_texts(texts: Mapping[str, str], output: Path) -> None:
    for name, content in texts.items():
        atomic_write_text(output / name, content)


def write_table(report: TableReport, output: Path, figures: Figures | None) -> None:
    """Write all files of a table.

    Args:
        report: The results.
        output: Folder, made where it is missing.
        figures: None writes no plots and leaves older ones alone.
    """
    output.mkdir(parents=True, exist_ok=True)
    images = draw_images(figures or {})
    plots = _write_plots(images, output) if images else {}
    texts = {
        "table.csv": writers.table_csv(report),
        "comparisons.csv": writers.comparisons_csv(report),
        "table.json": writers.table_json(report),
        "table.tex": writers.table_latex(report),
        "comparisons.tex": writers.comparisons_latex(report),
        "report.html": table_html(report, images),
        # Last: whatever it links to is there.
        "RESULTS.md": table_markdown(report, plots),
    }
    _write_texts(texts, output)


def write_set(
    report: SetReport,
    output: Path,
    figures: Figures | None = None,
    train_logs: Iterable[Path] = (),
) -> list[Path]:
    """Write RESULTS.md, scores.json, .csv and .tex and plots/, each in one step.

    Args:
        report: The scores.
        output: Folder, made where it is missing.
        figures: None writes no plots and leaves older ones alone.
        train_logs: Of the trainings, whose records tell the packages' versions.

    Returns:
        The files written, RESULTS.md first.
    """
    output.mkdir(parents=True, exist_ok=True)
    environment = read_environment(train_logs)
    plots = _write_plots(draw_images(figures), output) if figures else {}
    texts = {
        "scores.json": report_json(report, environment),
        "scores.csv": format_csv(report),
        "scores.tex": writers.set_latex(report),
        # Last: whatever it links to is there.
        "RESULTS.md": set_markdown(report, environment, plots),
    }
    _write_texts(texts, output)
    return [output / name for name in ("RESULTS.md", *list(texts)[:3], *plots.values())]
