"""Packaging: the library under lib/, and one extra for each half of the product.

The ranges below say what the code needs. What the scripts install is pinned in scripts/env/locks, and a test
(tests/scripts/test_locks.py) holds the two together.
"""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent


def read_version() -> str:
    """The version as lib/scrollpast/__init__.py states it, read as text: nothing is imported to build."""
    text = (ROOT / "lib" / "scrollpast" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', text, flags=re.MULTILINE)
    if found is None:
        raise SystemExit('lib/scrollpast/__init__.py: expected a line `__version__ = "…"`, found none')
    return found.group(1)


def read_description() -> str:
    """The README where there is one, so that a build from an unfinished tree still works."""
    readme = ROOT / "README.md"
    return readme.read_text(encoding="utf-8") if readme.exists() else ""


# Packages of both mining and training: shards, manifests, configuration, simulated logs.
CORE = ["numpy>=2", "numba>=0.61", "pyarrow>=20", "pydantic>=2.10", "pyyaml>=6"]

EXTRAS = {
    # The mining jobs. Spark brings its own py4j; it needs a Java (17 or newer) beside it. pandas is
    # there because Spark's mapInArrow asks for it, and Spark 4.3 does not know pandas 3. Spark 3.5 is tested as well.
    "spark": ["pyspark>=3.5.9,<5", "pandas>=2.2,<3", "psutil>=6"],
    # The trainer. torchrec's own metadata asks for the CUDA build of fbgemm, so a machine without a GPU
    # installs scripts/env/locks/training.txt with --no-deps instead of this extra. The versions are a set:
    # one fbgemm works with exactly one torch.
    "train": [
        "torch==2.13.0",
        "torchrec==1.8.0",
        "tensordict>=0.15",
        "tensorboard>=2.20",
        "safetensors>=0.5",
    ],
    "neighbours": ["faiss-cpu>=1.10"],
    # One baseline of evaluations, matrix factorisation; without them it is skipped.
    "baselines": ["implicit>=0.7.3", "scipy>=1.14"],
    "report": ["jinja2>=3.1", "markupsafe>=2.1", "matplotlib>=3.9"],
    # Airflow belongs in an environment of its own: its constraints do not agree with Spark's.
    "dag": ["apache-airflow>=3.3,<4", "apache-airflow-providers-apache-spark>=6.3"],
    "dev": [
        "chispa>=0.11",
        "duckdb>=1.4",
        "google-crc32c>=1.7",
        "hypothesis>=6.130",
        "jsonschema>=4.20",
        "import-linter>=2.3",
        "moto[server]>=5.1",
        "mypy>=1.18",
        "polars>=1.30",
        "pytest>=8.4",
        "pytest-xdist>=3.7",
        "ruff>=0.13",
        "s3fs>=2025.1",
        "types-PyYAML>=6.0.12",
    ],
}

if __name__ == "__main__":
    # Imported to build only: scripts/env/package.sh reads the version above with a Python that may lack it.
    from setuptools import find_packages, setup

    setup(
        name="scrollpast",
        version=read_version(),
        description="Hard negatives for ads retrieval: mined from impression logs, trained on, and measured",
        long_description=read_description(),
        long_description_content_type="text/markdown",
        license="Apache-2.0",
        python_requires=">=3.11",
        package_dir={"": "lib"},
        packages=find_packages("lib"),
        package_data={"scrollpast.report": ["*.css", "*.j2"]},
        install_requires=CORE,
        extras_require=EXTRAS,
        zip_safe=False,
    )
