"""The behaviour of a model of late flights, which holds for any training data.

`ct test` runs these tests on a model of synthetic flights, `ct check-model` on the candidate and the fresh rows; a
candidate that fails one is rejected. The kinds of test are those of Ribeiro et al., Beyond Accuracy: Behavioral Testing
of NLP Models with CheckList (2020). All bounds are probabilities or shares of the flights, and wide enough for the
weather of any season.
"""

from __future__ import annotations

import numpy as np
import pytest

TOLERANCE = 1e-6  # what rounding of float32 may change
CLEAR_WEATHER = {"visibility": 10.0, "precipitation": 0.0, "humidity": 40.0}
RAIN = {"visibility": 1.0, "precipitation": 0.3, "humidity": 95.0}
WEATHER_COLUMNS = [*RAIN, "temperature", "dew_point", "wind_direction", "wind_speed", "pressure"]


def predict_late(model, flights):
    """Return the probability of each flight to be late."""
    return model.predict_proba(flights)[:, 1]


def increase(flights, **steps):
    """Return the flights with larger values in these columns."""
    return flights.assign(**{name: flights[name] + step for name, step in steps.items()})


def with_nulls(flights, features):
    """Return the flights with nulls in these columns."""
    return flights.assign(**{name: None if flights[name].dtype == object else np.nan for name in features})


def assert_equal(predictions, others) -> None:
    difference = np.abs(np.subtract(predictions, others)).max()
    assert difference <= TOLERANCE, f"the predictions differ by up to {difference:.2g}"


def assert_more_probable(model, flights, late_flights, mean: float, share: float) -> None:
    """Check the mean increase of the probability, and the share of the flights for which it increases."""
    change = predict_late(model, late_flights) - predict_late(model, flights)
    assert change.mean() > mean, f"the probability increases by {change.mean():.3f} on average, not by more than {mean}"
    increase_share = (change > 0).mean()
    assert increase_share > share, (
        f"the probability increases for {increase_share:.0%} of the flights, not for more than {share:.0%}"
    )


class TestInvariance:
    def test_the_order_of_the_flights_does_not_change_predictions(self, model, flights) -> None:
        assert_equal(predict_late(model, flights[::-1])[::-1], predict_late(model, flights))

    def test_the_batch_size_does_not_change_predictions(self, model, flights) -> None:
        few = flights.head(30)
        singly = [predict_late(model, few[index : index + 1])[0] for index in range(len(few))]
        assert_equal(singly, predict_late(model, flights)[: len(few)])

    def test_integers_and_floats_give_the_same_predictions(self, model, flights) -> None:
        columns = ["departure_minute", "day_of_week", "distance"]
        assert_equal(*(predict_late(model, flights.astype(dict.fromkeys(columns, kind))) for kind in (int, float)))

    @pytest.mark.parametrize("column", ["departure_minute", "arrival_minute"])
    def test_one_minute_hardly_changes_predictions(self, model, flights, column) -> None:
        change = np.abs(predict_late(model, increase(flights, **{column: 1})) - predict_late(model, flights)).mean()
        assert change < 0.005, f"one minute changes a prediction by {change:.3f} on average"

    def test_small_changes_of_all_numbers_hardly_change_predictions(self, model, flights) -> None:
        steps = {"departure_minute": 3, "arrival_minute": 3, "distance": 3}
        steps |= dict.fromkeys(["temperature", "dew_point", "humidity", "pressure"], 0.5)
        change = np.abs(predict_late(model, increase(flights, **steps)) - predict_late(model, flights)).mean()
        assert change < 0.02, f"small changes change a prediction by {change:.3f} on average"


class TestDirection:
    @pytest.mark.parametrize("column", ["late_share_at_origin", "late_share_of_carrier"])
    def test_recent_delays_make_a_flight_more_probably_late(self, model, flights, column) -> None:
        on_time, late = (flights.assign(**{column: share}) for share in (0.0, 0.7))
        assert_more_probable(model, on_time, late, mean=0.04, share=0.8)

    def test_rain_and_poor_visibility_make_a_flight_more_probably_late(self, model, flights) -> None:
        clear, rainy = (flights.assign(**weather) for weather in (CLEAR_WEATHER, RAIN))
        assert_more_probable(model, clear, rainy, mean=0.02, share=0.8)

    def test_evening_flights_are_more_probably_late_than_morning_flights(self, model, flights) -> None:
        morning, evening = (flights.assign(departure_minute=60.0 * hour) for hour in (6, 18))
        assert_more_probable(model, morning, evening, mean=0.0, share=0.6)


