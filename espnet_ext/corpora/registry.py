"""All corpora. To add one, write its module and name its registration here."""

from collections.abc import Iterable

from espnet_ext.corpora import (
    crema_d,
    emodb,
    iemocap,
    meld,
    msp_podcast,
    ravdess,
)
from espnet_ext.corpora.corpus import Corpus
from espnet_ext.corpora.splits import Scheme
from espnet_ext.errors import UserError

CORPORA: dict[str, Corpus] = {
    corpus.name: corpus
    for corpus in (
        iemocap.CORPUS,
        msp_podcast.CORPUS,
        crema_d.CORPUS,
        ravdess.CORPUS,
        emodb.CORPUS,
        meld.CORPUS,
    )
}


def get_corpus(name: str) -> Corpus:
    """Return a corpus' registration.

    Raises:
        UserError: No corpus has this name.
    """
    if name not in CORPORA:
        raise UserError(f"no corpus is named {name!r}; there are {_names(CORPORA)}")
    return CORPORA[name]


def get_scheme(name: str) -> tuple[str, Scheme]:
    """Return the name of the corpus that a split scheme belongs to, and the scheme.

    Raises:
        UserError: No scheme has this name.
    """
    for corpus in CORPORA.values():
        if name in corpus.schemes:
            return corpus.name, corpus.schemes[name]
    raise UserError(f"no split scheme is named {name!r}; there are {scheme_names()}")


def scheme_names() -> str:
    """List the schemes of all corpora."""
    return _names(name for corpus in CORPORA.values() for name in corpus.schemes)


def _names(names: Iterable[str]) -> str:
    return ", ".join(names)
