"""Progress where there is no terminal: plain lines, few of them, without control codes."""

from app.cli import progress
from tests.fakes import FakeClock


def test_plain_lines_are_few_and_the_end_is_always_told(capsys):
    clock = FakeClock()
    counts, usage = {"rejected": 4}, {"requests": 7, "cost_usd": "0.01"}
    with progress.show_progress("Self-Instruct", progress.measure_run, clock) as update:
        for accepted in range(50):
            clock.advance(0.125)
            update({"status": "running", "target": 50, "counts": {**counts, "accepted": accepted}, "usage": usage})
        update({"status": "succeeded", "target": 50, "counts": {**counts, "accepted": 51}, "usage": usage})
    lines = capsys.readouterr().out.splitlines()
    # A line at once, one after five seconds, and one for the end, which waits for nothing.
    assert [line.partition("] ")[2] for line in lines] == [
        "Self-Instruct: running 0/50 4 rejected, 7 calls, $0.01",
        "Self-Instruct: running 40/50 4 rejected, 7 calls, $0.01",
        "Self-Instruct: succeeded 51/50 4 rejected, 7 calls, $0.01",
    ]
    assert lines[1].startswith("[  5.1 s]")
    assert not any("\x1b" in line for line in lines)


def test_a_job_that_waits_says_why(capsys):
    queue = {"name": "exports", "position": 3, "message": "No worker of the queue exports is alive."}
    with progress.show_progress("snapshot", progress.measure_snapshot, FakeClock()) as update:
        update({"status": "queued", "queue": queue})
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith("snapshot: queued 3 in the queue exports. No worker of the queue exports is alive.")


def test_a_fine_tune_shows_its_stage_and_newest_loss():
    class Client:
        arguments = []

        def newest_metrics(self, id, after):
            self.arguments.append(after)
            return [{"values": {"loss": 2.34567}}, {"values": {"eval_loss": 1}}], "9"

    measure = progress.measure_with_loss(Client())
    job = {"id": "ft_1", "step": 3, "total_steps": 9, "stage": "training"}
    assert measure(job) == (3, 9, "training, loss 2.346")
    measure(job)
    assert Client.arguments == [None, "9"]
    assert progress.measure_fine_tune({"step": None, "total_steps": None, "stage": None}) == (0, None, "")
