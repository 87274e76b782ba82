"""Fuzz one target, or all in turn, with atheris: python tests/fuzz/run.py TARGET|all --seconds N

What it finds is written beside this file as TARGET-crash-*, and said. New inputs that reach new code are kept in
--corpus, if given; the corpus in the repository is read and left as it is.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
MOST_BYTES = {"gguf": 60_000, "gguf_tokenizer": 20_000, "sentencepiece_model": 20_000, "template": 2000, "pattern": 200}


def fuzz(name: str, arguments: list[str]) -> None:
    """Never returns: libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["slmkit"]):
        import targets
    atheris.Setup([sys.argv[0], *arguments], lambda data: targets.check(name, data) and None)
    atheris.Fuzz()


def session(name: str, seconds: int, corpus: Path | None) -> dict[str, object]:
    """One process that fuzzes for so long.   Gives what it did: runs, coverage, findings."""
    with tempfile.TemporaryDirectory() as scratch:
        first = Path(scratch) / "seeds"
        first.mkdir()
        code = (
            f"import sys; sys.path.insert(0, {str(HERE)!r}); import targets\n"
            f"for i, seed in enumerate(targets.seeds({name!r})): open(f'{first}/{{i:03}}', 'wb').write(seed)"
        )
        subprocess.run([sys.executable, "-c", code], check=True)
        kept = corpus / name if corpus else Path(scratch) / "kept"
        kept.mkdir(parents=True, exist_ok=True)
        findings = Path(scratch) / "findings"
        findings.mkdir()
        command = [
            sys.executable, __file__, "--inside", name, f"-max_total_time={seconds}", "-timeout=10",
            "-rss_limit_mb=1500", f"-max_len={MOST_BYTES.get(name, 10_000)}", f"-artifact_prefix={findings}/",
            "-print_final_stats=1", "-use_value_profile=1", str(kept), str(first),
        ]  # fmt: skip
        dictionary = HERE / "dictionaries" / f"{name}.txt"
        if dictionary.exists():
            command.append(f"-dict={dictionary}")
        start = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        found = []
        for path in findings.iterdir():
            (HERE / f"{name}-{path.name}").write_bytes(path.read_bytes())
            found.append(f"{name}-{path.name}")
        log = done.stderr + done.stdout
        coverage = re.findall(r"cov: (\d+)", log)
        runs = re.search(r"stat::number_of_executed_units: (\d+)", log)
        if found or done.returncode:
            print(log[-6000:], file=sys.stderr)
        return {
            "target": name,
            "seconds": round(time.monotonic() - start),
            "runs": int(runs[1]) if runs else None,
            "coverage": int(coverage[-1]) if coverage else None,
            "findings": found,
            "code": done.returncode,
        }


def main() -> int:
    if sys.argv[1:2] == ["--inside"]:
        fuzz(sys.argv[2], sys.argv[3:])
    sys.path.insert(0, str(HERE))
    from targets import TARGETS

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=[*TARGETS, "all"])
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--corpus", type=Path, help="a folder to keep new inputs in, one folder for each target")
    args = parser.parse_args()
    failed = False
    for name in TARGETS if args.target == "all" else [args.target]:
        result = session(name, args.seconds, args.corpus)
        failed |= bool(result["findings"] or result["code"])
        print(json.dumps(result), flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
