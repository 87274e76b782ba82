"""What people want a model for, and the published figures that speak to it.

Only benchmarks that all cards in question ran with the same number of shots are averaged; the rest cannot be compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from slmkit.catalog.scores import Score, score

if TYPE_CHECKING:
    from slmkit.catalog.family import Published


@dataclass(frozen=True)
class Task:
    """One kind of work.   context: tokens where nobody asks for another number."""

    name: str
    about: str
    benchmarks: tuple[str, ...]
    caveat: str
    context: int = 4096
    needs_images: bool = False


TASKS = {
    task.name: task
    for task in (
        Task("chat", "conversation and general questions", ("mmlu", "hellaswag", "truthfulqa_mc2"),
             "no figure that was published for all of them measures conversation itself"),
        Task("code", "writing and explaining code", ("humaneval", "mbpp"),
             "both are short Python functions; the cards say that most code they learned from was Python"),
        Task("math", "sums and word problems", ("gsm8k_cot",), "grade-school problems, solved step by step"),
        Task("reasoning", "drawing conclusions", ("arc_challenge", "piqa", "siqa", "winogrande"),
             "BBH and GPQA are left out: the cards of Phi-3 and Phi-3.5 ran them with different prompts"),
        Task("knowledge", "facts and school subjects", ("mmlu",),
             "small models hold fewer facts than large ones; give them the text to answer from"),
        Task("multilingual", "languages other than English", ("multilingual_mmlu", "mgsm_cot"),
             "the figures of phi3:mini-128k come from the card of Phi-3.5-mini; a mean hides how languages differ"),
        Task("long-documents", "summaries and questions on long texts",
             ("govreport", "qasper", "qmsum", "squality", "summscreenfd"),
             "all five are low and close together for all three models that have them", context=32768),
        Task("vision", "questions on pictures, charts and pages",
             ("mmmu_val", "mathvista_testmini", "ai2d_test", "chartqa_test", "textvqa_val"),
             "a picture takes up to 781 tokens of the context with 4 crops, up to 2,653 with 16", needs_images=True),
    )
}  # fmt: skip


def task_scores(task: Task, model: Published) -> tuple[Score, ...]:
    """The model's published figures for the task."""
    found = (score(model.id, benchmark) for benchmark in task.benchmarks)
    return tuple(s for s in found if s is not None)


def task_mean(task: Task, model: Published) -> float | None:
    """Their mean, in percent; None unless all of them were published for it."""
    found = task_scores(task, model)
    return sum(s.score for s in found) / len(found) if len(found) == len(task.benchmarks) else None
