# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "langfuse==5.0.4",
#   "openai==3.52.0",
# ]
# [tool.dialect]
# name = "langfuse"
# scenarios = ["tools", "retrieval"]
# ///
"""Langfuse's SDK, whose spans are OpenTelemetry's: its decorator on agent and tools, its wrapper around OpenAI's client."""

import json

import scripted
from langfuse import Langfuse, observe, propagate_attributes
from langfuse.openai import OpenAI

langfuse = Langfuse(public_key="pk-lf-unused", secret_key="sk-lf-unused", base_url=scripted.SINK_HTTP)
client = OpenAI(base_url=f"{scripted.PROVIDER}/v1", api_key="unused")
TOOLS = {tool.__name__: observe(tool, as_type="tool") for tool in (scripted.lookup_order, scripted.send_refund)}


def run(call: object) -> dict[str, object]:
    """What a tool says to a call."""
    told = {"role": "tool", "tool_call_id": call.id}
    try:
        return told | {"content": json.dumps(TOOLS[call.function.name](**json.loads(call.function.arguments)))}
    except scripted.LedgerUnavailable as error:
        return told | {"content": f"Error: {error}"}


@observe(as_type="agent")
def support(question: str) -> str:
    """The scripted conversation."""
    messages = [{"role": "system", "content": scripted.SYSTEM}, {"role": "user", "content": question}]
    while True:
        said = (
            client.chat.completions.create(model=scripted.MODEL, messages=messages, tools=scripted.TOOLS)
            .choices[0]
            .message
        )
        if not said.tool_calls:
            return said.content
        messages += [said.to_dict(), *map(run, said.tool_calls)]


@observe(as_type="retriever")
def search(question: str) -> list[dict[str, object]]:
    """Two documents."""
    return scripted.DOCUMENTS


@observe
def ask(question: str) -> str:
    """An answer from documents."""
    found = "\n".join(document["text"] for document in search(question))
    messages = [{"role": "system", "content": f"Answer from:\n{found}"}, {"role": "user", "content": question}]
    return client.chat.completions.create(model=scripted.MODEL, messages=messages).choices[0].message.content


with propagate_attributes(session_id=scripted.CONVERSATION):
    if scripted.SCENARIO == "retrieval":
        ask(scripted.QUESTION)
    else:
        support(scripted.USER)
langfuse.shutdown()
