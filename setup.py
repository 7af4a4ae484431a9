"""The pip package ``espnet_ext``: its requirements, extras and commands.

The requirements are what the code imports; ``conf/constraints.txt`` pins the versions
that they, and all that they pull in, were tested with. ``local/setup_env.sh`` installs
both. ``REQUIRES`` and ``EXTRAS`` stay plain literals: ``local/setup_env.py`` reads them
without running this file.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

REQUIRES = [
    # Trainer, encoders and schedulers. One release: the task overrides its internals.
    "espnet==202611",
    # The module `s3prl` for current torchaudio. The distribution `s3prl` holds the
    # same files and does not import any more: never install both.
    "espnet-s3prl",
    "torch",
    "torchaudio",
    "transformers",
    "huggingface-hub",
    "safetensors",
    "soundfile",
    "soxr",
    "numpy",
    "scipy",
    "pandas",
    "scikit-learn",
    "matplotlib",
    "jinja2",
    "tqdm",
    "PyYAML",
    "tensorboard",
]

EXTRAS = {
    # The synthesizer that speaks the built-in corpora, and nothing else: espeak-ng is
    # GPL-3.0 (this package is Apache-2.0), so it is never a requirement of the package.
    "mini": ["espeakng-loader"],
    # openSMILE's descriptors (conf/features/egemaps.yaml). Its license is audEERING's
    # research license: not free for commercial use, so never a requirement.
    "egemaps": ["opensmile"],
    # Databases of audEERING as corpora (corpora/manifest/formats/audformat_db.py).
    "audformat": ["audformat"],
    # ser serve
    "serve": ["fastapi", "starlette", "uvicorn", "python-multipart"],
    # ser demo, the page
    "demo": ["gradio"],
    # ser export writes one ONNX graph; running it needs "onnx" alone, and no torch.
    "export": ["onnx", "onnx-ir", "onnxscript", "onnxruntime"],
    "onnx": ["onnxruntime"],
    "dev": [
        "fastapi",
        "starlette",
        "uvicorn",
        "python-multipart",
        "gradio",
        "onnx",
        "onnx-ir",
        "onnxscript",
        "onnxruntime",
        "playwright",
        "pytest",
        "ruff",
        "mypy",
        "statsmodels",
        "torchmetrics",
        "types-PyYAML",
    ],
}

COMMANDS = [
    "ser",
    "ser_prepare",
    "ser_fetch_corpus",
    "ser_make_sets",
    "ser_make_mini",
    "ser_extract",
    "ser_train",
    "ser_infer",
    "ser_classical",
    "ser_score",
    "ser_plan",
]


def read_version() -> str:
    """Read the version from the package's text: importing it is not possible yet."""
    path = Path(__file__).parent / "espnet_ext" / "__init__.py"
    found = re.search(r'^__version__ = "(.+)"$', path.read_text("utf-8"), re.MULTILINE)
    if found is None:
        raise RuntimeError(f'{path}: no line `__version__ = "..."`')
    return found.group(1)


setup(
    name="espnet_ext",
    version=read_version(),
    description="Joint discrete and continuous speech emotion recognition on ESPnet",
    license="Apache-2.0",
    python_requires=">=3.12,<3.14",
    packages=find_packages(include=["espnet_ext", "espnet_ext.*"]),
    package_data={"espnet_ext.scoring": ["templates/*.j2"]},
    install_requires=REQUIRES,
    extras_require=EXTRAS,
    entry_points={
        "console_scripts": [f"{name} = espnet_ext.bin.{name}:main" for name in COMMANDS]
    },
)
