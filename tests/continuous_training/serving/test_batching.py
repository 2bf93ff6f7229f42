"""Micro-batching: which requests share a call, their order, and what happens when a call fails."""

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
from continuous_training.serving.prediction import batching
from continuous_training.serving.prediction.batching import (
    INITIAL_ROWS,
    MAX_QUEUE_ROWS,
    MIN_ROWS,
    ROWS_INCREASE,
    Batcher,
)
from continuous_training.serving.predictions_log.columns import PredictionBatch
from continuous_training.serving.protocols.errors import RequestError
from continuous_training.serving.protocols.signature import Rows, Signature

INVALID = -1.0  # a call with such a row fails


class Model:
    """A version that predicts `factor` times x; its calls last until `may_finish` is set."""

    signature = Signature.from_mlflow([{"name": "x", "type": "double", "required": True}], ("id",), "version 1 of toy")

    def __init__(self, number: str = "1", factor: float = 2) -> None:
        self.number = number
        self.factor = factor
        self.calls: list[list[float]] = []
        self.may_finish = threading.Event()
        self.may_finish.set()

    def predict(self, columns: dict[str, np.ndarray]) -> np.ndarray:
        self.calls.append(columns["x"].tolist())
        assert self.may_finish.wait(30)
        if INVALID in columns["x"]:
            raise ValueError("a row is invalid\nand more")
        return columns["x"] * self.factor

    @property
    def sizes(self) -> list[int]:
        return [len(call) for call in self.calls]

    async def wait_for_calls(self, count: int = 1) -> None:
        while len(self.calls) < count:
            await asyncio.sleep(0.001)


def rows(*xs: float, **keys: list[Any]) -> Rows:
    return Model.signature.validate(len(xs), {"x": list(xs), **keys})


def run(
    test: Callable[[Batcher], Coroutine[Any, Any, None]],
    *,
    max_queue: int = 1000,
    log: Callable[[PredictionBatch], None] | None = None,
) -> None:
    """Run a test with its own batcher."""
    batcher = Batcher(Metrics(), log, max_queue)
    try:
        asyncio.run(test(batcher))
    finally:
        batcher.close()


async def start(*requests: Awaitable[Any]) -> list[asyncio.Task[Any]]:
    """Start requests in this order, without waiting for their predictions."""
    tasks = [asyncio.ensure_future(request) for request in requests]
    await asyncio.sleep(0)
    return tasks


