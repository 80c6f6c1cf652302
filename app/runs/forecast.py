"""What a run will take: from its pilot, or from runs of its kind that have ended."""

from sqlalchemy.orm import Session

from app import config
from app.runs import sampling, store
from app.runs.schemas import Forecast, IntervalView
from app.synth.cost_estimate import Interval, estimate_cost
from app.synth.methods.registry import METHODS
from app.tables.runs import Run


def of_runs(session: Session, runs: list[Run], target: int) -> Forecast | None:
    """None when there is nothing to go by. The runs are of one method, teacher and options."""
    ids = [run.id for run in runs]
    samples = [sample for sample in store.load_samples(session, ids) if sample.candidates]
    if not samples:
        return None
    run = runs[0]
    options = sampling.parse_options(run)
    steps = METHODS[run.method].min_steps(options) + options.judging.question + options.judging.answer
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
        seconds=None if run.mode == "batch" else _view(intervals["seconds"], 1),
    )


def _view(interval: Interval, digits: int) -> IntervalView:
    return IntervalView(
        estimate=round(interval.estimate, digits),
        low=round(interval.low, digits),
        high=round(interval.high, digits),
    )
