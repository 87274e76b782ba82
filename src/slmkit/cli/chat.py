"""The chat: turns and commands, one line for each error, and Ctrl-C stops the answer alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from slmkit.cli import conversation, terminal
from slmkit.cli.adapters import NONE, known_adapter
from slmkit.cli.answer import context_text, cut_by_context, is_cut_by_context, statistics, stream
from slmkit.cli.images import open_image
from slmkit.cli.loading import Watch, find_source, open_model
from slmkit.cli.parser import near
from slmkit.errors import ContextExceeded, RequestError, SlmError
from slmkit.request import Message, Request
from slmkit.weights.locate import locate

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from slmkit.events import Choice
    from slmkit.model import Model
    from slmkit.options import LoadOptions, Options
    from slmkit.vision.picture import Picture

COMMANDS = {
    "/clear": "forget the conversation; the system message stays",
    "/save FILE": "write the conversation to a JSON file",
    "/load FILE": "go on with a saved conversation",
    "/model NAME": "go on with another model",
    "/image FILE": "add an image, a file or a URL, to the next message",
    "/adapter NAME": "answer with another adapter of those that were loaded; none is the model alone",
    "/system TEXT": "set the system message; without a text there is none",
    "/help": "this list",
    "/quit": "leave, as Ctrl-D does",
}
_HELP = (
    "\n".join(f"  {command:<14}{about}" for command, about in COMMANDS.items())
    + """
  Enter sends, Alt-Enter starts a new line, and \"\"\" opens and closes a text of several lines.
  Ctrl-C stops an answer. A message that should begin with / is written with a space before it."""
)


def chat(
    args: argparse.Namespace, options: Options, load_options: LoadOptions, images: tuple[Picture, ...] = ()
) -> int:
    """Chat on the terminal until the user leaves; the exit code.   images: of the first message."""
    from slmkit.cli.chat_input import line_reader
    from slmkit.cli.remote import running_model

    def in_server(name: str, options: Options, *, quiet: bool) -> Model | None:
        turn = Request((Message("user", ""),), options=options, parse_special=args.parse_special)  # as all will be
        return running_model(name, turn, load_options, quiet=quiet)

    def open_named(name: str, options: Options) -> Model:
        return in_server(name, options, quiet=args.quiet) or open_model(name, load_options, quiet=args.quiet)

    def find_named(name: str, options: Options) -> None:
        if in_server(name, options, quiet=True):
            return
        with Watch(args.quiet) as watch:
            find_source(name, args, watch)

    talk = Chat(
        open_named,
        args.model,
        options,
        parse_special=args.parse_special,
        stats=args.stats,
        find_named=find_named,
        open_image=lambda name: open_image(name, load_options),
    )
    talk.images = list(images)
    if args.system:
        talk.messages = [Message("system", args.system)]
    try:
        talk.loop(line_reader([command.split()[0] for command in COMMANDS]))
    finally:
        talk.model.close()
    return 0


class Chat:
    """A conversation with one model at a time.

    messages: all turns that the model will see again, the system message first if there is one.
    images: of the next message.
    open_named, find_named: a model by its name, for requests with these options.
    """

    def __init__(
        self,
        open_named: Callable[[str, Options], Model],
        name: str,
        options: Options,
        *,
        parse_special: bool = False,
        stats: bool = False,
        find_named: Callable[[str, Options], object] = lambda name, options: locate(name),
        open_image: Callable[[str], Picture] | None = None,
    ) -> None:
        self._open_named = open_named
        self._find_named = find_named
        self._name = name
        self._options = options
        self._parse_special = parse_special
        self._stats = stats
        self.messages: list[Message] = []
        self.images: list[Picture] = []
        self._open_image = open_image
        self.model = open_named(name, options)

    def loop(self, read: Callable[[], str]) -> None:
        """Answer what `read` gives until it raises EOFError or the user leaves."""
        terminal.say(f"{self._name}, {context_text(self.model.context)}; /help lists commands, Ctrl-D leaves")
        while True:
            try:
                text = read()
                if text.startswith("/"):
                    if text.split()[0] in ("/quit", "/exit", "/bye"):
                        return
                    self._command(text)
                elif text.strip():
                    self._answer(text)
            except EOFError:
                return
            except KeyboardInterrupt:
                terminal.say("Ctrl-D or /quit leaves")
            except ContextExceeded as error:
                terminal.say(f"{error}; /clear starts over")
            except SlmError as error:
                terminal.say(str(error))

    def _answer(self, text: str) -> None:
        """Stream the answer to a user's turn, and keep both. A turn without any answer is not kept."""
        turn = Message("user", text, tuple(self.images))
        request = Request((*self.messages, turn), options=self._options, parse_special=self._parse_special)
        parts: list[str] = []
        try:
            self._say_end(*stream(self.model.events(request), on_text=parts.append))
        except KeyboardInterrupt:
            terminal.say("stopped" if parts else "stopped; this turn is not kept")
        if parts:
            self.messages += [turn, Message("assistant", "".join(parts))]
            self.images = []

    def _say_end(self, choice: Choice) -> None:
        if not choice.text:
            terminal.say("the model ended its answer at once; this turn is not kept")
        elif is_cut_by_context(choice, self.model.context, self._options.max_tokens):
            terminal.say(f"{cut_by_context(choice, self.model.context)}; /clear starts over")
        elif choice.reason == "length":
            terminal.say(f"cut off after {choice.usage.completion_tokens} tokens; --max-tokens sets this limit")
        if self._stats:
            terminal.say(statistics([choice]))

    def _command(self, line: str) -> None:
        command, _, rest = line.partition(" ")
        rest = rest.strip()
        if command == "/help":
            terminal.write(_HELP + "\n")
        elif command == "/clear":
            self.messages, self.images = self._system_only(), []
            terminal.say("the conversation is forgotten")
        elif command == "/system":
            turns = [m for m in self.messages if m.role != "system"]
            self.messages = [*([Message("system", rest)] if rest else []), *turns]
            terminal.say("the system message is set" if rest else "there is no system message now")
        elif command == "/image":
            self._add_image(rest)
        elif command == "/save":
            self._save(_path(rest, command))
        elif command == "/load":
            self.messages = conversation.load(_path(rest, command), self._open_image)
            terminal.say(f"{len(self.messages)} messages loaded")
        elif command == "/model":
            self._switch(rest)
        elif command == "/adapter":
            self._choose_adapter(rest)
        else:
            known = [known.split()[0] for known in COMMANDS]
            raise RequestError(
                f"{command} is no command{near(command, known)}; /help lists them, "
                "and a space before / makes it a message"
            )

    def _choose_adapter(self, given: str) -> None:
        loaded = self.model.describe().get("adapters")
        if loaded is None:
            raise RequestError(
                f"{self._name} runs on a server, which lets no request choose an adapter; "
                f"slm run {self._name} --adapters NAME=PLACE loads it here"
            )
        name = known_adapter(given, loaded)
        self._options = replace(self._options, adapter=name)
        terminal.say("the model answers alone" if name == NONE else f"{name} answers")

    def _add_image(self, name: str) -> None:
        if not self.model.backend.capabilities.images:
            raise RequestError(f"{self._name} reads text alone; /model phi3.5-vision goes on with one that sees")
        if not name or self._open_image is None:
            raise RequestError("/image needs a file or a URL, as in /image photo.jpg")
        self.images.append(self._open_image(name))
        size = f"{self.images[-1].width} x {self.images[-1].height} pixels"
        terminal.say(f"{name}, {size}, goes with the next message ({len(self.images)} so far; /clear drops them)")

    def _system_only(self) -> list[Message]:
        return [m for m in self.messages if m.role == "system"]

    def _save(self, path: Path) -> None:
        if len(self.messages) == len(self._system_only()):
            raise RequestError("there is nothing to save yet; ask something first")
        conversation.save(path, self._name, self.messages)
        terminal.say(f"{len(self.messages)} messages saved in {path}")

    def _switch(self, name: str) -> None:
        """Load another model, with the same options; the conversation stays. If that fails, the old one is back."""
        if not name:
            raise RequestError(f"/model needs a name, as in /model tiny; this is {self._name}")
        self._find_named(name, self._options)  # so that a misspelt name unloads nothing
        self.model.close()  # first, for the memory
        try:
            self.model = self._open_named(name, self._options)
        except BaseException:
            self.model = self._open_named(self._name, self._options)
            raise
        self._name = name
        terminal.say(f"{name}, {context_text(self.model.context)}")


def _path(text: str, command: str) -> Path:
    if not text:
        raise RequestError(f"{command} needs the name of a file, as in {command} talk.json")
    try:
        return Path(text).expanduser()
    except RuntimeError:  # ~name of nobody
        raise RequestError(f"{text} names a user's home that is not known; write the path out") from None
