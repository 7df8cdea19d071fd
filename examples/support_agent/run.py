"""Run one release of the support agent over a suite; every ticket is one trace.

python examples/support_agent/run.py --version baseline --run-id before --endpoint http://127.0.0.1:4318
"""

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Any

import yaml
from agent import Ticket, support_agent
from model import RELEASES
from opentelemetry import baggage, context
from pydantic_ai import Agent
from pydantic_ai.models.instrumented import InstrumentationSettings
from rich.console import Console
from rich.progress import Progress
from telemetry import Telemetry

AT_ONCE = 8


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--version", required=True, choices=sorted(RELEASES), help="which release of the agent")
    parser.add_argument("--run-id", required=True, help="recorded as tracegrade.run.id")
    parser.add_argument("--suite", type=Path, default=Path(__file__).with_name("suite.yaml"))
    parser.add_argument("--endpoint", default="http://127.0.0.1:4318", help="http://host:port or grpc://host:port")
    parser.add_argument("--limit", type=int, help="only the first N tickets")
    return parser.parse_args()


async def answer(agent: Agent[Ticket, str], ticket: Ticket, suite: str, case: dict[str, Any]) -> str:
    """One ticket, one trace: the labels travel as baggage to every span of it."""
    labels = baggage.set_baggage("tracegrade.case.id", case["id"], baggage.set_baggage("tracegrade.suite", suite))
    token = context.attach(labels)
    try:
        return (await agent.run(case["input"], deps=ticket)).output
    finally:
        context.detach(token)


async def answer_all(version: str, suite: str, cases: list[dict[str, Any]]) -> None:
    release = RELEASES[version]
    agent = support_agent(release)
    slots = asyncio.Semaphore(AT_ONCE)
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"support-agent {release.version}", total=len(cases))

        async def one(case: dict[str, Any]) -> None:
            async with slots:
                await answer(agent, Ticket(release), suite, case)
                progress.advance(task)

        async with asyncio.TaskGroup() as group:
            for case in cases:
                group.create_task(one(case))


def main() -> int:
    args = arguments()
    suite = yaml.safe_load(args.suite.read_text())
    cases = suite["cases"][: args.limit]
    release = RELEASES[args.version]
    telemetry = Telemetry(
        args.endpoint,
        {
            "service.name": "support-agent",
            "service.version": release.version,
            "deployment.environment.name": "evaluation",
            "tracegrade.run.id": args.run_id,
        },
    )
    Agent.instrument_all(InstrumentationSettings(tracer_provider=telemetry.tracer_provider))
    asyncio.run(answer_all(args.version, suite["name"], cases))
    if lost := telemetry.close():
        print(f"{lost} spans and log records could not be sent to {args.endpoint}; is it listening?", file=sys.stderr)
        return 1
    print(f"support-agent {release.version}: {len(cases)} tickets answered, traces sent to {args.endpoint}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
