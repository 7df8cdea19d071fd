# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "openai==3.52.0",
#   "traceloop-sdk==0.62.4",
#   "httpx==0.28.1",
# ]
# [tool.dialect]
# name = "traceloop"
# scenarios = ["tools", "content_off"]
# [tool.dialect.environment]
# TRACELOOP_TELEMETRY = "false"
# TRACELOOP_METRICS_ENABLED = "false"
# [tool.dialect.environment.content_off]
# TRACELOOP_TRACE_CONTENT = "false"
# ///
"""An agent of one's own on Traceloop's SDK: its decorators around functions, its instrumentation of OpenAI's client."""

import json

import scripted
from openai import OpenAI
from traceloop.sdk import Traceloop
from traceloop.sdk.decorators import agent, tool
from traceloop.sdk.instruments import Instruments

Traceloop.init(
    app_name="support-agent",
    api_endpoint=scripted.SINK_HTTP,
    instruments={Instruments.OPENAI},
)
client = OpenAI(base_url=f"{scripted.PROVIDER}/v1")
TOOLS = {
    "lookup_order": tool(name="lookup_order")(scripted.lookup_order),
    "send_refund": tool(name="send_refund")(scripted.send_refund),
}


@agent(name="support_agent")
def support_agent(question: str) -> str:
    messages = [{"role": "system", "content": scripted.SYSTEM}, {"role": "user", "content": question}]
    while True:
        completion = client.chat.completions.create(model=scripted.MODEL, messages=messages, tools=scripted.TOOLS)
        message = completion.choices[0].message
        messages.append(message.model_dump(exclude_none=True))
        if not message.tool_calls:
            return message.content
        for call in message.tool_calls:
            try:
                content = json.dumps(TOOLS[call.function.name](**json.loads(call.function.arguments)))
            except scripted.LedgerUnavailable as error:
                content = f"Error: {error}"
            messages.append({"role": "tool", "tool_call_id": call.id, "content": content})


Traceloop.set_association_properties({"session_id": scripted.CONVERSATION})
support_agent(scripted.USER)
