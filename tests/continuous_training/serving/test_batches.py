"""Micro-batches: who is answered together with whom, in which order, and whose failure is whose."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from continuous_training.serving.metrics import Metrics
from continuous_training.serving.prediction import batching as batches
from continuous_training.serving.prediction.batching import FEWEST_ROWS, FIRST_ROWS, MORE_ROWS, WAITING_ROWS, Batches
from continuous_training.serving.predictions_log.writer import Batch
from continuous_training.serving.protocols.signature import Refused, Rows, Signature

UNFIT = -1.0  # the model cannot answer a call with such a row


class Model:
    """A version whose calls last until they may end; it answers each x with `times` as much."""

    signature = Signature.of([{"name": "x", "type": "double", "required": True}], ("id",), "version 1 of toy")

    def __init__(self, number: str = "1", times: float = 2) -> None:
        self.number = number
        self.times = times
        self.calls: list[list[float]] = []
        self.may_end = threading.Event()
        self.may_end.set()

    def answer(self, columns: dict[str, np.ndarray]) -> np.ndarray:
        self.calls.append(columns["x"].tolist())
        assert self.may_end.wait(30)
        if UNFIT in columns["x"]:
            raise ValueError("a row is unfit\nand more of it")
        return columns["x"] * self.times

    @property
    def sizes(self) -> list[int]:
        return [len(call) for call in self.calls]

    async def called(self, times: int = 1) -> None:
        while len(self.calls) < times:
            await asyncio.sleep(0.001)


def rows(*xs: float, **keys: list[Any]) -> Rows:
    return Model.signature.rows(len(xs), {"x": list(xs), **keys})


def run(
    test: Callable[[Batches], Coroutine[Any, Any, None]],
    *,
    waiting: int = 1000,
    log: Callable[[Batch], None] | None = None,
) -> None:
    """Run a test on batches of its own."""
    made = Batches(Metrics(), log, waiting)
    try:
        asyncio.run(test(made))
    finally:
        made.close()


async def arrive(*answers: Awaitable[Any]) -> list[asyncio.Task[Any]]:
    """Let requests arrive in this order, without waiting for their answers."""
    tasks = [asyncio.ensure_future(answer) for answer in answers]
    await asyncio.sleep(0)
    return tasks


@contextmanager
def calls(*, slow: bool) -> Iterator[None]:
    """Let every call have lasted too long, or none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "CALL_SECONDS", -1 if slow else 1e9)
        yield


class TestTogether:
    def test_a_request_that_finds_the_model_idle_is_answered_alone(self) -> None:
        model = Model()

        async def test(made: Batches) -> None:
            for x in (1.0, 2.0):
                assert (await made.answer(model, "champion", "one", rows(x))).tolist() == [2 * x]

        run(test)
        assert model.calls == [[1.0], [2.0]]

    def test_requests_that_arrive_while_it_answers_go_together_in_its_next_call(self) -> None:
        model = Model()
        model.may_end.clear()

        async def test(made: Batches) -> None:
            first = await arrive(made.answer(model, "champion", "first", rows(1)))
            await model.called()
            others = await arrive(*(made.answer(model, "champion", str(x), rows(x, x + 0.5)) for x in (2, 3, 4)))
            model.may_end.set()
            answers = await asyncio.gather(*first, *others)
            assert [answer.tolist() for answer in answers] == [[2], [4, 5], [6, 7], [8, 9]]

        run(test)
        assert model.calls == [[1], [2, 2.5, 3, 3.5, 4, 4.5]]

    def test_requests_that_arrive_at_once_go_together_at_once(self) -> None:
        model = Model()

        async def test(made: Batches) -> None:
            await asyncio.gather(*(made.answer(model, "champion", str(x), rows(x)) for x in range(5)))

        run(test)
        assert model.calls == [[0, 1, 2, 3, 4]]

    def test_versions_and_roles_never_share_a_call(self) -> None:
        first, second, told = Model("1", 2), Model("2", 3), list[Batch]()
        askers = [(first, "champion"), (first, "champion"), (first, "shadow"), (second, "shadow"), (second, "canary")]

        async def test(made: Batches) -> None:
            await asyncio.gather(*(made.answer(*who, str(x), rows(x)) for x, who in enumerate(askers)))

        run(test, log=told.append)
        assert (first.calls, second.calls) == ([[0, 1], [2]], [[3], [4]])
        assert [(batch.version, batch.role) for batch in told] == list(
            dict.fromkeys((m.number, role) for m, role in askers)
        )

    @settings(max_examples=60, deadline=None)
    @given(
        asked=st.lists(
            st.tuples(
                st.integers(1, 40) | st.integers(1, 2 * FIRST_ROWS),
                st.integers(0, 3),
                st.booleans(),
                st.sampled_from(["champion", "shadow"]),
            ),
            min_size=1,
            max_size=25,
        ),
        slow=st.booleans(),
    )
    def test_every_answer_goes_back_to_whom_it_belongs(
        self, asked: list[tuple[int, int, bool, str]], slow: bool
    ) -> None:
        models, told = (Model("1", 2), Model("2", 3)), list[Batch]()

        async def one(made: Batches, number: int) -> None:
            size, pause, newer, role = asked[number]
            for _ in range(pause):
                await asyncio.sleep(0.001)
            xs = [number * 10_000.0 + place for place in range(size)]
            answers = await made.answer(models[newer], role, str(number), rows(*xs, id=[number] * size))
            assert answers.tolist() == [x * models[newer].times for x in xs]

        async def test(made: Batches) -> None:
            await asyncio.gather(*(one(made, number) for number in range(len(asked))))

        with calls(slow=slow):
            run(test, log=told.append)
        assert sum(map(sum, (model.sizes for model in models))) == sum(size for size, *_ in asked)
        parts: dict[str, list[int]] = {}
        for batch in told:  # the log knows of each row who asked it, of whom, and which it was
            place = 0
            for request, which in batch.requests:
                _, _, newer, role = asked[int(request)]
                assert (batch.version, batch.role) == (models[newer].number, role)
                assert batch.keys["id"][place : place + len(which)] == [int(request)] * len(which)
                parts.setdefault(request, []).extend(which)
                place += len(which)
            assert place == len(batch.answers)
        assert parts == {str(number): list(range(size)) for number, (size, *_) in enumerate(asked)}


