"""Draw the pictures of benchmarks/results anew from the committed figures beside them; nothing is measured.

python benchmarks/pictures.py
"""

import json
from pathlib import Path

from input_pipeline import plot

from demega_jax.api.benchmark import BenchmarkResult

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Draw every picture whose figures are a file of the same name."""
    for picture in sorted(RESULTS.glob("*.png")):
        figures = picture.with_suffix(".json")
        if not figures.is_file():
            continue  # such as that of the demo, which `make readme` draws
        found = json.loads(figures.read_text())
        if "ways" in found:
            plot(found, picture)
        else:
            BenchmarkResult(found).plot(picture)
        print(f"drew {picture.name}")


if __name__ == "__main__":
    main()
