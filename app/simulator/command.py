"""The command line of the simulated teacher. The `seedbed` command mounts the same function."""

import socket
from typing import Annotated, Literal

import typer
import uvicorn

from app.simulator.completions import Settings
from app.simulator.faults import FAULT_TYPES, FaultPlan, parse_faults
from app.simulator.personalities.registry import parse_selection
from app.simulator.server import build_server


def simulate_teacher(
    port: Annotated[int, typer.Option(help="The port to listen on; 0 chooses a free port.")] = 8099,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    seed: Annotated[
        int, typer.Option(help="The seed of replies and faults; both depend on the seed and the request alone.")
    ] = 0,
    latency: Annotated[float, typer.Option(min=0, help="The median response time in seconds.")] = 0.05,
    latency_tail: Annotated[
        float, typer.Option(min=0, help="Sigma of log-normal response times; 0 makes all times equal.")
    ] = 0.0,
    requests_per_minute: Annotated[
        int, typer.Option(min=0, help="The server answers 429 above this rate; 0 sets no limit.")
    ] = 0,
    tokens_per_minute: Annotated[
        int, typer.Option(min=0, help="The server answers 429 above this rate of tokens; 0 sets no limit.")
    ] = 0,
    api_key: Annotated[
        str | None, typer.Option(help="The server refuses every other API key.", envvar="SIMULATOR_API_KEY")
    ] = None,
    near_duplicates: Annotated[
        float, typer.Option(min=0, max=1, help="The share of new instructions that are near-duplicates of others.")
    ] = 0.1,
    replies: Annotated[
        Literal["json_schema", "json_object", "text"],
        typer.Option(help="The strictest response_format that the server supports; it answers 400 to others."),
    ] = "json_schema",
    batch_seconds: Annotated[float, typer.Option(min=0, help="The seconds that a batch takes.")] = 1.0,
    batch_expire: Annotated[
        float, typer.Option(min=0, max=1, help="The share of a batch's requests that expire.")
    ] = 0.0,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND=RATE",
            help=f"A type of fault and its share of requests. Types: {', '.join(FAULT_TYPES)}. Repeatable.",
        ),
    ] = None,
    personality: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[:RATE]",
            help="A habit of real servers, and the share of requests that it changes. docs/teachers.md lists them. "
            "Repeatable. A client selects it for itself by the model seedbed-simulated+NAME:RATE.",
        ),
    ] = None,
) -> None:
    """Serve the simulated teacher, an OpenAI-compatible endpoint whose replies are composed from parts."""
    try:
        fault_plan = FaultPlan(seed, parse_faults(fault or []))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--fault") from error
    try:
        selections = tuple(parse_selection(text) for text in personality or [])
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--personality") from error
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
        faults=fault_plan,
        personalities=selections,
    )
    serve(settings, host, port)


def serve(settings: Settings, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT.

    The socket is bound before the server starts, so that the first line of output names the real port.
    """
    config = uvicorn.Config(
        build_server(settings),
        log_level="warning",
        access_log=False,
        server_header=False,
        # A client may be waiting in a simulated hang, and the shutdown must not wait for that client.
        timeout_graceful_shutdown=1,
    )
    listener = _bind(host, port)
    typer.echo(f"The simulated teacher listens at http://{host}:{listener.getsockname()[1]}/v1 (seed {settings.seed})")
    uvicorn.Server(config).run(sockets=[listener])


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        typer.echo(
            f"The simulated teacher can't listen on {host}:{port}: {error.strerror}. Choose another --port.", err=True
        )
        raise typer.Exit(1) from error
    # From here on a connection waits for the server instead of being refused.
    listener.listen(2048)
    listener.set_inheritable(True)
    return listener