class TestParts:
    def test_a_small_request_does_not_wait_for_all_of_a_large_one_that_came_before(self) -> None:
        model, done = Model(), list[str]()
        model.may_end.clear()

        async def answer(made: Batches, name: str, *xs: float) -> None:
            assert (await made.answer(model, "champion", name, rows(*xs))).tolist() == [2 * x for x in xs]
            done.append(name)

        async def test(made: Batches) -> None:
            large = await arrive(answer(made, "large", *range(10 * FIRST_ROWS)))
            await model.called()
            small = await arrive(answer(made, "small", 0.5))
            model.may_end.set()
            await asyncio.gather(*large, *small)

        run(test)
        assert done == ["small", "large"]
        assert model.sizes[0] == FIRST_ROWS
        assert [0.5 in call for call in model.calls].index(True) == 2  # the part under way, another, and then it

    def test_large_requests_take_turns(self) -> None:
        model, told = Model(), list[Batch]()

        async def test(made: Batches) -> None:
            both = (made.answer(model, "champion", name, rows(*range(3 * FIRST_ROWS))) for name in "ab")
            await asyncio.gather(*both)

        with calls(slow=False):
            run(test, log=told.append)
        assert [[request for request, _ in batch.requests] for batch in told][:4] == [["a"], ["b"], ["a"], ["b"]]

    def test_calls_get_more_rows_while_they_are_fast(self) -> None:
        model = Model()

        async def test(made: Batches) -> None:
            await made.answer(model, "champion", "one", rows(*range(3 * FIRST_ROWS + 3 * MORE_ROWS)))
            await made.answer(model, "champion", "two", rows(1, 2))
            await made.answer(model, "champion", "three", rows(*range(2 * FIRST_ROWS)))

        with calls(slow=False):
            run(test)
        grown = [FIRST_ROWS, FIRST_ROWS + MORE_ROWS, FIRST_ROWS + 2 * MORE_ROWS]
        # A call that is not full tells nothing of how many rows it could have had.
        assert model.sizes == [*grown, 2, FIRST_ROWS + 3 * MORE_ROWS, FIRST_ROWS - 3 * MORE_ROWS]

    def test_and_soon_fewer_when_they_are_slow_but_never_too_few(self) -> None:
        model = Model()

        async def test(made: Batches) -> None:
            await made.answer(model, "champion", "one", rows(*range(20 * FIRST_ROWS)))

        with calls(slow=True):
            run(test)
        full = model.sizes[:-1]
        shrinking = full[: full.index(FEWEST_ROWS) + 1]
        assert full[0] == FIRST_ROWS
        assert all(later < earlier for earlier, later in pairwise(shrinking))
        assert min(full) == FEWEST_ROWS

    def test_a_slow_call_of_few_rows_changes_nothing(self) -> None:
        model = Model()

        async def test(made: Batches) -> None:
            for _ in range(5):
                await made.answer(model, "champion", "few", rows(*range(FEWEST_ROWS)))
            await made.answer(model, "champion", "many", rows(*range(FIRST_ROWS)))

        with calls(slow=True):
            run(test)
        assert model.sizes == [*[FEWEST_ROWS] * 5, FIRST_ROWS]


