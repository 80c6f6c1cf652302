"""Starts the simulated teacher: `python -m app.simulator`."""

import typer

from app.simulator.command import simulate_teacher

if __name__ == "__main__":
    typer.run(simulate_teacher)
