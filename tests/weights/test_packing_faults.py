"""Kills, full disks, several processes and little memory while a model is packed."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from folders import EXPECTED, file_bytes, model_tensors, write_model
from test_packed import Counting, assert_packed_as, packed_files

from slmkit.errors import CheckpointError, RequestError, StorageError
from slmkit.ops.pack import pack
from slmkit.weights.atomic import PartialFile, write_atomically
from slmkit.weights.checkpoint import Checkpoint
from slmkit.weights.load import load_weights
from slmkit.weights.quantize import quantize_folder

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and limits of POSIX systems")

PROGRAM = """
import os, resource, signal, sys, types
from pathlib import Path
from slmkit.errors import SlmError
from slmkit.ops.pack import pack
from slmkit.weights import cache, fingerprint, load
from slmkit.weights.checkpoint import Checkpoint
from slmkit.weights.quantize import quantize_folder
from folders import EXPECTED
folder = Path(sys.argv[1])
"""


def program(text: str, *args: object, cache: Path, wait: bool = True) -> Any:
    """Run the text in a Python of its own, after PROGRAM."""
    here = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    start = subprocess.run if wait else subprocess.Popen
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", PROGRAM + textwrap.dedent(text), *map(str, args)]
    return start(command, env=os.environ | {"PYTHONPATH": here, "SLMKIT_CACHE_DIR": str(cache)}, **pipes)


KILLED_WHILE_PACKING = """
calls = 0
def killing(data, format):
    global calls
    calls += 1
    if calls == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return pack(data, format)