class TestFailures:
    def test_a_request_that_the_model_cannot_answer_fails_alone(self) -> None:
        model = Model()

        async def test(made: Batches) -> None:
            requests = [rows(1), rows(2, UNFIT), rows(3), rows(UNFIT)]
            answers = (made.answer(model, "champion", "one", one) for one in requests)
            first, second, third, fourth = await asyncio.gather(*answers, return_exceptions=True)
            assert (first.tolist(), third.tolist()) == ([2], [6])
            for refused in (second, fourth):
                assert isinstance(refused, Refused)
                assert (refused.status, refused.code) == (400, "BAD_REQUEST")
                assert refused.message == "the model cannot answer these rows: a row is unfit"

        run(test)
        assert model.calls == [[1, 2, UNFIT, 3, UNFIT], [1], [2, UNFIT], [3], [UNFIT]]

    def test_the_rest_of_a_request_is_not_asked_when_a_part_of_it_has_failed(self) -> None:
        model = Model()

        async def test(made: Batches) -> None:
            with pytest.raises(Refused):
                await made.answer(model, "champion", "one", rows(UNFIT, *range(5 * FIRST_ROWS)))
            assert (await made.answer(model, "champion", "two", rows(1))).tolist() == [2]

        run(test)
        assert model.sizes == [FIRST_ROWS, 1]

    def test_a_request_whose_client_has_gone_is_not_asked(self) -> None:
        model = Model()
        model.may_end.clear()

        async def test(made: Batches) -> None:
            (first,) = await arrive(made.answer(model, "champion", "one", rows(1)))
            await model.called()
            gone, there = await arrive(*(made.answer(model, "champion", str(x), rows(x)) for x in (2, 3)))
            gone.cancel()
            await asyncio.sleep(0)
            model.may_end.set()
            assert [(await task).tolist() for task in (first, there)] == [[2], [6]]

        run(test)
        assert model.calls == [[1], [3]]

    def test_nobody_is_left_waiting_when_the_log_fails(self) -> None:
        model, told = Model(), list[Batch]()

        def log(batch: Batch) -> None:
            told.append(batch)
            if len(told) == 1:
                raise OSError("the disk is full")

        async def test(made: Batches) -> None:
            with pytest.raises(OSError, match="the disk is full"):
                await made.answer(model, "champion", "one", rows(1))
            assert (await made.answer(model, "champion", "two", rows(2))).tolist() == [4]

        run(test, log=log)

    def test_beyond_so_many_requests_one_is_sent_away(self) -> None:
        model = Model()
        model.may_end.clear()

        async def test(made: Batches) -> None:
            under_way = await arrive(made.answer(model, "champion", "one", rows(1)))
            await model.called()
            waiting = await arrive(*(made.answer(model, "champion", str(x), rows(x)) for x in (2, 3)))
            with pytest.raises(Refused) as caught:
                await made.answer(model, "champion", "four", rows(4))
            assert (caught.value.status, caught.value.code) == (503, "RESOURCE_EXHAUSTED")
            model.may_end.set()
            assert [answer.tolist() for answer in await asyncio.gather(*under_way, *waiting)] == [[2], [4], [6]]
            assert (await made.answer(model, "champion", "five", rows(5))).tolist() == [10]

        run(test, waiting=2)

    def test_beyond_so_many_rows_too_unless_nobody_else_waits(self) -> None:
        model = Model()
        model.may_end.clear()
        many = rows(*range(WAITING_ROWS + 1))

        async def test(made: Batches) -> None:
            under_way = await arrive(made.answer(model, "champion", "one", rows(1)))
            await model.called()
            (large,) = await arrive(made.answer(model, "champion", "large", many))
            with pytest.raises(Refused, match="too many requests wait"):
                await made.answer(model, "champion", "three", rows(3))
            large.cancel()
            model.may_end.set()
            await asyncio.gather(*under_way)

        run(test)
