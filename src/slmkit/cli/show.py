"""Show what a model is: its shape, the types of its tensors, tokenizer, template, licence, and the memory it needs.

No weights are read, and no memory is taken for them.
"""

from __future__ import annotations

import json
import sys
import textwrap
from typing import TYPE_CHECKING, Any

from slmkit.cli import terminal
from slmkit.cli.loading import Watch, add_model, add_quiet, refuse_prompt
from slmkit.errors import ModelNotFound

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from slmkit.catalog.family import Published
    from slmkit.sources.base import Source

WIDTH = 100
_LABEL = 14  # characters
_BAR = 24
_PLACES = {"folder": "in a folder", "gguf": "in GGUF", "ollama": "of GGUF in Ollama's store"}
_HEADLINES = ("mmlu", "gsm8k_cot", "humaneval", "bbh_cot", "arc_challenge", "mmmu_val", "chartqa_test", "ruler/average")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("--tensors", action="store_true", help="list every tensor with its type, shape and bytes")
    parser.add_argument("--template", action="store_true", help="print the chat template alone, as the files have it")
    parser.add_argument("--json", action="store_true", help="one JSON object, with all texts and scores whole")
    parser.add_argument(
        "--image",
        metavar="FILE",
        action="append",
        default=[],
        help="what a question about an image takes: tokens, memory, time; may be given several times",
    )
    parser.add_argument("--num-crops", metavar="N", type=int, help="with that many crops of an image at most (1 to 64)")
    parser.add_argument(
        "--adapter", metavar="PLACE", help="what a LoRA adapter is, a folder or a hub repository, and whether it fits"
    )
    add_quiet(parser)


