"""All corpora. To add one, write its module and name its registration here."""

from espnet_ext.corpora import crema_d, emodb, iemocap, meld, msp_podcast, ravdess
from espnet_ext.corpora.corpus import Corpus
from espnet_ext.corpora.splits import TEST_ALL, WHOLE, Scheme
from espnet_ext.errors import UserError

_MODULES = (iemocap, msp_podcast, crema_d, ravdess, emodb, meld)

CORPORA: dict[str, Corpus] = {module.CORPUS.name: module.CORPUS for module in _MODULES}


def get_corpus(name: str) -> Corpus:
    """Return a corpus' registration.

    Raises:
        UserError: No corpus has this name.
    """
    if name not in CORPORA:
        raise UserError(f"no corpus is named {name!r}; there are {', '.join(CORPORA)}")
    return CORPORA[name]


def display_name(name: str) -> str:
    """Return a corpus' name as tables and plots write it; an unknown one as it is."""
    return CORPORA[name].display if name in CORPORA else name


def get_scheme(name: str) -> tuple[str, Scheme]:
    """Return the name of the corpus that a split scheme belongs to, and the scheme.

    Raises:
        UserError: No scheme has this name.
    """
    for corpus in CORPORA.values():
        if name in corpus.schemes:
            return corpus.name, corpus.schemes[name]
        if name == f"{corpus.name}_{WHOLE}":
            return corpus.name, TEST_ALL
    known = ", ".join(name for corpus in CORPORA.values() for name in corpus.schemes)
    raise UserError(f"no split scheme is named {name!r}; there are {known}")
