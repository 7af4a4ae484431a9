"""Corpus readers, data directories, class maps, splits and sets.

A corpus is one module here (`iemocap`, `msp_podcast`, ...) that turns a corpus root
into `Utterance` records, and one line in `registry`. Everything after that knows
utterances only: `datadir` writes them, `audio` checks their files, `labels` maps their
labels to classes, `splits` and `sets` choose who trains and who is tested.
"""
