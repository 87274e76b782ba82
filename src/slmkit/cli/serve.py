"""Serve models over HTTP until Ctrl-C: the APIs of OpenAI, Anthropic and Ollama, and a page to chat on.

The first model is loaded before the address is shown, others when a request names them. Without one it is tiny.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmkit.cli import terminal
from slmkit.cli.address import at_address
from slmkit.cli.flags import add_flags
from slmkit.cli.loading import Watch, add_quiet, open_model, refuse_prompt
from slmkit.cli.settings import effective
from slmkit.options import LoadOptions
from slmkit.server.settings import ServeOptions

if TYPE_CHECKING:
    import argparse

    from slmkit.server.service import Service


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "models",
        metavar="MODEL",
        nargs="*",
        help="models to serve, as `slm run` takes them; what else is on this machine can be asked for, too",
    )
    add_quiet(parser)
    add_flags(parser, ServeOptions, LoadOptions)


def run(args: argparse.Namespace) -> int:
    from slmkit.server.keys import keys_of, require_guarded
    from slmkit.server.process import bind, serve, url_of
    from slmkit.server.service import Service

    options, load_options = at_address(args), effective(LoadOptions, args)
    require_guarded(options, keys_of(options))
    names = tuple(dict.fromkeys(args.models)) or ("tiny",)
    for name in names:
        refuse_prompt(name)
    service = Service(names, options, load_options)
    with bind(options.host, options.port) as listener:  # first: loading may take minutes
        _fetch(names[1:], load_options, args.quiet)
        first = service.within_memory(lambda options: open_model(names[0], options, quiet=args.quiet))
        service.fleet.add(names[0], first)
        serve(service, listener, lambda: terminal.write(_announcement(url_of(listener), service)))
    return 0


def _fetch(names: tuple[str, ...], options: LoadOptions, quiet: bool) -> None:
    """Have models on this machine that are loaded later: no request fetches one."""
    from slmkit.sources.find import open_source

    for name in names:
        with Watch(quiet) as watch:
            open_source(name, offline=bool(options.offline), progress=watch.progress, notice=watch.notice)


def _announcement(url: str, service: Service) -> str:
    loaded = {berth.name: berth.model for berth in service.fleet.berths}
    lines = [f"listening on {url}"]
    for id, name in service.roster.served.items():
        state = f"loaded, context {loaded[name].context:,} tokens" if name in loaded else "loads when it is asked for"
        lines.append(f"  {id}: {state}")
    return "\n".join(lines) + "\n"
