"""Every hostile model, each given to `slm` in a process of its own: python tests/reliability/by_hand.py [PART_OF_NAME]

Prints what is not as promised, then how many there were and the longest and largest.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1])]

from test_hostile import CASES, meet_in_child  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="?", default="", help="only those whose name holds this")
    part = parser.parse_args().part
    ran, failed = {}, 0
    for name, case in CASES.items():
        if part in name:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    ran[name] = meet_in_child(case, Path(folder))
                except AssertionError as problem:
                    failed += 1
                    print(f"{name}: {problem}", flush=True)
    print(f"{len(ran)} as promised, {failed} not")
    for what, key in (("longest", lambda name: ran[name].seconds), ("largest", lambda name: ran[name].peak_bytes)):
        for name in sorted(ran, key=key, reverse=True)[:5]:
            print(f"{what}: {ran[name].seconds:5.1f} s {ran[name].peak_bytes / 1e6:5.0f} MB  {name}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