ops = types.SimpleNamespace(pack=killing)
"""


def test_after_a_kill_nothing_loads_and_the_next_load_packs_and_cleans_up(tmp_path: Path, cache: Path) -> None:
    folder = write_model(tmp_path / "m")
    done = program(KILLED_WHILE_PACKING + 'load.load_weights(folder, EXPECTED, "q4", ops=ops)', folder, cache=cache)
    assert done.returncode == -signal.SIGKILL
    (leftover,) = packed_files(cache)
    assert leftover.name.endswith(".partial")
    ops = Counting()
    assert_packed_as(load_weights(folder, EXPECTED, "q4", ops=ops), model_tensors(), "q4")
    assert ops.calls == 4
    assert [path.suffix for path in packed_files(cache)] == [".safetensors"]


def test_what_a_kill_left_is_removed_when_another_model_is_packed(tmp_path: Path, cache: Path) -> None:
    folder = write_model(tmp_path / "m")
    program(KILLED_WHILE_PACKING + 'load.load_weights(folder, EXPECTED, "q4", ops=ops)', folder, cache=cache)
    load_weights(folder, EXPECTED, "q8")
    assert [path.suffix for path in packed_files(cache)] == [".safetensors"]


def test_a_partial_file_in_use_is_not_removed(tmp_path: Path, cache: Path) -> None:
    (cache / "packed").mkdir(parents=True)
    with PartialFile(cache / "packed" / "x.safetensors", 3) as other:
        other.write(b"abc")
        load_weights(write_model(tmp_path / "m"), EXPECTED, "q8")
        other.commit()
    assert (cache / "packed" / "x.safetensors").read_bytes() == b"abc"


def test_after_a_kill_the_folder_being_written_does_not_load_and_can_be_written_again(
    tmp_path: Path, cache: Path
) -> None:
    folder, out = write_model(tmp_path / "m"), tmp_path / "out"
    text = KILLED_WHILE_PACKING + 'quantize_folder(Checkpoint.open(folder), EXPECTED, "q4", Path(sys.argv[2]), ops=ops)'
    assert program(text, folder, out, cache=cache).returncode == -signal.SIGKILL
    assert [path.name for path in out.iterdir()] == [".model.safetensors.partial"]
    quantize_folder(Checkpoint.open(folder), EXPECTED, "q4", out)
    assert sorted(path.name for path in out.iterdir()) == ["config.json", "model.safetensors"]
    assert_packed_as(load_weights(out, EXPECTED), model_tensors(), "q4")


def test_after_a_kill_just_before_the_weights_appear_the_same_command_works_again(tmp_path: Path, cache: Path) -> None:
    """Configuration and tokenizer are there by then, and only a killed writer leaves them with no weights."""
    folder, out = write_model(tmp_path / "m"), tmp_path / "out"
    text = """
    from slmkit.weights import safetensors
    safetensors.SafetensorsWriter.commit = lambda self: os.kill(os.getpid(), signal.SIGKILL)
    quantize_folder(Checkpoint.open(folder), EXPECTED, "q4", Path(sys.argv[2]))
    """
    assert program(text, folder, out, cache=cache).returncode == -signal.SIGKILL
    assert sorted(path.name for path in out.iterdir()) == [".model.safetensors.partial", "config.json"]
    quantize_folder(Checkpoint.open(folder), EXPECTED, "q4", out)
    assert sorted(path.name for path in out.iterdir()) == ["config.json", "model.safetensors"]


def test_other_programs_half_written_files_in_the_folder_stay(tmp_path: Path, cache: Path) -> None:
    folder, out = write_model(tmp_path / "m"), tmp_path / "out"
    out.mkdir()
    (out / ".film.mkv.partial").write_bytes(b"not ours")
    (out / ".config.json.partial").write_bytes(b"of a killed run")
    quantize_folder(Checkpoint.open(folder), EXPECTED, "q4", out, force=True)
    assert sorted(path.name for path in out.iterdir()) == [".film.mkv.partial", "config.json", "model.safetensors"]


@pytest.mark.parametrize("name", ["model.safetensors", "notes.txt"])
def test_beside_what_a_kill_left_other_files_are_not_replaced(tmp_path: Path, name: str) -> None:
    folder, out = write_model(tmp_path / "m"), tmp_path / "out"
    out.mkdir()
    for left in (".model.safetensors.partial", "config.json", name):
        (out / left).write_text("x")
    with pytest.raises(RequestError, match="has files in it"):
        quantize_folder(Checkpoint.open(folder), EXPECTED, "q4", out)


def test_a_kill_between_configuration_and_weights_leaves_no_model_of_two_halves(tmp_path: Path, cache: Path) -> None:
    out = tmp_path / "out"
    quantize_folder(Checkpoint.open(write_model(tmp_path / "a")), EXPECTED, "q8", out)
    text = """
    from slmkit.weights import quantize
    quantize.read_bytes = lambda path, limit: os.kill(os.getpid(), signal.SIGKILL)
    quantize_folder(Checkpoint.open(folder), EXPECTED, "q4", Path(sys.argv[2]), force=True)
    """
    done = program(text, write_model(tmp_path / "b"), out, cache=cache)
    assert done.returncode == -signal.SIGKILL
    with pytest.raises(CheckpointError, match="neither"):
        load_weights(out, EXPECTED)


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="the system cannot open without following links")
def test_a_link_in_the_place_of_the_partial_file_is_not_written_through(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"mine")
    (tmp_path / ".f.partial").symlink_to(precious)
    with pytest.raises(StorageError, match="could not be written"):
        write_atomically(tmp_path / "f", b"new")
    assert precious.read_bytes() == b"mine"


def test_a_longer_leftover_leaves_nothing_in_the_next_file(tmp_path: Path) -> None:
    (tmp_path / ".x.partial").write_bytes(bytes(100))
    write_atomically(tmp_path / "x", b"short")
    assert (tmp_path / "x").read_bytes() == b"short"


def test_a_file_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a power cut could leave an empty file under the final name."""
    calls = []
    real_fsync, real_replace = os.fsync, os.replace
    monkeypatch.setattr("os.fsync", lambda fd: (calls.append("fsync"), real_fsync(fd)))
    monkeypatch.setattr("os.replace", lambda a, b: (calls.append("replace"), real_replace(a, b)))
    write_atomically(tmp_path / "x", b"x")
    assert calls[:2] == ["fsync", "replace"]


