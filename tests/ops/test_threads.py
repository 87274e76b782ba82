"""The thread pool: calls from many Python threads, changes of its size, and a forked child."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest

from slmkit.ops.matrix import Matrix

native = pytest.importorskip("slmkit.ops.native")


def product():
    rng = np.random.default_rng(0)
    data = rng.integers(0, 256, (40, 32, 256), np.uint8)
    m = native.prepare(Matrix("q4", 640, 1024, data, np.full((40, 32, 16), 0.01, np.float16)))
    x = rng.standard_normal((3, 1024), np.float32)
    return lambda: native.Native(native.kernel_sets()[0]).matmul(x, m).tobytes()


def test_python_threads_may_call_at_once(threads):
    threads(3)
    run = product()
    expected, wrong = run(), []

    def work():
        wrong.extend(i for i in range(200) if run() != expected)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert wrong == []


def test_the_number_of_threads_may_change_between_calls(threads):
    run = product()
    results = set()
    for n in (1, 4, 2, 3, 1, 2):
        threads(n)
        assert native.threads() == n
        results |= {run() for _ in range(20)}
    assert len(results) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_computes_too(threads):
    threads(2)
    run = product()
    expected = run()
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # a child that hangs dies, and the test fails
        os._exit(0 if all(run() == expected for _ in range(20)) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert run() == expected


@pytest.mark.slow
def test_the_pool_works_on_when_its_count_of_jobs_starts_again(tmp_path):
    """After 2^31 jobs the caller once took no part any more, and without workers it waited for ever."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if not compiler:
        pytest.skip("needs a C++ compiler")
    source, program = Path(__file__).parents[2] / "tests/native/threads_generations.cpp", tmp_path / "generations"
    subprocess.run([compiler, "-std=c++17", "-O1", source, "-o", program, "-pthread"], check=True)
    ran = subprocess.run([program], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.slow
def test_the_pool_has_no_data_races(tmp_path):
    """A worker once could take a chunk of the next job with the ticket of the last: the thread sanitizer saw it."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if not compiler:
        pytest.skip("needs a compiler with -fsanitize=thread")
    root, program = Path(__file__).parents[2], tmp_path / "stress"
    sources = [root / "tests/native/threads_stress.cpp", root / "native/threads.cpp"]
    built = subprocess.run(
        [compiler, "-std=c++17", "-O1", "-g", "-fsanitize=thread", *sources, "-o", program, "-pthread"],
        capture_output=True, text=True,
    )  # fmt: skip
    if built.returncode:
        pytest.skip(f"no thread sanitizer: {built.stderr[-200:]}")
    for _ in range(3):
        ran = subprocess.run([program], capture_output=True, text=True)
        assert ran.returncode == 0, ran.stdout + ran.stderr[:4000]
