"""Write what is generated into docs/reliability.md; what people wrote around it stays."""

import json
from pathlib import Path

from reporting.page import written

DOCS = Path(__file__).resolve().parents[2] / "docs"


def main() -> None:
    """Put the matrix and the figures in their places."""
    page, figures = DOCS / "reliability.md", DOCS / "reliability.json"
    page.write_text(written(page.read_text(), json.loads(figures.read_text()) if figures.exists() else {}))


if __name__ == "__main__":
    main()
