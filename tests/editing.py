"""Files of runs with other contents than they were written with."""

import json
from pathlib import Path
from typing import Any


def edited(path: Path, **fields: Any) -> None:
    """Change or add fields of a file of JSON."""
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