@contextmanager
def call_duration(*, slow: bool) -> Iterator[None]:
    """Let every call count as too slow, or none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batching, "MAX_CALL_SECONDS", -1 if slow else 1e9)
        yield


class TestSharedCalls:
    def test_if_the_model_is_idle_a_request_is_called_alone(self) -> None:
        model = Model()

        async def test(batcher: Batcher) -> None:
            for x in (1.0, 2.0):
                assert (await batcher.predict(model, "champion", "one", rows(x))).tolist() == [2 * x]

        run(test)
        assert model.calls == [[1.0], [2.0]]

    def test_requests_that_arrive_during_a_call_share_the_next_one(self) -> None:
        model = Model()
        model.may_finish.clear()

        async def test(batcher: Batcher) -> None:
            first = await start(batcher.predict(model, "champion", "first", rows(1)))
            await model.wait_for_calls()
            others = await start(*(batcher.predict(model, "champion", str(x), rows(x, x + 0.5)) for x in (2, 3, 4)))
            model.may_finish.set()
            predictions = await asyncio.gather(*first, *others)
            assert [values.tolist() for values in predictions] == [[2], [4, 5], [6, 7], [8, 9]]

        run(test)
        assert model.calls == [[1], [2, 2.5, 3, 3.5, 4, 4.5]]

    def test_requests_that_arrive_together_share_a_call(self) -> None:
        model = Model()

        async def test(batcher: Batcher) -> None:
            await asyncio.gather(*(batcher.predict(model, "champion", str(x), rows(x)) for x in range(5)))

        run(test)
        assert model.calls == [[0, 1, 2, 3, 4]]

    def test_versions_and_roles_do_not_share_a_call(self) -> None:
        first, second, batches = Model("1", 2), Model("2", 3), list[PredictionBatch]()
        requests = [(first, "champion"), (first, "champion"), (first, "shadow"), (second, "shadow"), (second, "canary")]

        async def test(batcher: Batcher) -> None:
            await asyncio.gather(*(batcher.predict(*request, str(x), rows(x)) for x, request in enumerate(requests)))

        run(test, log=batches.append)
        assert (first.calls, second.calls) == ([[0, 1], [2]], [[3], [4]])
        assert sorted((batch.version, batch.role) for batch in batches) == sorted(
            {(model.number, role) for model, role in requests}
        )

    def test_a_version_whose_call_does_not_end_delays_no_other_one(self) -> None:
        endless, other = Model("1"), Model("2")
        endless.may_finish.clear()

        async def test(batcher: Batcher) -> None:
            waiting = await start(batcher.predict(endless, "canary", "first", rows(1)))
            await endless.wait_for_calls()
            assert (await batcher.predict(other, "champion", "second", rows(2))).tolist() == [4]
            endless.may_finish.set()
            await asyncio.gather(*waiting)

        run(test)

    @settings(max_examples=60)
    @given(
        requests=st.lists(
            st.tuples(
                st.integers(1, 40) | st.integers(1, 2 * INITIAL_ROWS),
                st.integers(0, 3),
                st.booleans(),
                st.sampled_from(["champion", "shadow"]),
            ),
            min_size=1,
            max_size=25,
        ),
        slow=st.booleans(),
    )
    def test_every_request_gets_its_own_predictions(
        self, requests: list[tuple[int, int, bool, str]], slow: bool
    ) -> None:
        models, batches = (Model("1", 2), Model("2", 3)), list[PredictionBatch]()

        async def predict(batcher: Batcher, number: int) -> None:
            size, pause, newer, role = requests[number]
            for _ in range(pause):
                await asyncio.sleep(0.001)
            xs = [number * 10_000.0 + index for index in range(size)]
            predictions = await batcher.predict(models[newer], role, str(number), rows(*xs, id=[number] * size))
            assert predictions.tolist() == [x * models[newer].factor for x in xs]

        async def test(batcher: Batcher) -> None:
            await asyncio.gather(*(predict(batcher, number) for number in range(len(requests))))

        with call_duration(slow=slow):
            run(test, log=batches.append)
        assert sum(map(sum, (model.sizes for model in models))) == sum(size for size, *_ in requests)
        parts: dict[str, list[int]] = {}
        for batch in batches:  # the log has the request, version, role and index of each row
            start = 0
            for request, indices in batch.requests:
                _, _, newer, role = requests[int(request)]
                assert (batch.version, batch.role) == (models[newer].number, role)
                assert batch.keys["id"][start : start + len(indices)] == [int(request)] * len(indices)
                parts.setdefault(request, []).extend(indices)
                start += len(indices)
            assert start == len(batch.predictions)
        assert parts == {str(number): list(range(size)) for number, (size, *_) in enumerate(requests)}


class TestLargeRequests:
    def test_a_small_request_does_not_wait_for_all_parts_of_an_earlier_large_one(self) -> None:
        model, order = Model(), list[str]()
        model.may_finish.clear()

        async def predict(batcher: Batcher, name: str, *xs: float) -> None:
            assert (await batcher.predict(model, "champion", name, rows(*xs))).tolist() == [2 * x for x in xs]
            order.append(name)

        async def test(batcher: Batcher) -> None:
            large = await start(predict(batcher, "large", *range(10 * INITIAL_ROWS)))
            await model.wait_for_calls()
            small = await start(predict(batcher, "small", 0.5))
            model.may_finish.set()
            await asyncio.gather(*large, *small)

        run(test)
        assert order == ["small", "large"]
        assert model.sizes[0] == INITIAL_ROWS
        assert [0.5 in call for call in model.calls].index(True) == 2  # after the current part and another one

    def test_large_requests_take_turns(self) -> None:
        model, batches = Model(), list[PredictionBatch]()

        async def test(batcher: Batcher) -> None:
            both = (batcher.predict(model, "champion", name, rows(*range(3 * INITIAL_ROWS))) for name in "ab")
            await asyncio.gather(*both)

        with call_duration(slow=False):
            run(test, log=batches.append)
        assert [[request for request, _ in batch.requests] for batch in batches][:4] == [["a"], ["b"], ["a"], ["b"]]

    def test_the_limit_grows_while_calls_are_fast(self) -> None:
        model = Model()

        async def test(batcher: Batcher) -> None:
            await batcher.predict(model, "champion", "one", rows(*range(3 * INITIAL_ROWS + 3 * ROWS_INCREASE)))
            await batcher.predict(model, "champion", "two", rows(1, 2))
            await batcher.predict(model, "champion", "three", rows(*range(2 * INITIAL_ROWS)))

        with call_duration(slow=False):
            run(test)
        limits = [INITIAL_ROWS, INITIAL_ROWS + ROWS_INCREASE, INITIAL_ROWS + 2 * ROWS_INCREASE]
        # A call that is not full does not change the limit.
        assert model.sizes == [*limits, 2, INITIAL_ROWS + 3 * ROWS_INCREASE, INITIAL_ROWS - 3 * ROWS_INCREASE]

    def test_the_limit_shrinks_to_a_minimum_while_calls_are_slow(self) -> None:
        model = Model()

        async def test(batcher: Batcher) -> None:
            await batcher.predict(model, "champion", "one", rows(*range(20 * INITIAL_ROWS)))

        with call_duration(slow=True):
            run(test)
        full = model.sizes[:-1]
        shrinking = full[: full.index(MIN_ROWS) + 1]
        assert full[0] == INITIAL_ROWS
        assert all(later < earlier for earlier, later in pairwise(shrinking))
        assert min(full) == MIN_ROWS

    def test_a_slow_call_of_few_rows_does_not_change_the_limit(self) -> None:
        model = Model()

        async def test(batcher: Batcher) -> None:
            for _ in range(5):
                await batcher.predict(model, "champion", "few", rows(*range(MIN_ROWS)))
            await batcher.predict(model, "champion", "many", rows(*range(INITIAL_ROWS)))

        with call_duration(slow=True):
            run(test)
        assert model.sizes == [*[MIN_ROWS] * 5, INITIAL_ROWS]


class TestFailures:
    def test_a_request_with_an_invalid_row_fails_alone(self) -> None:
        model = Model()

        async def test(batcher: Batcher) -> None:
            requests = [rows(1), rows(2, INVALID), rows(3), rows(INVALID)]
            tasks = (batcher.predict(model, "champion", "one", request) for request in requests)
            first, second, third, fourth = await asyncio.gather(*tasks, return_exceptions=True)
            assert (first.tolist(), third.tolist()) == ([2], [6])
            for error in (second, fourth):
                assert isinstance(error, RequestError)
                assert (error.status, error.code) == (400, "BAD_REQUEST")
                assert error.message == "the model fails for these rows: a row is invalid"

        run(test)
        assert model.calls == [[1, 2, INVALID, 3, INVALID], [1], [2, INVALID], [3], [INVALID]]

    def test_if_a_part_fails_the_other_parts_are_not_called(self) -> None:
        model = Model()

        async def test(batcher: Batcher) -> None:
            with pytest.raises(RequestError):
                await batcher.predict(model, "champion", "one", rows(INVALID, *range(5 * INITIAL_ROWS)))
            assert (await batcher.predict(model, "champion", "two", rows(1))).tolist() == [2]

        run(test)
        assert model.sizes == [INITIAL_ROWS, 1]

    def test_a_request_whose_client_has_disconnected_is_not_called(self) -> None:
        model = Model()
        model.may_finish.clear()

        async def test(batcher: Batcher) -> None:
            (first,) = await start(batcher.predict(model, "champion", "one", rows(1)))
            await model.wait_for_calls()
            first_in_queue, other = await start(*(batcher.predict(model, "champion", str(x), rows(x)) for x in (2, 3)))
            first_in_queue.cancel()
            await asyncio.sleep(0)
            model.may_finish.set()
            assert [(await task).tolist() for task in (first, other)] == [[2], [6]]

        run(test)
        assert model.calls == [[1], [3]]

    def test_a_failure_of_the_log_is_reported_to_its_request_only(self) -> None:
        model, batches = Model(), list[PredictionBatch]()

        def log(batch: PredictionBatch) -> None:
            batches.append(batch)
            if len(batches) == 1:
                raise OSError("the disk is full")

        async def test(batcher: Batcher) -> None:
            with pytest.raises(OSError, match="the disk is full"):
                await batcher.predict(model, "champion", "one", rows(1))
            assert (await batcher.predict(model, "champion", "two", rows(2))).tolist() == [4]

        run(test, log=log)

    def test_a_request_beyond_the_maximum_is_rejected(self) -> None:
        model = Model()
        model.may_finish.clear()

        async def test(batcher: Batcher) -> None:
            current = await start(batcher.predict(model, "champion", "one", rows(1)))
            await model.wait_for_calls()
            waiting = await start(*(batcher.predict(model, "champion", str(x), rows(x)) for x in (2, 3)))
            with pytest.raises(RequestError) as error:
                await batcher.predict(model, "champion", "four", rows(4))
            assert (error.value.status, error.value.code) == (503, "RESOURCE_EXHAUSTED")
            model.may_finish.set()
            assert [values.tolist() for values in await asyncio.gather(*current, *waiting)] == [[2], [4], [6]]
            assert (await batcher.predict(model, "champion", "five", rows(5))).tolist() == [10]

        run(test, max_queue=2)

    def test_rows_beyond_the_maximum_are_rejected_unless_the_queue_is_empty(self) -> None:
        model = Model()
        model.may_finish.clear()
        many = rows(*range(MAX_QUEUE_ROWS + 1))

        async def test(batcher: Batcher) -> None:
            current = await start(batcher.predict(model, "champion", "one", rows(1)))
            await model.wait_for_calls()
            (large,) = await start(batcher.predict(model, "champion", "large", many))
            with pytest.raises(RequestError, match="the queue is full"):
                await batcher.predict(model, "champion", "three", rows(3))
            large.cancel()
            model.may_finish.set()
            await asyncio.gather(*current)

        run(test)
