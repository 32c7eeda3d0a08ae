"""`precall bindings import` of 100,000 rows, compared with a bare client that posts the same batches.

python -m tests.bench.bench_import [ROWS]
"""

import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

BATCH = 5000


def main(rows: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "precall.toml").write_text(
            f'[provider]\nendpoint = "http://127.0.0.1:9"\naccess_key_id = "a"\naccess_key_secret = "b"\nrate = 0.01\n'
            f'[store]\nurl = "sqlite:///{folder}/precall.db"\n[api]\nlisten = "127.0.0.1:0"\n[log]\nlevel = "warning"\n'
        )
        command = [sys.executable, "-m", "precall"]
        daemon = subprocess.Popen(
            [*command, "run", "--config", str(folder / "precall.toml")],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            assert daemon.stdout is not None
            url = next(found[0] for line in daemon.stdout if (found := re.search(r"http://[0-9.:]+", line)))
            measure(folder, command, url, rows)
        finally:
            daemon.terminate()
            daemon.wait(20)


def measure(folder: Path, command: list[str], url: str, rows: int) -> None:
    first, second = folder / "first.jsonl", [binding(20_000_000_000 + serial) for serial in range(rows)]
    with first.open("w") as out:
        for serial in range(rows):
            out.write(json.dumps(binding(10_000_000_000 + serial)) + "\n")
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    begun = time.perf_counter()
    subprocess.run(
        [*command, "bindings", "import", str(first)], env=os.environ | {"PRECALL_URL": url}, check=True
    )
    wall = time.perf_counter() - begun
    cpu = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    begun, used = time.perf_counter(), time.process_time()
    for start in range(0, rows, BATCH):
        body = json.dumps({"bindings": second[start : start + BATCH]}).encode()
        request = urllib.request.Request(
            f"{url}/v1/bindings/batch?atomic=true", body, {"Content-Type": "application/json"}
        )
        urllib.request.urlopen(request, timeout=60).read()
    bare, bare_cpu = time.perf_counter() - begun, time.process_time() - used
    print(f"{'':34s} {'seconds':>8s} {'rows/s':>9s} {'client CPU us/row':>18s}")
    for what, took, spent in (
        ("precall bindings import", wall, cpu),
        ("bare client, nothing validated", bare, bare_cpu),
    ):
        print(f"{what:34s} {took:8.1f} {rows / took:9.0f} {1e6 * spent / rows:18.1f}")
    print(f"the import takes {wall / bare:.2f} of the bare client's time; goal: 100,000 rows under 30 s")


def binding(serial: int) -> dict[str, str]:
    """Return a binding with unique numbers."""
    tail = f"{serial % 10**8:08d}"
    return {
        "subs_id": str(serial),
        "pool_key": "FC7",
        "number_x": f"170{tail}",
        "number_a": f"138{tail}",
        "number_b": f"139{tail}",
        "expires_at": "2099-01-01T00:00:00Z",
    }


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
