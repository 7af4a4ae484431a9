"""The corpora of a table: known ones and manifests, each as its own recipe has it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from espnet_ext.corpora.splits import WHOLE
from espnet_ext.errors import UserError
from espnet_ext.jobs.recipe import Recipe
from espnet_ext.scoring.spec import CorpusSpec, TableSpec


@dataclass(frozen=True)
class Place:
    """Where one corpus of a table is, and where its data and features go."""

    root: Path
    datadir: Path
    dumpdir: Path


@dataclass(frozen=True)
class Source:
    """A corpus of a table as its recipes are made of it."""

    place: Place
    scheme: str
    fold: int | None  # where the table does not go fold by fold
    scale: tuple[float, float] | None  # of its attributes, if it has any
    classes: bool = True  # whether it has emotions
    manifest: Path | None = None
    options: Mapping[str, Any] = field(default_factory=dict)  # of ``ser_prepare``

    def recipe(self, base: Recipe, corpus: str, fold: int | None) -> Recipe:
        """The corpus' own recipe; without `fold`, on the fold that the table names."""
        return replace(
            base,
            corpus=corpus,
            corpus_root=self.place.root,
            scheme=self.scheme,
            fold=self.fold if fold is None else fold,
            datadir=self.place.datadir,
            dumpdir=self.place.dumpdir,
            mini=None if self.manifest else base.mini,
            manifest=self.manifest,
            manifest_options=self.options,
        )


def find_sources(
    path: Path, spec: TableSpec, base: Recipe, places: Mapping[str, Place]
) -> dict[str, Source]:
    """Look up each corpus of a table; manifests are read, and checked, for it.

    Raises:
        UserError: A corpus is not known or has no place; a scheme, a fold or a
            manifest is wrong.
    """
    found = {}
    for corpus, described in spec.corpora.items():
        where = f"{path}: corpora: {corpus}"
        if described.manifest is not None:
            source, folds = _manifest(path, corpus, described, base, places)
        elif corpus in places:
            source, folds = _known(corpus, described, places[corpus], where)
        else:
            raise UserError(
                f"{path} needs {corpus}: give --root {corpus}=DIR, or set its place in "
                "db.sh"
            )
        for fold in (*described.folds, described.fold or 1):
            if fold > max(folds, 1):
                raise UserError(f"{where}: fold {fold}: {source.scheme} has {folds}")
        numbered = folds > 1 and not described.folds
        found[corpus] = replace(
            source, fold=(described.fold or 1) if numbered else None
        )
    return found


def _known(
    corpus: str, described: CorpusSpec, place: Place, where: str
) -> tuple[Source, int]:
    """Look up a corpus that has a module, and count its folds."""
    from espnet_ext.corpora.registry import get_corpus  # late: not for --help

    known = get_corpus(corpus)
    scheme = described.scheme or next(iter(known.schemes))
    if scheme == WHOLE:
        return Source(place, f"{corpus}_{WHOLE}", None, known.attribute_scale), 1
    if scheme not in known.schemes:
        raise UserError(
            f"{where}: scheme: there is no {scheme}, but {', '.join(known.schemes)} "
            f"and {WHOLE}"
        )
    folds = known.schemes[scheme].folds
    return Source(place, scheme, None, known.attribute_scale), folds


def _manifest(
    path: Path,
    corpus: str,
    described: CorpusSpec,
    base: Recipe,
    places: Mapping[str, Place],
) -> tuple[Source, int]:
    """Read a manifest as stage 1 will, but for its recordings; count its folds."""
    # Late: --help must not wait for them.
    from espnet_ext.corpora.manifest.corpus import classes_of
    from espnet_ext.corpora.manifest.reader import read_manifest
    from espnet_ext.corpora.manifest.table import ManifestOptions

    assert described.manifest is not None
    file = path.parent / described.manifest
    if not file.exists():
        raise UserError(f"{path}: corpora: {corpus}: manifest: there is no {file}")
    root = file if file.is_dir() else file.parent
    root = root if described.root is None else path.parent / described.root
    root = places[corpus].root if corpus in places else root
    whole = described.scheme == WHOLE
    manifest = read_manifest(
        file,
        corpus,
        ManifestOptions(
            columns=described.columns,
            root=root,
            attribute_scale=described.attribute_scale,
            shared_speakers=described.shared_speakers,
            test_only=whole,
            check_files=False,
            class_of=classes_of(base.labels, corpus),
        ),
    )
    options: dict[str, Any] = {
        "columns": [f"{theirs}={ours}" for theirs, ours in described.columns.items()],
        "attribute_scale": described.attribute_scale,
        "shared_speakers": described.shared_speakers,
        "test_only": whole,
    }
    source = Source(
        place=Place(root, base.datadir, base.dumpdir),
        scheme=f"{corpus}_{WHOLE}" if whole else corpus,
        fold=None,
        scale=manifest.attribute_scale,
        classes=bool(manifest.labels),
        manifest=file,
        options={name: value for name, value in options.items() if value},
    )
    return source, manifest.folds
