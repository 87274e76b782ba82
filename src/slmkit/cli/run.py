"""Answer a prompt, or chat when there is none. Without a model it is tiny, the bundled one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmkit.cli import terminal
from slmkit.cli.adapters import with_adapter
from slmkit.cli.answer import add_display, show
from slmkit.cli.flags import add_flags
from slmkit.cli.images import add_images, given_images
from slmkit.cli.loading import add_model, add_quiet, open_model, refuse_prompt
from slmkit.cli.prompt import add_prompt, given_text
from slmkit.cli.settings import effective
from slmkit.errors import RequestError
from slmkit.options import LoadOptions, Options
from slmkit.request import Message, Request

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser, nargs="?", default="tiny")
    add_prompt(parser, "PROMPT", "what to answer")
    parser.add_argument("--system", metavar="TEXT", help="the system message")
    parser.add_argument(
        "--parse-special", action="store_true", help="let text such as <|end|> in the prompt act as a control token"
    )
    add_images(parser)
    add_quiet(parser)
    add_display(parser)
    add_flags(parser, Options, LoadOptions, without=("queue",))


def run(args: argparse.Namespace) -> int:
    options, load_options = with_adapter(effective(Options, args), effective(LoadOptions, args))
    refuse_prompt(args.model)
    prompt, images = given_text(args.text), given_images(args, load_options)
    if prompt is None:
        _require_chat(args, options)
        from slmkit.cli.chat import chat

        return chat(args, options, load_options, images)
    messages = (Message("system", args.system),) if args.system else ()
    request = Request((*messages, Message("user", prompt, images)), options=options, parse_special=args.parse_special)
    from slmkit.cli.remote import running_model

    remote = running_model(args.model, request, load_options, quiet=args.quiet)
    with remote or open_model(args.model, load_options, quiet=args.quiet) as model:
        show(model, request, as_json=args.json, stats=args.stats)
    return 0


def _require_chat(args: argparse.Namespace, options: Options) -> None:
    if args.json:
        raise RequestError("--json answers one prompt; give the prompt as an argument or on standard input")
    if not terminal.is_interactive():
        raise RequestError("there is no prompt, and a chat needs a terminal; give the prompt as an argument")
    if (options.n or 1) > 1:
        raise RequestError(f"n is {options.n}, and a chat has one answer at a time; leave n out or give a prompt")
