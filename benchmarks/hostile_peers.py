"""What transformers and llama.cpp make of the hostile models in tests/reliability.

    python benchmarks/hostile_peers.py transformers --python PYTHON_WITH_TRANSFORMERS [--out FILE]
    python benchmarks/hostile_peers.py llama.cpp --python PYTHON_WITH_XLLAMACPP [--out FILE]

Run with slmkit's own Python. The peer is imported once; each model is met in a fork of that process, so that neither
the import's seconds nor its memory count. What counts is 10 s, 1 GB more than the import has, and how it ended:

    refused        an exception (whatever it says)
    same answer    one token was made, the same and as likely as the undamaged model makes
    other answer   one token was made, another, or less or more likely, or of no numbers: noise
    crashed        a signal, or abort
    hung, memory   stopped after 10 s, or at 1 GB
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

SECONDS, BYTES = 10, 10**9
LONGEST_TEXT = 2500  # characters of a prompt: a good model needs a gigabyte for ten times as many in some peers
KINDS = {"transformers": "safetensors", "llama.cpp": "gguf"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=KINDS)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--out", type=Path, help="one line of JSON for each model")
    parser.add_argument("--only", default="", help="names that hold this")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(ANSWERS[args.peer]())
        return
    sys.path[:0] = [str(Path(__file__).parents[1] / "tests" / place) for place in ("reliability", ".")]
    import test_hostile

    cases = [case for case in test_hostile.CASES.values() if case.kind == KINDS[args.peer] and args.only in case.name]
    peer = Peer([args.python, __file__, args.peer, "--serve"])
    good: dict[tuple[str, str], Any] = {}
    counts: Counter[str] = Counter()
    for case in cases:
        text = case.text[:LONGEST_TEXT]
        for name in ["good" if args.peer == "transformers" else "gguf-good"] * ((case.verb, text) not in good):
            met = meet(peer, test_hostile.CASES[name], case.verb, text)
            assert met["answer"], met
            good[case.verb, text] = met["answer"]
        met = meet(peer, case, case.verb, text)
        verdict = judged(met, good[case.verb, text])
        counts[("harmless: " if case.harmless else "") + verdict] += 1
        if args.out:
            with args.out.open("a") as file:
                file.write(json.dumps({"name": case.name, "verdict": verdict, **met}) + "\n")
    print(json.dumps({"peer": args.peer, "version": peer.version, "models": len(cases), **dict(counts)}))


def judged(met: dict[str, Any], good: Any) -> str:
    if met["ended"]:
        return str(met["ended"])
    if met["code"] < 0 or met["code"] == 134:
        return "crashed"
    if met["code"]:
        return "refused"
    same = met["answer"][0] == good[0] and met["answer"][1] is not None and abs(met["answer"][1] - good[1]) < 1e-3
    return "same answer" if same else "other answer"


def meet(peer: Peer, case: Any, verb: str, text: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "folder").mkdir()
        return peer.ask({"model": str(case.build(Path(folder) / "folder")), "verb": verb, "text": text})


class Peer:
    """The process that has the peer imported."""

    def __init__(self, command: list[str]) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
        self._process = subprocess.Popen(command, **pipes)  # type: ignore[call-overload]
        self.version = self._read()

    def ask(self, job: dict[str, str]) -> dict[str, Any]:
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return dict(self._read())

    def _read(self) -> Any:
        return json.loads(self._process.stdout.readline())


def serve(peer: tuple[str, Callable[[str, str, str], tuple[int, float | None]]]) -> None:
    """In the peer's Python: fork for each job, and say how it ended. The real standard output is for that alone."""
    version, answer = peer
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    print(json.dumps(version), file=replies, flush=True)
    for line in sys.stdin:
        print(json.dumps(forked(json.loads(line), answer)), file=replies, flush=True)


def forked(job: dict[str, str], answer: Callable[[str, str, str], tuple[int, float | None]]) -> dict[str, Any]:
    base = resident(os.getpid())
    with tempfile.TemporaryFile("w+") as said:
        start = time.monotonic()
        pid = os.fork()
        if pid == 0:
            os.setsid()
            try:
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                said.write(json.dumps(answer(job["model"], job["verb"], job["text"])))
                said.flush()
                os._exit(0)
            except BaseException:
                said.seek(0)
                said.write(traceback.format_exc()[-2000:])
                said.flush()
                os._exit(1)
        ended, peak = "", 0
        while True:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                break
            peak = max(peak, resident(pid) - base)
            if not ended and (time.monotonic() - start > SECONDS or peak > BYTES):
                ended = "memory" if peak > BYTES else "hung"
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.005)
        said.seek(0)
        text = said.read()
        code = os.waitstatus_to_exitcode(status)
        return {
            "code": code,
            "ended": ended,
            "seconds": round(time.monotonic() - start, 2),
            "megabytes": peak // 10**6,
            "answer": json.loads(text) if code == 0 else None,
            "said": "" if code == 0 else text.strip().splitlines()[-1:],
        }


def resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def transformers() -> tuple[str, Callable[[str, str, str], tuple[int, float | None]]]:
    import torch
    import transformers as library

    torch.set_num_threads(1)
    library.AutoModelForCausalLM  # noqa: B018  (imported before the fork)
    from transformers import Phi3ForCausalLM, PreTrainedTokenizerFast  # noqa: F401

    def answer(model: str, verb: str, text: str) -> tuple[int, float | None]:
        tokenizer = library.AutoTokenizer.from_pretrained(model)
        loaded = library.AutoModelForCausalLM.from_pretrained(model)
        if verb == "run":
            prompt = tokenizer.apply_chat_template([{"role": "user", "content": text}], tokenize=False,
                                                   add_generation_prompt=True)  # fmt: skip
            inputs = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)
        else:
            inputs = tokenizer(text, return_tensors="pt")
        ids = inputs["input_ids"]
        made = loaded.generate(ids, attention_mask=inputs["attention_mask"], max_new_tokens=1, do_sample=False,
                               output_logits=True, return_dict_in_generate=True)  # fmt: skip
        logits = torch.log_softmax(made.logits[0][0].float(), -1)
        best = int(made.sequences[0, ids.shape[1]])
        likely = float(logits[best])
        return best, likely if torch.isfinite(logits).all() else None

    return f"transformers {library.__version__}, torch {torch.__version__}", answer


def llama_cpp() -> tuple[str, Callable[[str, str, str], tuple[int, float | None]]]:
    import urllib.request

    import xllamacpp

    def ask(runs: Any, verb: str, job: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{runs.listening_address}/{verb}", json.dumps(job).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as reply:
            return dict(json.load(reply))

    def answer(model: str, verb: str, text: str) -> tuple[int, float | None]:
        params = xllamacpp.CommonParams()
        params.model.path = model
        params.n_ctx, params.n_parallel, params.warmup, params.verbosity = 512, 1, False, 0
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
        runs = xllamacpp.Server(params)
        prompt: str = text
        if verb == "run":
            prompt = ask(runs, "apply-template", {"messages": [{"role": "user", "content": text}]})["prompt"]
        job = {"n_predict": 1, "temperature": 0, "n_probs": 1, "return_tokens": True, "cache_prompt": False}
        made = ask(runs, "completion", {"prompt": prompt, **job})
        first = made["completion_probabilities"][0]
        likely = first.get("logprob")
        return int(first["id"]), float(likely) if likely is not None else None

    return f"llama.cpp of xllamacpp {xllamacpp.__version__}", answer


ANSWERS = {"transformers": transformers, "llama.cpp": llama_cpp}

if __name__ == "__main__":
    main()
