"""The conversation as a LangChain application, for every recording of LangChain and LangGraph; who imports it instruments it.

`conversation` is `create_agent` with a checkpointer; a tool's exception becomes a message in one of the two ways LangChain
documents: by middleware around the tool, or by the tool itself. `retrieval` is a chain of a retriever, a prompt and a model.
"""

from __future__ import annotations

from typing import Any

import scripted
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware, wrap_tool_call
from langchain_core.documents import Document
from langchain_core.messages import ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnablePassthrough
from langchain_core.tools import ToolException, tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

DECISIONS: dict[str, dict[str, Any]] = {
    "approved": {"type": "approve"},
    "denied": {"type": "reject", "message": "not without a receipt"},
    "edited": {
        "type": "edit",
        "edited_action": {"name": "send_refund", "args": {"order_id": "A-100", "amount": 40.0}},
    },
}


def send_refund(order_id: str, amount: float) -> dict[str, Any]:
    """Send a refund."""
    try:
        return scripted.send_refund(order_id, amount)
    except scripted.LedgerUnavailable as error:
        raise ToolException(str(error)) from error


@wrap_tool_call
def tell_the_model(request: Any, handler: Any) -> Any:
    """Turn an exception of a tool into its result."""
    try:
        return handler(request)
    except ToolException as error:
        return ToolMessage(f"Error: {error}", tool_call_id=request.tool_call["id"], status="error")


def model() -> ChatOpenAI:
    """The provider's model."""
    return ChatOpenAI(model=scripted.MODEL, base_url=f"{scripted.PROVIDER}/v1", api_key="unused")


def conversation(caught_by: str) -> None:
    """Ask, and where the scenario pauses for a person, answer as it says."""
    pauses = scripted.SCENARIO in ("pending", *DECISIONS)
    tools = [tool(scripted.lookup_order), tool(send_refund)]
    middleware = [HumanInTheLoopMiddleware(interrupt_on={"send_refund": True})] if pauses else []
    if caught_by == "tool":
        tools[1].handle_tool_error = lambda error: f"Error: {error}"
    elif not pauses:
        middleware = [tell_the_model]
    agent = create_agent(
        model(),
        tools=tools,
        system_prompt=scripted.SYSTEM,
        middleware=middleware,
        checkpointer=InMemorySaver(),
        name="support_agent",
    )
    config: Any = {"configurable": {"thread_id": scripted.CONVERSATION}}
    agent.invoke({"messages": [{"role": "user", "content": scripted.USER}]}, config)
    if decision := DECISIONS.get(scripted.SCENARIO):
        agent.invoke(Command(resume={"decisions": [decision]}), config)


class HelpCentre(BaseRetriever):
    """Finds the scenario's two documents; scores are metadata, as with most of LangChain's retrievers."""

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        return [
            Document(id=document["id"], page_content=document["text"], metadata={"score": document["score"]})
            for document in scripted.DOCUMENTS
        ]


def retrieval() -> None:
    """Retrieve, then answer from what was found."""
    prompt = ChatPromptTemplate.from_messages(
        [("system", "Answer from the context.\n{context}"), ("human", "{question}")]
    )
    context = HelpCentre() | (lambda documents: "\n".join(document.page_content for document in documents))
    chain = {"context": context, "question": RunnablePassthrough()} | prompt | model() | StrOutputParser()
    chain.invoke(scripted.QUESTION)


def run(caught_by: str = "middleware") -> None:
    """Play the scenario."""
    retrieval() if scripted.SCENARIO == "retrieval" else conversation(caught_by)
