# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "crewai==1.15.30",
#   "openinference-instrumentation-crewai==1.1.21",
#   "openinference-instrumentation-openai==0.1.66",
#   "opentelemetry-exporter-otlp-proto-http==1.45.2",
# ]
# [tool.dialect]
# name = "openinference"
# scenarios = ["tools"]
# environment = {CREWAI_DISABLE_TELEMETRY = "true", CREWAI_TRACING_ENABLED = "false", CREWAI_DISABLE_VERSION_CHECK = "true"}
# ///
"""CrewAI under OpenInference, whose instrumentation of CrewAI leaves the model's calls to that of the client."""

import scripted
from crewai import LLM, Agent, Crew, Task
from crewai.tools import tool
from openinference.instrumentation.crewai import CrewAIInstrumentor
from openinference.instrumentation.openai import OpenAIInstrumentor
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
CrewAIInstrumentor().instrument(tracer_provider=provider)
OpenAIInstrumentor().instrument(tracer_provider=provider)
agent = Agent(
    role="support",
    goal="Help the customer",
    backstory=scripted.SYSTEM,
    llm=LLM(model=f"openai/{scripted.MODEL}", base_url=f"{scripted.PROVIDER}/v1", api_key="unused"),
    tools=[tool(scripted.lookup_order), tool(scripted.send_refund)],
)
crew = Crew(agents=[agent], tasks=[Task(description=scripted.USER, expected_output="An answer", agent=agent)])
crew.kickoff()
provider.shutdown()