def test_a_limit_on_file_sizes_while_packing_leaves_nothing(tmp_path: Path, cache: Path) -> None:
    """A write that the system refuses in the middle, without any privilege: RLIMIT_FSIZE."""
    text = """
    resource.setrlimit(resource.RLIMIT_FSIZE, (8000, 8000))
    try:
        load.load_weights(folder, EXPECTED, "q8")
    except SlmError as error:
        print(type(error).__name__, error)
    """
    done = program(text, write_model(tmp_path / "m"), cache=cache)
    assert done.stdout.startswith("StorageError")
    assert "File too large" in done.stdout
    assert done.stdout.count("\n") == 1
    assert packed_files(cache) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting takes privileges")
    yield place
    subprocess.run(["umount", place], check=True)


def a_model_too_large_for_it(folder: Path) -> tuple[Path, dict[str, tuple[int, ...]]]:
    shape = (512, 512)
    weights = np.ones(shape, np.float32)
    return write_model(folder, {"w": ("F32", weights), "v": ("F32", weights)}), {"w": shape, "v": shape}


def test_a_disk_too_small_is_told_beforehand_with_both_numbers(
    tmp_path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, expected = a_model_too_large_for_it(tmp_path / "m")
    monkeypatch.setenv("SLMKIT_CACHE_DIR", str(small_disk))
    ops = Counting()
    with pytest.raises(StorageError, match=r"needs 0\.6 MB, and its disk has 0\.1 MB free"):
        load_weights(folder, expected, "q8", ops=ops)
    assert ops.calls == 0
    assert packed_files(small_disk) == []


def test_a_disk_that_fills_up_while_packing_leaves_nothing(
    tmp_path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    folder, expected = a_model_too_large_for_it(tmp_path / "m")
    monkeypatch.setenv("SLMKIT_CACHE_DIR", str(small_disk))
    real = shutil.disk_usage
    answers = iter([real("/")])  # the first answer is out of date: someone else fills the disk meanwhile
    monkeypatch.setattr("shutil.disk_usage", lambda path: next(answers, None) or real(path))
    ops = Counting()
    with pytest.raises(StorageError, match=r"needs 0\.6 MB, and .* free"):
        load_weights(folder, expected, "q8", ops=ops)
    assert ops.calls > 0
    assert packed_files(small_disk) == []
    assert small_disk.stat().st_size < 200  # nothing else either


def test_any_failing_write_removes_a_new_output_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = os.write, []

    def failing(fd: int, data: Any) -> int:
        calls.append(fd)
        if len(calls) == 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, data)

    checkpoint = Checkpoint.open(write_model(tmp_path / "m"))
    monkeypatch.setattr("os.write", failing)
    with pytest.raises(StorageError, match="No space left on device"):
        quantize_folder(checkpoint, EXPECTED, "q4", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_interrupt_while_packing_leaves_nothing(tmp_path: Path, cache: Path) -> None:
    class Interrupted:
        def pack(self, data: Any, format: str) -> Any:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_weights(write_model(tmp_path / "m"), EXPECTED, "q4", ops=Interrupted())
    assert packed_files(cache) == []


def test_writes_that_take_only_some_bytes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr("os.write", lambda fd, data: real(fd, bytes(data)[:7]))
    write_atomically(tmp_path / "x", bytes(range(100)))
    assert (tmp_path / "x").read_bytes() == bytes(range(100))


def test_two_processes_at_once_pack_once_and_both_get_it_right(tmp_path: Path, cache: Path) -> None:
    """The first says when it is packing and waits for a line; the second finds it at that, waits, and packs nothing."""
    folder = write_model(tmp_path / "m")
    slow = """
    def slow(data, format):
        print("packing", flush=True)
        input()
        return pack(data, format)
    load.load_weights(folder, EXPECTED, "q4", ops=types.SimpleNamespace(pack=slow))
    """
    first = subprocess.Popen(
        [sys.executable, "-c", PROGRAM + textwrap.dedent(slow), str(folder)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert first.stdout is not None
    assert first.stdin is not None
    assert first.stdout.readline() == "packing\n"
    ops, waited = Counting(), []

    def progress(what: str, done: int, total: int) -> None:
        if what.startswith("waiting"):
            waited.append(what)
            first.stdin.write("\n" * 10)
            first.stdin.flush()

    weights = load_weights(folder, EXPECTED, "q4", ops=ops, progress=progress)
    first.communicate()
    assert first.returncode == 0
    assert len(waited) == 1
    assert ops.calls == 0
    assert_packed_as(weights, model_tensors(), "q4")


def test_whoever_waits_takes_over_when_the_other_is_killed(tmp_path: Path, cache: Path) -> None:
    folder = write_model(tmp_path / "m")
    stuck = """
    def stuck(data, format):
        print("packing", flush=True)
        signal.pause()
    load.load_weights(folder, EXPECTED, "q4", ops=types.SimpleNamespace(pack=stuck))
    """
    first = program(stuck, folder, cache=cache, wait=False)
    assert first.stdout.readline() == "packing\n"

    def progress(what: str, done: int, total: int) -> None:
        if what.startswith("waiting"):
            first.kill()

    ops = Counting()
    assert_packed_as(load_weights(folder, EXPECTED, "q4", ops=ops, progress=progress), model_tensors(), "q4")
    first.communicate()
    assert ops.calls == 4


def test_many_processes_writing_one_file_never_mix(tmp_path: Path, cache: Path) -> None:
    text = """
    from slmkit.weights.atomic import write_atomically
    for _ in range(5):
        write_atomically(folder / "x", sys.argv[2].encode() * 10_000)
    """
    (tmp_path / "x").write_bytes(b"a" * 10_000)
    running = [program(text, tmp_path, letter, cache=cache, wait=False) for letter in "abc"]
    while any(process.poll() is None for process in running):
        content = (tmp_path / "x").read_bytes()
        assert content in [letter * 10_000 for letter in (b"a", b"b", b"c")]
    for process in running:
        assert (process.communicate()[1], process.returncode) == ("", 0)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_packing_a_tensor_of_64_mib_never_holds_a_quarter_of_it(tmp_path: Path, cache: Path) -> None:
    """With a packer that gives zeros of the right size, so that only the reading and writing of ours is seen."""
    shape = (8192, 4096)
    folder = write_model(tmp_path / "m", {"w": ("BF16", np.ones(shape, np.uint16))})
    text = f"""
    import numpy as np
    from slmkit.ops.matrix import Matrix, layout
    def zeros(data, format):
        data.max()  # all of it was read
        arrays = layout(format, *data.shape).items()
        return Matrix(format, *data.shape, **{{name: np.zeros(shape, dtype) for name, (dtype, shape) in arrays}})
    def peak():
        return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024
    before = peak()
    load.load_weights(folder, {{"w": {shape}}}, "q4", ops=types.SimpleNamespace(pack=zeros))
    print(peak() - before)
    """
    done = program(text, folder, cache=cache)
    assert done.stderr == ""
    # measured 6.3 MiB: 2 of mapped pages, 2 of packed bytes, and the scales of the whole tensor, which come last
    assert float(done.stdout) < 16


def test_a_shard_that_changes_while_it_is_packed_is_noticed(tmp_path: Path, cache: Path) -> None:
    folder = write_model(tmp_path / "m")

    class Meddling(Counting):
        def pack(self, data: Any, format: str) -> Any:
            if self.calls == 1:
                (folder / "new").write_bytes(file_bytes(model_tensors(seed=9)))
                os.replace(folder / "new", folder / "model.safetensors")
            return super().pack(data, format)

    with pytest.raises(Exception, match="changed while it was being read"):
        load_weights(folder, EXPECTED, "q4", ops=Meddling())
    assert packed_files(cache) == []


def test_the_packer_of_the_ops_is_used(tmp_path: Path, cache: Path) -> None:
    ops = Counting()
    load_weights(write_model(tmp_path / "m"), EXPECTED, "q4", ops=ops)
    assert ops.calls == 4
    assert pack is not ops.pack
