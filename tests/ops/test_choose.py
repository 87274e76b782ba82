from __future__ import annotations

import builtins
import sys

import pytest

from slmkit.errors import OptionError
from slmkit.ops import choose, reference


def without_native(monkeypatch, built=False):
    real = builtins.__import__

    def refuse(name, globals=None, locals=None, fromlist=(), level=0):
        if name == "slmkit.ops" and fromlist and "native" in fromlist:
            raise ImportError("GLIBCXX_3.4.99 not found" if built else "not built")
        return real(name, globals, locals, fromlist, level)

    monkeypatch.delitem(sys.modules, "slmkit.ops.native", raising=False)
    monkeypatch.setattr(builtins, "__import__", refuse)
    monkeypatch.setattr(choose, "find_spec", lambda name: object() if built else None)


def test_auto_takes_the_best_native_set(threads):
    native = pytest.importorskip("slmkit.ops.native")
    ops = choose.choose(threads=3)
    assert native.kernel_sets()[0] == ops.NAME
    assert ops.description == f"{ops.NAME}, 3 threads"
    assert ops.hint == ""
    assert choose.choose(threads=1).description == f"{ops.NAME}, 1 thread"
    assert native.threads() == 1


def test_any_available_set_can_be_asked_for(threads):
    for name in choose.available():
        ops = choose.choose(name)
        assert name == ops.NAME


def test_without_the_library_the_reference_runs_and_says_how_to_build(monkeypatch):
    without_native(monkeypatch)
    ops = choose.choose()
    assert ops.NAME == "reference"
    assert ops.matmul is reference.matmul
    assert "apt install g++" in ops.hint
    assert "pip install" in ops.hint
    with pytest.raises(OptionError, match="'avx2' cannot run here; choose from auto, reference"):
        choose.choose("avx2")


def test_an_unknown_set_or_number_of_threads_is_refused_with_the_choices():
    with pytest.raises(OptionError, match=r"'sse9' cannot run here; choose from auto, .*reference"):
        choose.choose("sse9")
    with pytest.raises(OptionError, match="threads is 0; it must be from 1 to 1024"):
        choose.choose(threads=0)


def test_there_is_at_least_one_core():
    assert choose.cores() >= 1


@pytest.mark.parametrize(("text", "processors"), [("200000 100000", 2), ("150000 100000", 2), ("50000 100000", 1)])
def test_a_container_s_share_of_time_limits_the_threads(text, processors, tmp_path):
    path = tmp_path / "cpu.max"
    path.write_text(text + "\n")
    assert choose._quota(path) == processors


def test_no_container_limit_is_no_limit(tmp_path):
    path = tmp_path / "cpu.max"
    assert choose._quota(path) > 1000
    path.write_text("max 100000\n")
    assert choose._quota(path) > 1000


def test_kernels_that_are_there_and_do_not_load_are_told_from_kernels_never_built(monkeypatch):
    without_native(monkeypatch, built=True)
    hint = choose.choose().hint
    assert "do not load (GLIBCXX_3.4.99 not found)" in hint
    assert "compiler" not in hint


def test_a_processor_without_vectors_is_told_why_it_is_slow(monkeypatch):
    native = pytest.importorskip("slmkit.ops.native")
    assert native.Native("scalar").hint == ""
    sets = [s for s in native._native.kernel_sets() if s.name == "scalar"]
    monkeypatch.setattr(native._native, "kernel_sets", lambda: sets)
    assert "portable kernels" in native.Native("scalar").hint
