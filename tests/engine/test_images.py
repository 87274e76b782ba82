"""Images among a prompt's ids: numbers, rows that are kept, and work that goes on between others' answers."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from driving import Recorder, run, task

from checkpoints import NATIVE, REFERENCE, Runner
from slmkit.engine.images import Encoder, Place, PromptImages
from slmkit.engine.speculate import Guesser
from slmkit.engine.step import Engine
from slmkit.engine.worker import new_job
from slmkit.models.phi3 import Phi3

HIDDEN = 64


@dataclass(frozen=True)
class Picture:
    digest: bytes
    pieces: int = 3
    error: Exception | None = None


class Seeing(Phi3):
    """A text model whose images are rows that their digest determines."""

    encoded: list[bytes]

    def inputs(self, ids, step):
        x = super().inputs(ids, step)
        if step.features is not None:
            x[step.features.rows] = step.features.values
        return x

    def features(self, image):
        for _ in range(image.pieces):
            yield
        if image.error:
            raise image.error
        self.encoded.append(image.digest)
        return rows_of(image.digest, 40, self.config.hidden_size)


def rows_of(digest: bytes, n: int, hidden: int) -> np.ndarray:
    return np.random.default_rng(list(digest)).standard_normal((n, hidden)).astype(np.float32)


def engine(blocks: int = 64, step_tokens: int = 256, case: str = "gqa") -> Engine:
    held = Runner(REFERENCE / case, NATIVE[0] if NATIVE else "reference", blocks=blocks)
    held.model.__class__ = Seeing
    held.model.encoded = []
    return Engine(held.model, held.cache, step_tokens)


def question(*pictures: Picture, after: int = 5, **options):
    ids: list[int] = [1]
    places = []
    for number, picture in enumerate(pictures):
        places.append(Place(len(ids), 40, picture))
        ids += [-1 - number] * 40 + [3 + number]
    ids += list(range(10, 10 + after))
    return replace(task([1], limit=6, **options), ids=tuple(ids), images=tuple(places))


A, B = Picture(b"a"), Picture(b"b")


def recorded(engine: Engine, *tasks):
    recorders = [Recorder() for _ in tasks]
    run(engine, *[replace(t, processors=(r,)) for t, r in zip(tasks, recorders, strict=True)])
    return [r.rows for r in recorders]


def test_another_image_gives_other_logits_and_the_same_one_the_same():
    (first,), (other,), (again,) = (recorded(engine(), question(picture)) for picture in (A, B, A))
    assert all((first[n] == again[n]).all() for n in first)
    assert (first[47] != other[47]).any()


@pytest.mark.skipif(not NATIVE, reason="NumPy's products depend on the batch")
def test_chunks_neighbours_and_preemption_change_no_bit():
    tasks = [question(A), question(B, A, after=9), question(A, B, after=2), task(range(5, 40), limit=9)]
    alone = [recorded(engine(), t)[0] for t in tasks]
    crowded = recorded(engine(blocks=6, step_tokens=32), *tasks)
    for one, other in zip(alone, crowded, strict=True):
        assert one.keys() == other.keys()
        for length in one:
            np.testing.assert_array_equal(one[length], other[length])


def test_an_image_is_encoded_once_while_it_is_kept():
    held = engine()
    run(held, question(A), question(A, B), question(B))
    run(held, question(B, A))
    assert sorted(held.model.encoded) == [b"a", b"b"]


def test_what_is_kept_is_bounded_and_the_oldest_goes_first():
    held = engine()
    one = 40 * held.model.config.hidden_size * 4
    held.encoder = Encoder(held.model, most_bytes=2 * one)
    c = Picture(b"c")
    for picture in (A, B, A, c, A, B):
        run(held, question(picture))
    assert held.model.encoded == [b"a", b"b", b"c", b"b"]
    run(held, question(A, B, c))  # more than is kept
    assert len(held.encoder._kept) == 2


def test_ids_of_images_are_below_zero_and_differ_by_image():
    held = engine()
    jobs = [new_job(question(A, B)), new_job(question(B))]
    for job in jobs:
        held.add(job)
    first, second = (job.live[0].ids for job in jobs)
    assert set(first[1:41]) == {-1}
    assert set(first[42:82]) == set(second[1:41]) == {-2}
    while held.jobs:
        held.step()


def test_others_answer_while_an_image_is_encoded():
    held = engine()
    waiting, quick = new_job(question(Picture(b"slow", pieces=50))), new_job(task([1, 5, 6], limit=5))
    held.add(waiting)
    held.add(quick)
    for _ in range(20):
        held.step()
    assert quick not in held.jobs
    assert waiting in held.jobs
    assert waiting.live[0].n_cached == 0
    waiting.cancelled = True
    held.step()
    assert not held.jobs
    held.step()
    assert held.encoder._under_way is None


def test_an_image_that_fails_ends_its_own_request_alone():
    held = engine()
    broken = new_job(question(Picture(b"x", error=ValueError("no"))))
    fine = new_job(question(A))
    for job in (broken, fine):
        held.add(job)
    while held.jobs:
        held.step()
    assert held.model.encoded == [b"a"]
    items = []
    while not isinstance(items[-1] if items else None, ValueError):
        items.append(broken.outbox.get_nowait())


def test_beams_and_several_answers_share_an_image():
    held = engine()
    run(held, question(A, beams=3), question(A, n=3, temperature=1.0, seed=1))
    assert held.model.encoded == [b"a"]


def test_a_draft_never_continues_into_an_image():
    guesser = Guesser()
    guesser.look([1, 7, -1, -1, -1, 8, 9, 1, 7])
    assert guesser.guess == []
    guesser = Guesser()
    guesser.look([1, 7, -1, -1, -1, *range(20, 40), 8, 20, 21])
    assert guesser.guess[:3] == [22, 23, 24]


def test_a_penalty_looks_at_no_image():
    run(engine(), question(A, repetition_penalty=1.3))


def test_rows_are_found_for_any_part_of_a_prompt():
    images = PromptImages([Place(2, 3, A), Place(6, 2, B), Place(9, 3, A)])
    a, b = np.arange(3)[:, None] + np.zeros((1, 4), np.float32), np.full((2, 4), 9, np.float32)
    assert images.missing is A
    images.give(A, a)
    assert images.missing is B
    images.give(B, b)
    assert images.missing is None
    whole = np.full((12, 4), -1, np.float32)
    whole[2:5], whole[6:8], whole[9:12] = a, b, a
    for begin in range(12):
        for end in range(begin + 1, 13):
            part = np.full((end - begin, 4), -1, np.float32)
            if (found := images.within(begin, end)) is not None:
                part[found[0]] = found[1]
            np.testing.assert_array_equal(part, whole[begin:end])
