"""Make a model by a recipe: prepare the text, train stage by stage, measure, export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", help="a recipe's name (tiny) or a JSON file")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of the *.jsonl.xz files")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for checkpoints and the model")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in --out")
    parser.add_argument("--start", type=Path, metavar="FILE", help="begin with the weights of this checkpoint")
    parser.add_argument("--stages", metavar="A,B", help="only these stages of the recipe, in its order")
    parser.add_argument("--threads", type=int, metavar="N", help="processor threads (default: all cores)")
    parser.add_argument("--no-compile", action="store_true", help="without torch.compile: slower, starts at once")


def run(args: argparse.Namespace) -> int:
    from slmkit.cli import terminal
    from slmkit.errors import MissingDependency, OptionError

    try:
        import torch
    except ImportError:
        raise MissingDependency("training needs torch, which is not installed; "
                                "run `pip install '.[train]'` in slmkit's folder") from None  # fmt: skip
    if args.threads is not None and args.threads < 1:
        raise OptionError(f"--threads is {args.threads}; it must be 1 or more")
    if args.resume and args.start:
        raise OptionError("--resume goes on from --out and --start begins elsewhere; give one of them")
    from slmkit.train import recipe
    from slmkit.train.run import run as train

    if args.threads:
        torch.set_num_threads(args.threads)
    train(
        recipe.load(args.recipe), args.data, args.out, resume=args.resume, start=args.start,
        stages=args.stages.split(",") if args.stages else [], compiled=not args.no_compile, say=terminal.say,
    )  # fmt: skip
    return 0