def run(args: argparse.Namespace) -> int:
    from slmkit.catalog.facts import facts, template
    from slmkit.catalog.family import published
    from slmkit.sources.find import open_source

    refuse_prompt(args.model)
    try:
        with Watch(args.quiet) as watch:  # files that another program brought are checked once, which takes a while
            source = open_source(args.model, offline=True, progress=watch.progress, notice=watch.notice)
    except ModelNotFound:
        model = published(args.model)
        if model is None or args.template or args.tensors:
            raise
        return _show_published(model, as_json=args.json)
    if args.template:
        text = template(source)["text"]
        terminal.write(text + "\n" * (terminal.is_interactive() and not text.endswith("\n")))
        return 0
    if args.image or args.num_crops is not None:
        from slmkit.cli.show_images import show_images

        return show_images(source, args)
    if args.adapter:
        from slmkit.cli.show_adapter import show_adapter

        return show_adapter(source, args)
    found = facts(source)
    if args.json:
        found |= {"tensors": _tensors(source)} if args.tensors else {}
        terminal.write(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    else:
        terminal.write("".join(line.rstrip() + "\n" for line in _view(found)))
        terminal.write("".join(_tensor_lines(_tensors(source))) if args.tensors else "")
    return 0


def _show_published(model: Published, *, as_json: bool) -> int:
    """One that is not here."""
    from slmkit.cli.show_published import published_facts, published_lines
    from slmkit.engine.memory import free_bytes

    found = published_facts(model, free_bytes())
    if as_json:
        terminal.write(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
        return 0
    lines = [f"{found['name']} ({found['id']})", "", *_labelled(published_lines(found)), "", *_needs(found["memory"])]
    terminal.write("".join(line.rstrip() + "\n" for line in (*lines, *_scores(found["published"]))))
    return 0


def _needs(m: dict[str, Any]) -> Iterator[str]:
    yield f"memory by quantization; {_size(m['free_bytes'])} are free now"
    yield f"{'':<6}{'context':>10}{'weights':>12}{'cache':>12}{'together':>12}"
    for need in m["contexts"]:
        sizes = "".join(f"{_size(need[key]):>12}" for key in ("weights", "cache", "total"))
        kind = "bf16" if need["quantization"] == "none" else need["quantization"]
        yield f"{kind:<6}{need['context']:>10,}{sizes}  {'' if need['fits'] else 'does not fit'}"


def _view(f: dict[str, Any]) -> Iterator[str]:
    yield f["name"]
    yield f"  {f['path']}"
    yield ""
    yield from _labelled(_facts(f))
    yield ""
    yield from _types(f)
    yield ""
    yield from _memory(f["memory"])
    yield from _scores(f["published"])


def _labelled(facts: Iterator[tuple[str, str]]) -> Iterator[str]:
    for label, text in facts:
        lines = textwrap.wrap(text, WIDTH - _LABEL, break_on_hyphens=False, break_long_words=False) or [""]
        yield f"{label:<{_LABEL}}{lines[0]}"
        yield from (" " * _LABEL + line for line in lines[1:])


def _facts(f: dict[str, Any]) -> Iterator[tuple[str, str]]:
    kv = f["key_value_heads"]
    shared = f", {kv} for keys and values" if kv != f["heads"] else ""
    yield (
        "architecture",
        (
            f"{f['architecture']}: {f['layers']} layers of {f['hidden_size']:,}, "
            f"{f['heads']} heads of {f['head_dim']}{shared}"
        ),
    )
    if f["parent"]:
        yield "made from", f["parent"]
    yield "parameters", _count(f["parameters"])
    yield "context", _context(f)
    yield "files", f"{_size(f['file_bytes'])} {_PLACES[f['origin']]}; {_ends(f)}"
    kept = "the same numbers" if f["loads_as"] == "none" else f["loads_as"]
    yield "loads as", f"{kept}, {_size(f['weight_bytes'])}"
    yield (
        "tokenizer",
        _or_problem(f["tokenizer"], lambda t: f"{t['kind']}, {t['tokens']:,} tokens, {t['special']} special"),
    )
    yield "template", _template(f["template"])
    if f["system"]:
        yield "system", textwrap.shorten(f["system"], 300, placeholder=" ...")
    if f["examples"]:
        yield "examples", f"{f['examples']} messages go before every conversation"
    yield "defaults", _or_problem(f["defaults"], _options)
    yield "stops at", _or_problem(f["stop_tokens"], lambda ids: ", ".join(f"{i['text']} ({i['id']})" for i in ids))
    if f["licence"]:
        yield "licence", _or_problem(f["licence"], lambda licence: licence["name"])


def _context(f: dict[str, Any]) -> str:
    parts = [f"{f['context']:,} tokens"]
    if f["longrope_from"]:
        parts.append(f"LongRoPE beyond {f['longrope_from']:,}")
    if f["sliding_window"]:
        parts.append(f"each sees the last {f['sliding_window']:,}")
    if f["asked_context"]:
        parts.append(f"{f['asked_context']:,} asked for by its store")
    return ", ".join(parts)


def _ends(f: dict[str, Any]) -> str:
    if f["shares_embedding"]:
        return f"embedding {f['embedding_type']}, which is the head too"
    return f"embedding {f['embedding_type']}, head {f['head_type']}"


def _or_problem(part: Any, shown: Any) -> str:
    return f"NOT USABLE: {part['problem']}" if isinstance(part, dict) and "problem" in part else str(shown(part))


def _template(t: dict[str, Any]) -> str:
    if "problem" in t:
        return f"NOT USABLE: {t['problem']}"
    if t["name"]:
        return f"{t['name']} (known, {t['language']})"
    return f"its own, {t['language']}: {textwrap.shorten(t['text'], 220, placeholder=' ...')}"


def _options(defaults: dict[str, Any]) -> str:
    return ", ".join(f"{k} {json.dumps(v, ensure_ascii=False)}" for k, v in defaults.items()) or "the likeliest token"


def _types(f: dict[str, Any]) -> Iterator[str]:
    yield f"{'type':<8}{'tensors':>8}{'bytes':>12}"
    for kind in f["types"]:
        share = kind["n_bytes"] / max(1, sum(k["n_bytes"] for k in f["types"]))
        yield f"{kind['type']:<8}{kind['n_tensors']:>8}{_size(kind['n_bytes']):>12}  {_bar(share)}"


def _memory(m: dict[str, Any]) -> Iterator[str]:
    free = m["free_bytes"]
    yield f"memory with a {m['cache']} cache; {_size(free)} are free now"
    yield f"{'context':>10}{'weights':>12}{'cache':>12}{'together':>12}"
    for need in m["contexts"]:
        sizes = "".join(f"{_size(need[key]):>12}" for key in ("weights", "cache", "total"))
        fits = "" if need["fits"] else "does not fit"
        yield f"{need['context']:>10,}{sizes}  {_bar(need['total'] / max(1, free))}{fits}"
    if not all(need["fits"] for need in m["contexts"]):
        largest = m["largest_context"]
        yield f"  the largest context that fits now is {largest:,}" if largest else "  not even its weights fit now"


def _scores(published: dict[str, Any] | None) -> Iterator[str]:
    if published is None:
        return
    yield ""
    ids = ", ".join(published["ids"])
    if not published["scores"]:
        told = "its configuration names" if published["told_by"] == "config" else "it has the shape of"
        yield from textwrap.wrap(f"{told} {ids}, whose published scores need not be this model's", WIDTH)
        return
    all_ = {score["benchmark"]: score for score in published["scores"]}
    shown = [all_[name] for name in _HEADLINES if name in all_]
    yield f"published scores of {ids} (percent)"
    for score in shown:
        shots = "" if score["shots"] is None else f"{score['shots']} shots"
        yield f"  {score['benchmark']:<16}{score['score']:>6}  {shots}"
    yield f"  {len(all_) - len(shown)} more, with the source of each, in --json; made with prompts that are not public"


def _bar(share: float) -> str:
    """A bar for people at a terminal; elsewhere nothing."""
    if sys.stdout is None or not sys.stdout.isatty() or "utf" not in (sys.stdout.encoding or "").lower():
        return ""
    full = round(min(1.0, share) * _BAR)
    return "█" * full + "░" * (_BAR - full) + "  "


def _tensors(source: Source) -> list[dict[str, Any]]:
    from slmkit.catalog.tensor_types import tensor_rows

    return [{"name": t.name, "type": t.type, "shape": list(t.shape), "n_bytes": t.n_bytes} for t in tensor_rows(source)]


def _tensor_lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    name = max((len(row["name"]) for row in rows), default=0)
    yield "\n"
    for row in rows:
        shape = " x ".join(map(str, row["shape"]))
        yield f"{row['name']:<{name}}  {row['type']:<6}{shape:>16}{row['n_bytes']:>16,}\n"


def _count(n: int) -> str:
    for unit, size in (("billion", 10**9), ("million", 10**6)):
        if n >= size:
            return f"{n / size:.2f} {unit}"
    return f"{n:,}"


def _size(n: int) -> str:
    from slmkit.weights.hub.files import size_text

    return size_text(n)
