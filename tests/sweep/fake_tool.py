"""Stands for tools/train.py and tools/test.py: notes that it ran, and leaves results.

Run: python fake_tool.py train|test FOLDER WEIGHTS RECORD-AS-JSON
What it does beside that, the file FOLDER/../KIND says, a word for each start: "fail",
"again" (as a training that was told to stop), "stop" (ask to be run again in vain),
"sleep" (until it is told to stop), "crash".
"""

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path


def main(kind: str, folder: Path, weights: Path, record: dict) -> int:
    starts = folder / f"{kind}ings"
    starts.parent.mkdir(parents=True, exist_ok=True)
    with starts.open("a") as file:
        file.write("x")
    plan = folder.parent / kind
    words = plan.read_text().split() if plan.is_file() else []
    number = len(starts.read_text()) - 1
    word = words[number] if number < len(words) else ""
    print(f"Epoch(train) [1][ {number}/9]  eta: 0:00:07  time: 1", flush=True)
    if word == "fail":
        print(f"error: {kind} \x1b[31mwent wrong", flush=True)
        return 1
    if word == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "stop":
        return os.EX_TEMPFAIL
    if word == "sleep":
        told = []
        signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
        signal.signal(signal.SIGUSR1, lambda number, frame: told.append(number))
        (folder / "sleeping").write_text(str(os.getpid()))
        while not told:
            time.sleep(0.02)
        (folder / "sleeping").unlink()
        word = "again"
    if word == "again":
        (weights.parent / "last_checkpoint").write_text("iter_1.pth")
        return os.EX_TEMPFAIL
    if kind == "train":
        weights.write_text(f"{record} {starts.read_text()}")
    else:
        leave_record(folder, weights, record)
    return 0


def leave_record(folder: Path, weights: Path, record: dict) -> None:
    """As mmrev.leaderboard.store does, which takes long to import."""
    record["checkpoint"]["sha256"] = hashlib.sha256(weights.read_bytes()).hexdigest()
    text = json.dumps(record, sort_keys=True, separators=(",", ":"))
    record["id"] = hashlib.sha256(text.encode()).hexdigest()
    (folder / "records").mkdir(exist_ok=True)
    (folder / "records" / f"{record['id']}.json").write_text(json.dumps(record))


if __name__ == "__main__":
    kind, folder, weights, record = sys.argv[1:]
    sys.exit(main(kind, Path(folder), Path(weights), json.loads(record)))