class TestMinimumFunctionality:
    def test_predictions_are_probabilities_of_two_classes(self, model, flights) -> None:
        probabilities = model.predict_proba(flights)
        assert probabilities.shape == (len(flights), 2)
        assert ((probabilities >= 0) & (probabilities <= 1)).all(), "a prediction is not between 0 and 1"
        assert np.allclose(probabilities.sum(axis=1), 1), "the probabilities of a flight do not add up to 1"

    def test_the_mean_prediction_is_near_the_share_of_late_flights(self, model, flights) -> None:
        mean = predict_late(model, flights).mean()
        assert 0.1 < mean < 0.45, f"{mean:.0%} on average, while one flight in four from New York is late"

    def test_predictions_vary_between_flights(self, model, flights) -> None:
        low, high = np.quantile(predict_late(model, flights), [0.1, 0.9])
        assert high - low > 0.1, f"most predictions lie between {low:.3f} and {high:.3f}"

    def test_bad_conditions_give_much_higher_predictions_than_good_conditions(self, model, flights) -> None:
        recent = ["late_share_at_origin", "late_share_of_carrier"]
        good = {"departure_minute": 360.0, "day_of_week": 6.0, "wind_speed": 5.0} | dict.fromkeys(recent, 0.0)
        bad = {"departure_minute": 1140.0, "day_of_week": 5.0, "wind_speed": 28.0} | dict.fromkeys(recent, 0.6)
        good_flights, bad_flights = flights.assign(**good, **CLEAR_WEATHER), flights.assign(**bad, **RAIN)
        assert_more_probable(model, good_flights, bad_flights, mean=0.25, share=0.95)
        low, high = predict_late(model, good_flights).mean(), predict_late(model, bad_flights).mean()
        assert low < 0.2, f"{low:.0%} on average on Saturday morning in clear weather"
        assert high > 0.45, f"{high:.0%} on average on Friday evening in rain and wind, with many delays before"


class TestRobustness:
    def test_a_missing_feature_does_not_change_the_mean_prediction_much(self, model, flights) -> None:
        mean = predict_late(model, flights).mean()
        changes = {name: predict_late(model, with_nulls(flights, [name])).mean() - mean for name in flights}
        worst = max(changes, key=lambda name: abs(changes[name]))
        assert abs(changes[worst]) < 0.2, f"without {worst} the mean prediction changes by {changes[worst]:+.3f}"

    def test_missing_weather_does_not_change_the_mean_prediction_much(self, model, flights) -> None:
        change = predict_late(model, with_nulls(flights, WEATHER_COLUMNS)).mean() - predict_late(model, flights).mean()
        assert abs(change) < 0.3, f"without the weather the mean prediction changes by {change:+.3f}"

    def test_predictions_without_any_feature_are_moderate(self, model, flights) -> None:
        mean = predict_late(model, with_nulls(flights, flights.columns)).mean()
        assert 0.03 < mean < 0.6, f"with all features missing the mean prediction is {mean:.3f}"

    @pytest.mark.parametrize("feature", ["carrier", "origin", "dest"])
    def test_predictions_for_an_unknown_category_are_near_the_average(self, model, flights, feature) -> None:
        common = flights[feature].value_counts().index[:20]
        average = np.mean([predict_late(model, flights.assign(**{feature: name})) for name in common], axis=0)
        difference = np.abs(predict_late(model, flights.assign(**{feature: "unknown"})) - average)
        assert difference.mean() < 0.1, (
            f"an unknown {feature} changes a prediction by {difference.mean():.3f} on average"
        )
        assert difference.max() < 0.3, f"an unknown {feature} changes a prediction by up to {difference.max():.3f}"

    @pytest.mark.parametrize("value", [-1e9, 1e9], ids=["below", "above"])
    def test_predictions_for_numbers_far_out_of_range_are_probabilities(self, model, flights, value) -> None:
        probabilities = predict_late(model, flights.assign(**dict.fromkeys(flights.select_dtypes("number"), value)))
        assert ((probabilities >= 0) & (probabilities <= 1)).all(), "a prediction is not between 0 and 1"
