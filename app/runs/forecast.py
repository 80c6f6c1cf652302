"""The forecast of a run's cost and time: from its preview, or from ended runs with the same settings."""

from sqlalchemy.orm import Session

from app import config
from app.runs import sampling, store
from app.runs.schemas import Forecast, IntervalView
from app.synth.cost_estimate import Interval, estimate_cost
from app.synth.methods.registry import METHODS
from app.tables.runs import Run


def build_forecast(session: Session, runs: list[Run], target: int) -> Forecast | None:
    """Return the expected cost and time of `target` rows, or None without any decided candidate.

    Args:
        session: the transaction.
        runs: the runs to forecast from, of one method, teacher and options.
        target: the number of accepted rows to forecast.
    """
    ids = [run.id for run in runs]
    # A batch without candidates has no yield to measure.
    samples = [sample for sample in store.load_samples(session, ids) if sample.candidates]
    if not samples:
        return None
    run = runs[0]
    options = sampling.parse_options(run)
    steps = METHODS[run.method].min_steps(options) + options.judging.question + options.judging.answer
    # The operator may have removed the teacher from the configuration since.
    teacher = config.teachers().get(run.teacher or run.judge or "")
    latency = store.mean_latency(session, ids)
    intervals = estimate_cost(samples, target, latency, teacher.in_flight if teacher else 1, steps)
    if intervals is None:
        return None
    return Forecast(
        target=target,
        runs=len(runs),
        candidates=sum(sample.candidates for sample in samples),
        share=_view(intervals["yield"], 4),
        requests=_view(intervals["requests"], 1),
        tokens=_view(intervals["tokens"], 0),
        cost_usd=_view(intervals["dollars"], 6),
        # A remote batch takes up to a day, whatever the run has measured (docs/adr/0013).
        seconds=None if run.mode == "batch" else _view(intervals["seconds"], 1),
    )


def _view(interval: Interval, digits: int) -> IntervalView:
    return IntervalView(
        estimate=round(interval.estimate, digits),
        low=round(interval.low, digits),
        high=round(interval.high, digits),
    )
