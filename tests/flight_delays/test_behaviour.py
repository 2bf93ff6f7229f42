"""How a model of late flights behaves, whatever it was trained on.

`ct test` asks a model of made-up flights; `ct check-model` asks the candidate about fresh rows, and a failed test
rejects it. The kinds of test are those of Ribeiro et al., Beyond Accuracy: Behavioral Testing of NLP Models with
CheckList (2020). Every bound is a probability or a share of the flights, and far from what good models do, so that it
judges the model and not the season.
"""

from __future__ import annotations

import numpy as np
import pytest

ROUNDING = 1e-9
CLEAR = {"visibility": 10.0, "precipitation": 0.0, "humidity": 40.0}
RAIN = {"visibility": 1.0, "precipitation": 0.3, "humidity": 95.0}
WEATHER = [*RAIN, "temperature", "dew_point", "wind_direction", "wind_speed", "pressure"]


def late(model, flights):
    """Ask how probably each flight is late."""
    return model.predict_proba(flights)[:, 1]


def more(flights, **steps):
    return flights.assign(**{name: flights[name] + step for name, step in steps.items()})


def without(flights, features):
    return flights.assign(**{name: None if flights[name].dtype == object else np.nan for name in features})


class TestInvariance:
    def test_the_order_of_the_flights_changes_no_answer(self, model, flights) -> None:
        self.same(late(model, flights[::-1])[::-1], late(model, flights))

    def test_the_size_of_a_batch_changes_no_answer(self, model, flights) -> None:
        few = flights.head(30)
        self.same([late(model, few[at : at + 1])[0] for at in range(len(few))], late(model, flights)[: len(few)])

    def test_integers_are_answered_as_floats_are(self, model, flights) -> None:
        whole = ["departure_minute", "day_of_week", "distance"]
        self.same(*(late(model, flights.astype(dict.fromkeys(whole, kind))) for kind in (int, float)))

    @pytest.mark.parametrize("when", ["departure_minute", "arrival_minute"])
    def test_one_minute_hardly_moves_an_answer(self, model, flights, when) -> None:
        moved = np.abs(late(model, more(flights, **{when: 1})) - late(model, flights)).mean()
        assert moved < 0.005, f"one minute moves an answer by {moved:.3f} on average"

    def test_a_trifle_more_of_everything_hardly_moves_an_answer(self, model, flights) -> None:
        trifle = {"departure_minute": 3, "arrival_minute": 3, "distance": 3}
        trifle |= dict.fromkeys(["temperature", "dew_point", "humidity", "pressure"], 0.5)
        moved = np.abs(late(model, more(flights, **trifle)) - late(model, flights)).mean()
        assert moved < 0.02, f"a trifle moves an answer by {moved:.3f} on average"

    @staticmethod
    def same(some, others) -> None:
        apart = np.abs(np.subtract(some, others)).max()
        assert apart <= ROUNDING, f"the answers are up to {apart:.2g} apart"


class TestDirection:
    @pytest.mark.parametrize("where", ["late_share_at_origin", "late_share_of_carrier"])
    def test_late_departures_in_the_last_hours_make_a_flight_likelier_late(self, model, flights, where) -> None:
        likelier(model, flights.assign(**{where: 0.0}), flights.assign(**{where: 0.7}), by=0.04, of=0.8)

    def test_rain_and_poor_visibility_make_a_flight_likelier_late(self, model, flights) -> None:
        likelier(model, flights.assign(**CLEAR), flights.assign(**RAIN), by=0.02, of=0.8)

    def test_an_evening_flight_is_likelier_late_than_a_morning_one(self, model, flights) -> None:
        likelier(model, *(flights.assign(departure_minute=60.0 * hour) for hour in (6, 18)), by=0.0, of=0.6)


