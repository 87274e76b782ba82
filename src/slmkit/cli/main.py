"""`slm`: finds the verb, runs it, and turns whatever goes wrong into one line and an exit code."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING

from slmkit.cli import terminal
from slmkit.errors import NotEnoughMemory, RequestError, SlmError

if TYPE_CHECKING:
    from collections.abc import Sequence

# Each verb is the file of that name in this folder: add_arguments(parser), run(args) -> exit code.
VERBS = {
    "run": "answer a prompt, or chat",
    "create": "make a model of your own from a Modelfile",
    "pull": "fetch a model from the hub",
    "list": "list the models that run here without a download",
    "show": "show what a model is, what its files hold, and the memory it needs",
    "rm": "remove a model that was pulled or made, packed copies, or kept prompts",
    "serve": "serve models over HTTP: the APIs of OpenAI, Anthropic and Ollama, and a page",
    "ps": "list the models that a running server has loaded",
    "stop": "unload a model from a running server",
    "backends": "list the runtimes and clouds that models run on, and what each can do",
    "complete": "continue a text, without the chat template",
    "render": "show the exact prompt that a model gets",
    "tokenize": "show the tokens of a text",
    "quantize": "write a packed 8-bit or 4-bit model",
    "export": "write a GGUF file, or a folder of another runtime",
    "train": "make a model by a recipe",
    "bench": "measure speed and memory, beside this machine's limits",
    "compare": "put the same prompts to several models, and show the answers side by side",
    "verify": "say whether one backend or quantization is faithful to another",
    "models": "the published family: sizes, languages, memory and predicted speed here",
    "fit": "which model and quantization for this machine and a task, and why",
    "doctor": "check this machine and this installation, and say what to do",
    "config": "show the options in effect and where each comes from",
    "completion": "print a completion script for bash, zsh or fish",
}

INTERRUPTED = 130  # 128 + SIGINT, as shells have it
PIPE_CLOSED = 141  # 128 + SIGPIPE, likewise
OUT_OF_MEMORY = (
    "this process got no more memory from the system; close other programs, raise its limit (`ulimit -v`), "
    "or take a smaller --ctx"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (without the program's name) and return its exit code."""
    terminal.prepare()
    try:
        return _dispatch(list(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        terminal.abandon_output()
        return PIPE_CLOSED
    except SlmError as error:
        return _fail(error, str(error), error.exit_code)
    except MemoryError as error:
        return _fail(error, OUT_OF_MEMORY, NotEnoughMemory.exit_code)
    except Exception as error:  # a bug of ours, or the machine's doing: still one line
        what = f"unexpected {type(error).__name__}: {error}" if str(error) else f"unexpected {type(error).__name__}"
        return _fail(error, f"{what}; set SLMKIT_DEBUG=1 for the traceback, and please report it", 1)


def _dispatch(argv: list[str]) -> int:
    if argv[:1] == ["help"]:
        argv = [*argv[1:2], "--help"]
    if not argv or argv[0] in ("-h", "--help"):
        terminal.write(_help())
        return 0
    if argv[0] in ("-V", "--version"):
        from slmkit import __version__

        terminal.write(f"slm {__version__}\n")
        return 0
    verb = argv[0]
    if verb not in VERBS:
        raise RequestError(_unknown(verb))

    from slmkit.cli.parser import Parser

    module = importlib.import_module(f"slmkit.cli.{verb}")
    parser = Parser(prog=f"slm {verb}", description=module.__doc__)
    module.add_arguments(parser)
    try:
        args = parser.parse(argv[1:])
    except SystemExit as done:  # --help has been printed
        return int(done.code or 0)
    return int(module.run(args))


def _help() -> str:
    verbs = "\n".join(f"  {verb:<12}{about}" for verb, about in VERBS.items())
    return f"""usage: slm VERB ...

Runs small language models on this machine.

{verbs}

  slm run tiny "Tell me a story about a dog."    one answer
  slm run                                        a chat with the bundled model
  slm VERB --help                                what a verb takes
  slm --version
"""


def _unknown(verb: str) -> str:
    if verb.startswith("-"):
        return f"{verb} is not an option of slm itself; put options after a verb, as in `slm run tiny {verb}`"
    from slmkit.cli.parser import near

    return f"{verb!r} is not a verb of slm{near(verb, VERBS)}; `slm --help` lists them"


def _fail(error: Exception, message: str, code: int) -> int:
    if os.environ.get("SLMKIT_DEBUG"):
        import traceback

        traceback.print_exception(error)
    terminal.say(message)
    return code
