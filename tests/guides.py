"""What a constraint allows, asked token by token."""

from __future__ import annotations

from collections.abc import Sequence

from slmkit.engine.constrain import Guide


def follows(guide: Guide, ids: Sequence[int]) -> bool:
    """Whether each id is allowed where it stands, and the answer may end there; the guide goes along."""
    for id in ids:
        guide.prepare()
        if not guide.may_follow[id]:
            return False
        guide.take(id)
    guide.prepare()
    return guide.can_end