class TestMinimumFunctionality:
    def test_an_answer_is_two_probabilities(self, model, flights) -> None:
        answers = model.predict_proba(flights)
        assert answers.shape == (len(flights), 2)
        assert ((answers >= 0) & (answers <= 1)).all(), "an answer is no probability"
        assert np.allclose(answers.sum(axis=1), 1), "late and on time do not add up to 1"

    def test_the_average_is_near_the_share_of_late_flights(self, model, flights) -> None:
        average = late(model, flights).mean()
        assert 0.1 < average < 0.45, f"{average:.0%} on average, while one flight in four from New York is late"

    def test_flights_are_told_apart(self, model, flights) -> None:
        low, high = np.quantile(late(model, flights), [0.1, 0.9])
        assert high - low > 0.1, f"most answers lie between {low:.3f} and {high:.3f}"

    def test_a_stormy_friday_evening_at_a_jammed_airport_is_worse_than_a_calm_saturday_dawn(
        self, model, flights
    ) -> None:
        jam, flow = (dict.fromkeys(["late_share_at_origin", "late_share_of_carrier"], share) for share in (0.6, 0.0))
        dawn = flights.assign(departure_minute=360.0, day_of_week=6.0, wind_speed=5.0, **CLEAR, **flow)
        evening = flights.assign(departure_minute=1140.0, day_of_week=5.0, wind_speed=28.0, **RAIN, **jam)
        likelier(model, dawn, evening, by=0.25, of=0.95)
        calm, storm = late(model, dawn).mean(), late(model, evening).mean()
        assert calm < 0.2, f"{calm:.0%} on average at dawn"
        assert storm > 0.45, f"{storm:.0%} on average in the evening"


class TestRobustness:
    def test_a_missing_feature_does_not_move_the_average_far(self, model, flights) -> None:
        usual = late(model, flights).mean()
        moved = {name: late(model, without(flights, [name])).mean() - usual for name in flights}
        worst = max(moved, key=lambda name: abs(moved[name]))
        assert abs(moved[worst]) < 0.2, f"without {worst} the average moves by {moved[worst]:+.3f}"

    def test_missing_weather_does_not_move_the_average_far(self, model, flights) -> None:
        moved = late(model, without(flights, WEATHER)).mean() - late(model, flights).mean()
        assert abs(moved) < 0.3, f"without the weather the average moves by {moved:+.3f}"

    def test_who_knows_nothing_of_a_flight_is_sure_of_nothing(self, model, flights) -> None:
        answer = late(model, without(flights, flights.columns)).mean()
        assert 0.03 < answer < 0.6, f"with everything missing the answer is {answer:.3f}"

    @pytest.mark.parametrize("feature", ["carrier", "origin", "dest"])
    def test_an_unseen_name_is_answered_near_the_average_of_the_known_ones(self, model, flights, feature) -> None:
        common = flights[feature].value_counts().index[:20]
        known = np.mean([late(model, flights.assign(**{feature: name})) for name in common], axis=0)
        apart = np.abs(late(model, flights.assign(**{feature: "never seen"})) - known)
        assert apart.mean() < 0.1, f"an unseen {feature} is answered {apart.mean():.3f} away on average"
        assert apart.max() < 0.3, f"an unseen {feature} is answered up to {apart.max():.3f} away"

    @pytest.mark.parametrize("value", [-1e9, 1e9], ids=["below", "above"])
    def test_numbers_far_beyond_their_range_are_answered_with_a_probability(self, model, flights, value) -> None:
        answers = late(model, flights.assign(**dict.fromkeys(flights.select_dtypes("number"), value)))
        assert ((answers >= 0) & (answers <= 1)).all(), "an answer is no probability"


def likelier(model, calm, rough, by: float, of: float) -> None:
    """Hold how much likelier late the rough flights are on average, and what share of them is, against bounds."""
    rise = late(model, rough) - late(model, calm)
    assert rise.mean() > by, f"likelier by {rise.mean():.3f} on average, not by more than {by:g}"
    assert (rise > 0).mean() > of, f"likelier for {(rise > 0).mean():.0%} of the flights, not for more than {of:.0%}"
