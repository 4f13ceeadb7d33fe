"""What the benchmark of serve says of memory."""

import json

import pytest

from bench_serve import growth
from tables import served

COUNTS = range(0, 1_000_001, 50_000)


def test_memory_that_grows_is_told_by_how_much():
    assert growth([(n, 350.0) for n in COUNTS]) == pytest.approx(0)
    assert growth([(n, 350 + 1e-5 * n) for n in COUNTS]) == pytest.approx(10)
    # What the first requests need is not theirs alone.
    assert growth([(n, 300.0 if n < 100_000 else 350) for n in COUNTS]) == pytest.approx(0)
    assert growth([(n, 350 + (i % 2) * 2.0) for i, n in enumerate(COUNTS)]) == pytest.approx(
        0, abs=0.5
    )
    assert growth([(0, 350.0), (100, 351.0)]) is None


def test_a_long_run_has_a_row_beside_the_fast_one(tmp_path):
    row = {"seconds": 60.2, "connections": 48, "requests": 150_000, "requests_per_second": 2500.4}
    row |= {"p50_ms": 18.2, "p99_ms": 32.1, "lost": 0}
    row["memory"] = [{"after_requests": n, "mib": 350 + n} for n in (0, 1, 2)]
    (tmp_path / "benchmarks").mkdir()
    file = tmp_path / "benchmarks" / "serve.json"
    file.write_text(json.dumps({"bar": {}, "speed": row}))
    assert len(served(tmp_path).splitlines()) == 3
    file.write_text(json.dumps({"speed": row, "memory": row | {"requests": 1_000_000}}))
    *_, fast, long = served(tmp_path).splitlines()
    assert "| 150,000 | 2,500 | 18 ms | 32 ms | 0 | 350, then at most 352 MiB |" in fast
    assert "| 1,000,000 |" in long
