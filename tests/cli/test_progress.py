"""Progress where there is no terminal: plain lines, few of them, without control codes."""

from app.cli import progress


def test_plain_lines_are_few_and_the_end_is_always_told(capsys, monkeypatch):
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 60)
    counts, usage = {"rejected": 4}, {"requests": 7, "cost_usd": "0.01"}
    with progress.stage("Self-Instruct", progress.of_run) as update:
        for done in range(50):
            update({"status": "running", "target": 50, "counts": {**counts, "accepted": done}, "usage": usage})
        update({"status": "succeeded", "target": 50, "counts": {**counts, "accepted": 51}, "usage": usage})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].endswith("Self-Instruct: running 0/50 4 rejected, 7 calls, $0.01")
    assert lines[1].endswith("Self-Instruct: succeeded 51/50 4 rejected, 7 calls, $0.01")
    assert not any("\x1b" in line for line in lines)


def test_a_fine_tune_shows_its_stage_and_newest_loss():
    class Client:
        asked = []

        def newest_metrics(self, id, after):
            self.asked.append(after)
            return [{"values": {"loss": 2.34567}}, {"values": {"eval_loss": 1}}], "9"

    measure = progress.with_loss(Client())
    job = {"id": "ft_1", "step": 3, "total_steps": 9, "stage": "training"}
    assert measure(job) == (3, 9, "training, loss 2.346")
    measure(job)
    assert Client.asked == [None, "9"]
    assert progress.of_fine_tune({"step": None, "total_steps": None, "stage": None}) == (0, None, "")
