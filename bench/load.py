"""Sends pre-serialised OTLP requests and keeps a number of them in flight; prints one JSON object.

load.py grpc|http PORT REQUESTS FIRST_NUMBER IN_FLIGHT
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time

import grpc
import payload

_METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


async def _grpc(port: int, template: bytes, numbers: itertools.count[int], last: int, in_flight: int) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        export = channel.unary_unary(_METHOD)

        async def worker() -> None:
            while (number := next(numbers)) < last:
                await export(payload.numbered(template, number), wait_for_ready=True, timeout=120)

        await asyncio.gather(*(worker() for _ in range(in_flight)))


async def _http(port: int, template: bytes, numbers: itertools.count[int], last: int, in_flight: int) -> None:
    async def worker() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (number := next(numbers)) < last:
            body = payload.numbered(template, number)
            head = "POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-protobuf\r\nContent-Length: "
            writer.write(f"{head}{len(body)}\r\n\r\n".encode() + body)
            await writer.drain()
            status = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in status.split(b"\r\n", 1)[0] + b" ":
                raise RuntimeError(f"answered {status!r}")
            lengths = [line for line in status.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            if not lengths:
                raise RuntimeError(f"an answer without Content-Length: {status!r}")
            await reader.readexactly(int(lengths[0].partition(b":")[2]))
        writer.close()

    await asyncio.gather(*(worker() for _ in range(in_flight)))


def main() -> None:
    protocol, port, requests, first, in_flight = sys.argv[1], *map(int, sys.argv[2:])
    send = {"grpc": _grpc, "http": _http}[protocol]
    template = payload.template()
    started = time.monotonic()
    asyncio.run(send(port, template, itertools.count(first), first + requests, in_flight))
    print(json.dumps({"seconds": time.monotonic() - started, "bytes_a_span": len(template) / payload.SPANS}))


if __name__ == "__main__":
    main()
