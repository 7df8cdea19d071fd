# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "haystack-ai==3.4.0",
#   "openinference-instrumentation-haystack==0.1.46",
#   "opentelemetry-exporter-otlp-proto-http==1.45.2",
# ]
# [tool.dialect]
# name = "openinference"
# scenarios = ["tools", "retrieval"]
# environment = {HAYSTACK_TELEMETRY_ENABLED = "False"}
# ///
"""Haystack under OpenInference: an agent, and a pipeline with a retriever."""

import scripted
from haystack import Document, Pipeline, component
from haystack.components.agents import Agent
from haystack.components.builders import ChatPromptBuilder
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage
from haystack.tools import create_tool_from_function
from haystack.utils import Secret
from openinference.instrumentation.haystack import HaystackInstrumentor


@component
class ShelfRetriever:
    """A retriever that has two documents."""

    @component.output_types(documents=list[Document])
    def run(self, query: str) -> dict[str, list[Document]]:
        """Both documents, whatever the question."""
        return {"documents": [Document(id=d["id"], content=d["text"], score=d["score"]) for d in scripted.DOCUMENTS]}


def model() -> OpenAIChatGenerator:
    """The scripted model."""
    return OpenAIChatGenerator(
        model=scripted.MODEL, api_base_url=f"{scripted.PROVIDER}/v1", api_key=Secret.from_token("unused")
    )


with scripted.tracing() as provider:
    HaystackInstrumentor().instrument(tracer_provider=provider)
    pipeline = Pipeline()
    if scripted.SCENARIO == "retrieval":
        asks = [ChatMessage.from_user("{% for d in documents %}{{ d.content }}\n{% endfor %}{{ query }}")]
        pipeline.add_component("retriever", ShelfRetriever())
        pipeline.add_component("prompt", ChatPromptBuilder(asks, required_variables="*"))
        pipeline.add_component("model", model())
        pipeline.connect("retriever.documents", "prompt.documents")
        pipeline.connect("prompt.prompt", "model.messages")
        pipeline.run({"retriever": {"query": scripted.QUESTION}, "prompt": {"query": scripted.QUESTION}})
    else:
        tools = [create_tool_from_function(scripted.lookup_order), create_tool_from_function(scripted.send_refund)]
        pipeline.add_component("support", Agent(chat_generator=model(), tools=tools, system_prompt=scripted.SYSTEM))
        pipeline.run({"support": {"messages": [ChatMessage.from_user(scripted.USER)]}})
