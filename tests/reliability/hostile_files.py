"""Names in a model's folder that are no ordinary files, and files that are programs."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

from cases import CANARY
from spoiling import add as add_case
from spoiling import edited, endless, good, spoiled

FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors")


def each(name: str, put: Callable[[Path], object], files: tuple[str, ...] = FILES) -> None:
    """Add, for each of the files, the model in which something else has its name."""
    for file in files:

        def spoil(model: Path, file: str = file) -> None:
            (model / file).unlink(missing_ok=True)
            put(model / file)

        spoiled(f"{name}-for-{file}", spoil, verb="run")


each("fifo", os.mkfifo, (*FILES, "chat_template.jinja"))
each("folder", lambda path: path.mkdir(), (*FILES, "chat_template.jinja"))
each("zeros-device", lambda path: path.symlink_to("/dev/zero"), (*FILES, "chat_template.jinja"))
each("random-device", lambda path: path.symlink_to("/dev/urandom"))
each("null-device", lambda path: path.symlink_to("/dev/null"))
each("standard-input", lambda path: path.symlink_to("/dev/stdin"))
each("link-to-itself", lambda path: path.symlink_to(path.name))
each("link-to-nothing", lambda path: path.symlink_to("nothing"))
each("link-out-to-passwd", lambda path: path.symlink_to("/etc/passwd"), (*FILES, "chat_template.jinja"))
each("link-to-own-memory", lambda path: path.symlink_to("/proc/self/mem"))
each("link-to-environment", lambda path: path.symlink_to("/proc/self/environ"))
each("endless", endless, (*FILES, "chat_template.jinja"))


def linked(file: str) -> None:
    """The good file itself, through a link that leaves the folder: where it leads, nobody said."""

    def spoil(model: Path) -> None:
        (model.parent / "elsewhere").mkdir()
        (model / file).rename(model.parent / "elsewhere" / file)
        (model / file).symlink_to(f"../elsewhere/{file}")

    spoiled(f"link-out-to-a-good-{file}", spoil, verb="run")


for file in FILES:
    linked(file)


class Evil:
    """What a pickle does when it is loaded."""

    def __reduce__(self) -> object:
        return os.system, (f"touch ${CANARY}",)


PROGRAM = f"import os; open(os.environ[{CANARY!r}], 'w').close()\n"
PICKLES = ("pytorch_model.bin", "model.pt", "model.pth", "model.ckpt", "training_args.bin", "optimizer.pt")


def put_pickles(model: Path) -> None:
    for file in PICKLES:
        (model / file).write_bytes(pickle.dumps(Evil()))


def only_pickles(model: Path) -> None:
    put_pickles(model)
    (model / "model.safetensors").unlink()


def pickle_for_weights(model: Path) -> None:
    (model / "model.safetensors").write_bytes(pickle.dumps(Evil()))


spoiled("pickles-beside-the-weights", put_pickles, harmless=True)
spoiled("pickles-alone", only_pickles)
spoiled("pickle-named-safetensors", pickle_for_weights)


def put_programs(model: Path) -> None:
    """Modules that `trust_remote_code` would import, and those that an import might stumble over."""
    for file in ("modeling_phi3.py", "configuration_phi3.py", "tokenization_phi3.py", "__init__.py", "json.py",
                 "numpy.py", "sitecustomize.py", "conftest.py", "tokenizers.py"):  # fmt: skip
        (model / file).write_text(PROGRAM)


AUTO = {"AutoConfig": "configuration_phi3.Phi3Config", "AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM",
        "AutoTokenizer": ["tokenization_phi3.T", None]}  # fmt: skip


def remote_code(model: Path) -> None:
    put_programs(model)
    edited("config.json", lambda raw: raw.update(auto_map=AUTO))(model)
    edited("tokenizer_config.json", lambda raw: raw.update(auto_map=AUTO))(model)


def unknown_remote_code(model: Path) -> None:
    remote_code(model)
    edited("config.json", lambda raw: raw.update(model_type="phi3_evil", architectures=["EvilForCausalLM"]))(model)


spoiled("remote-code", remote_code, harmless=True)
spoiled("remote-code-of-an-unknown-architecture", unknown_remote_code)


def names(folder: Path) -> Path:
    """A model in a folder whose own name moves the cursor."""
    model = good(folder)
    (model / "config.json").write_text("{")
    return model.rename(folder / "\x1b]0;title\x07\x1b[2J")


add_case("folder-named-by-escapes", names)
add_case("no-folder", lambda folder: folder / "nothing")
add_case("empty-folder", lambda folder: folder)
add_case("device-for-a-folder", lambda folder: "/dev/zero")
add_case("fifo-for-a-folder", lambda folder: (os.mkfifo(folder / "pipe"), folder / "pipe")[1])
add_case("file-for-a-folder", lambda folder: "/etc/passwd")
add_case("root-for-a-folder", lambda folder: "/")
add_case("good", good, verb="run", harmless=True)
