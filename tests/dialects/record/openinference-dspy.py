# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "dspy==3.4.1",
#   "openinference-instrumentation-dspy==0.1.48",
#   "opentelemetry-exporter-otlp-proto-http==1.45.2",
# ]
# [tool.dialect]
# name = "openinference"
# scenarios = ["retrieval"]
# environment = {LITELLM_LOCAL_MODEL_COST_MAP = "true"}
# ///
"""DSPy under OpenInference: a program with a retriever."""

import dspy
import scripted
from openinference.instrumentation.dspy import DSPyInstrumentor


class Passage(dict[str, str]):
    """A document as retrievers give it to DSPy."""

    __getattr__ = dict.__getitem__


def shelf(query: str, k: int) -> list[Passage]:
    """Two documents, whatever the question."""
    return [Passage(long_text=document["text"]) for document in scripted.DOCUMENTS]


class Answers(dspy.Module):
    """Answers a question from documents."""

    def __init__(self) -> None:
        super().__init__()
        self.search = dspy.Retrieve(k=2)
        self.answer = dspy.Predict("context, question -> answer")

    def forward(self, question: str) -> dspy.Prediction:
        """One search, one answer."""
        return self.answer(context=self.search(question).passages, question=question)


scripted.play([{"text": "[[ ## answer ## ]]\nRefunds take 5 days.\n\n[[ ## completed ## ]]", "tokens": [100, 20]}])
with scripted.tracing(root=False) as provider:
    DSPyInstrumentor().instrument(tracer_provider=provider)
    model = dspy.LM(f"openai/{scripted.MODEL}", api_base=f"{scripted.PROVIDER}/v1", api_key="unused", cache=False)
    with dspy.context(lm=model, rm=shelf):
        Answers()(question=scripted.QUESTION)
