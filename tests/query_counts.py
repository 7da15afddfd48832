"""What a list costs: the same number of queries for ten rows and for two hundred, and no more than its baseline.

`tests/baselines/query_counts.json` holds the queries of every list by its route. A list that becomes cheaper lowers its
figure; one that becomes dearer explains itself in a review.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.db import connection
from django.test.utils import CaptureQueriesContext

BASELINES = Path(__file__).parent / "baselines" / "query_counts.json"
FEW, MANY = 10, 200


def queries_of(act: Callable[[], Any]) -> list[str]:
    """The SQL of what `act` does, savepoints left out."""
    with CaptureQueriesContext(connection) as captured:
        act()
    texts = [each["sql"] or "(prepared)" for each in captured.captured_queries]
    return [text for text in texts if "SAVEPOINT" not in text]


def check_list(route: str, client: Any, url: str, grow: Callable[[int], None]) -> None:
    """Holds a list to its baseline; `grow(n)` adds n rows to it."""

    def read(rows: int) -> None:
        answer = client.get(url, {"limit": MANY})
        assert answer.status_code == 200, answer.content
        data = answer.json()
        shown = len(data["items"]) if isinstance(data, dict) else len(data)
        assert shown == rows, f"{route} shows {shown} rows, not {rows}"

    grow(FEW)
    read(FEW)  # the first request of a process also looks at the schema
    few = queries_of(lambda: read(FEW))
    grow(MANY - FEW)
    many = queries_of(lambda: read(MANY))
    assert len(few) == len(many), "\n".join([f"{route} costs more for more rows:", *many])
    assert len(many) == json.loads(BASELINES.read_text())[route], "\n".join([f"{route}:", *many])
