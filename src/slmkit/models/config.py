"""Reading a checkpoint's config.json: every value checked, nothing that changes the numbers passed over."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from slmkit.errors import CheckpointError, UnsupportedModel
from slmkit.untrusted import shown

# Keys that configurations carry and that do not change what the model computes.
NEUTRAL = frozenset(
    """
    model_type auto_map torch_dtype dtype transformers_version use_cache initializer_range
    attention_dropout embd_pdrop resid_pdrop hidden_dropout bos_token_id eos_token_id pad_token_id sep_token_id
    decoder_start_token_id return_dict output_hidden_states output_attentions is_encoder_decoder is_decoder
    add_cross_attention cross_attention_hidden_size tie_encoder_decoder torchscript use_bfloat16 pruned_heads
    chunk_size_feed_forward id2label label2id num_labels problem_type finetuning_task task_specific_params
    tokenizer_class prefix gradient_checkpointing pretraining_tp
    """.split()  # noqa: SIM905
)

MOST = 1e30  # larger numbers would overflow in float32
MOST_LAYERS = 1000  # the published ones have 40; the names of a billion layers would not fit in memory


def is_idle(value: Any) -> bool:
    """Whether a setting switches nothing on: null, false, 0, 1 or empty. true is not 1."""
    return value is None or value is False or (not isinstance(value, bool) and value in (0, 1, [], {}, ""))


class ConfigReader:
    """Typed access to a config.json; remembers what was read, so that what was not can be refused.

    source: what messages call the settings, where they come from another file.
    """

    def __init__(self, raw: Mapping[str, Any], family: str, source: str = "config.json") -> None:
        self.raw, self.family, self.source = raw, family, source
        self._seen = {"rope_scaling", "rope_parameters"}

    def integer(
        self, key: str, default: int | None = None, within: Mapping[str, Any] | None = None, most: int = 2**31 - 1
    ) -> int:
        """A whole number; at least 1 unless the default is lower."""
        value = self._get(key, default, within)
        low = 1 if default is None else min(1, default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= most:
            raise CheckpointError(
                f"{self.source} has {key} = {shown(value)}; it must be a whole number, {low} to {most}"
            )
        return value

    def number(self, key: str, default: float | None = None, within: Mapping[str, Any] | None = None) -> float:
        """A number above 0 that float32 can hold."""
        value = self._get(key, default, within)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < MOST:
            raise CheckpointError(
                f"{self.source} has {key} = {shown(value)}; a number above 0 and below 1e30 is needed"
            )
        return float(value)

    def boolean(self, key: str, default: bool) -> bool:
        """true or false."""
        value = self._get(key, default, None)
        if not isinstance(value, bool):
            raise CheckpointError(f"{self.source} has {key} = {shown(value)}; true or false is needed")
        return value

    def text(self, key: str, default: str) -> str:
        """A word."""
        value = self._get(key, default, None)
        if not isinstance(value, str):
            raise CheckpointError(f"{self.source} has {key} = {shown(value)}; a text is needed")
        return value

    def numbers(self, table: Mapping[str, Any], key: str, count: int) -> tuple[float, ...]:
        """A list of exactly `count` numbers above 0 that float32 can hold."""
        values = table.get(key)
        ok = isinstance(values, list) and all(
            isinstance(v, (int, float)) and not isinstance(v, bool) and 0 < v < MOST for v in values
        )
        if not ok or len(values) != count:  # type: ignore[arg-type]
            size = len(values) if isinstance(values, list) else "no"
            raise CheckpointError(
                f"{self.source} has {size} usable values in {key}; {count} numbers above 0 are needed"
            )
        return tuple(float(v) for v in values)  # type: ignore[union-attr]

    def ids(self, key: str, vocab_size: int) -> tuple[int, ...] | None:
        """A list of token ids, each below vocab_size; None where there is none."""
        self._seen.add(key)
        values = self.raw.get(key)
        if values is None:
            return None
        ok = isinstance(values, list) and all(type(v) is int and 0 <= v < vocab_size for v in values)
        if not ok:
            raise CheckpointError(
                f"{self.source} has {key} = {shown(values)}; a list of ids below {vocab_size} is needed"
            )
        return tuple(values)

    def must_be(self, key: str, accepted: Any, default: Any) -> None:
        """Refuse any other value."""
        value = self._get(key, default, None)
        if value != accepted:
            raise UnsupportedModel(
                f"{self.source} has {key} = {shown(value)}; {self.family} here has only {accepted!r}"
            )

    def require(self, condition: bool, problem: str) -> None:
        """Refuse a combination that cannot be computed."""
        if not condition:
            raise UnsupportedModel(f"{self.source} cannot be used: {problem}")

    def known(self, table: Mapping[str, Any], name: str, keys: Collection[str]) -> None:
        """Refuse a table with keys outside `keys`."""
        extra = sorted(set(table) - set(keys))
        if extra:
            raise UnsupportedModel(
                f"{name} in {self.source} has {shown(extra[0])}; {self.family} here does not know it"
            )

    def attention_heads(self) -> tuple[int, int, int]:
        """Query heads, key/value heads that serve equally many of them, and the features of one."""
        heads, hidden = self.integer("num_attention_heads"), self.integer("hidden_size")
        told = self.raw.get("head_dim") is not None
        self.require(told or hidden % heads == 0, f"{hidden} features do not divide into {heads} heads")
        head_dim = self.integer("head_dim", default=hidden // heads)
        kv_heads = self.integer("num_key_value_heads", default=heads)
        self.require(heads % kv_heads == 0, f"{heads} attention heads cannot share {kv_heads} key/value heads evenly")
        return heads, kv_heads, head_dim

    def rope_parameters(self) -> Mapping[str, Any]:
        """The rotary settings, whether spelled `rope_scaling` or `rope_parameters`; empty for plain RoPE."""
        new, old = self.raw.get("rope_parameters") or {}, self.raw.get("rope_scaling") or {}
        for table in (new, old):
            if not isinstance(table, Mapping):
                raise CheckpointError(f"{self.source} has {shown(table)} for its rotary settings; it takes an object")
        self.require(not new or not old or new == old, "rope_parameters and rope_scaling both say how positions turn")
        table = new or old
        for key in ("original_max_position_embeddings", "rope_theta", "partial_rotary_factor"):
            inside, outside = table.get(key), self.raw.get(key)
            self.require(None in (inside, outside) or inside == outside,
                         f"{key} is {shown(outside)}, and {shown(inside)} among the rotary settings")  # fmt: skip
        return table

    def finish(self, neutral: Collection[str] = NEUTRAL) -> None:
        """Refuse a setting that nobody read, is switched on, and is not among the neutral ones."""
        for key, value in self.raw.items():
            if key not in self._seen and key not in neutral and not key.startswith("_") and not is_idle(value):
                raise UnsupportedModel(
                    f"{self.source} has {shown(key)} = {shown(value)}, which {self.family} here does not know; "
                    "remove the key if it does not change what the model computes"
                )

    def _get(self, key: str, default: Any, within: Mapping[str, Any] | None) -> Any:
        self._seen.add(key)
        for table in (within or {}, self.raw):
            if table.get(key) is not None:
                return table[key]
        if default is None:
            raise CheckpointError(f"{self.source} lacks {key}, which a {self.family} model needs")
        return default
