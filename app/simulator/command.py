"""The command line of the simulated teacher; the main command mounts the same function."""

import socket
from typing import Annotated, Literal

import typer
import uvicorn

from app.simulator.faults import KINDS, FaultPlan, parse_faults
from app.simulator.server import Settings, build_server


def simulate_teacher(
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 8099,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    seed: Annotated[int, typer.Option(help="Replies and faults follow from it and the request alone.")] = 0,
    latency: Annotated[float, typer.Option(min=0, help="Median seconds of an answer.")] = 0.05,
    latency_tail: Annotated[float, typer.Option(min=0, help="Sigma of a log-normal tail; 0 answers evenly.")] = 0.0,
    requests_per_minute: Annotated[int, typer.Option(min=0, help="Answer 429 above this rate; 0 is no limit.")] = 0,
    tokens_per_minute: Annotated[int, typer.Option(min=0, help="The same for tokens.")] = 0,
    api_key: Annotated[str | None, typer.Option(help="Refuse every other key.", envvar="SIMULATOR_API_KEY")] = None,
    near_duplicates: Annotated[
        float, typer.Option(min=0, max=1, help="Share of new instructions that repeat a known one, slightly changed.")
    ] = 0.1,
    replies: Annotated[
        Literal["json_schema", "json_object", "text"],
        typer.Option(help="The most that it understands of response_format; more is a 400."),
    ] = "json_schema",
    batch_seconds: Annotated[float, typer.Option(min=0, help="Seconds that a batch takes.")] = 1.0,
    batch_expire: Annotated[
        float, typer.Option(min=0, max=1, help="Share of a batch's requests that are not reached in its time.")
    ] = 0.0,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND=RATE",
            help=f"One of {', '.join(KINDS)}. Repeatable.",
        ),
    ] = None,
) -> None:
    """Serve the simulated teacher, an OpenAI-compatible endpoint whose replies are composed from parts."""
    try:
        plan = FaultPlan(seed, parse_faults(fault or []))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--fault") from error
    settings = Settings(
        seed=seed,
        latency=latency,
        latency_tail=latency_tail,
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        api_key=api_key,
        near_duplicates=near_duplicates,
        replies=replies,
        batch_seconds=batch_seconds,
        batch_expire=batch_expire,
        faults=plan,
    )
    serve(settings, host, port)


def serve(settings: Settings, host: str, port: int) -> None:
    """Until SIGTERM or SIGINT. The socket is bound first, so that the start line names the real port."""
    config = uvicorn.Config(
        build_server(settings),
        log_level="warning",
        access_log=False,
        server_header=False,
        # A client may be waiting in a hang that was asked for; leaving can't depend on it.
        timeout_graceful_shutdown=1,
    )
    listening = _bind(host, port)
    typer.echo(f"Simulated teacher at http://{host}:{listening.getsockname()[1]}/v1 (seed {settings.seed})")
    uvicorn.Server(config).run(sockets=[listening])


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        typer.echo(f"Can't listen on {host}:{port}: {error.strerror}", err=True)
        raise typer.Exit(1) from error
    # From the start line on a connection waits for the server instead of being refused.
    listening.listen(2048)
    listening.set_inheritable(True)
    return listening
