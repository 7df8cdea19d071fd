# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "llama-index-core==0.14.25",
#   "llama-index-llms-openai-like==0.8.1",
#   "openinference-instrumentation-llama-index==4.6.1",
#   "opentelemetry-exporter-otlp-proto-http==1.45.2",
# ]
# [tool.dialect]
# name = "openinference"
# scenarios = ["retrieval", "tools"]
# ///
"""LlamaIndex under OpenInference: a query engine over a retriever, and a function agent."""

import asyncio

import scripted
from llama_index.core import QueryBundle
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.llms.openai_like import OpenAILike
from openinference.instrumentation.llama_index import LlamaIndexInstrumentor


class Shelf(BaseRetriever):
    """A retriever that has two documents."""

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return [NodeWithScore(node=TextNode(id_=d["id"], text=d["text"]), score=d["score"]) for d in scripted.DOCUMENTS]


with scripted.tracing(root=False) as provider:
    LlamaIndexInstrumentor().instrument(tracer_provider=provider)
    llm = OpenAILike(
        model=scripted.MODEL,
        api_base=f"{scripted.PROVIDER}/v1",
        api_key="unused",
        is_chat_model=True,
        is_function_calling_model=True,
    )
    if scripted.SCENARIO == "retrieval":
        RetrieverQueryEngine.from_args(Shelf(), llm=llm).query(scripted.QUESTION)
    else:
        agent = FunctionAgent(
            name="support",
            llm=llm,
            system_prompt=scripted.SYSTEM,
            tools=[scripted.lookup_order, scripted.send_refund],
            streaming=False,
        )

        async def converse() -> None:
            """The scripted conversation."""
            await agent.run(scripted.USER)

        asyncio.run(converse())
