"""OpenTelemetry: a limiter's numbers as instruments, and a denial as an event of a span.

pip install -e '.[otel]' opentelemetry-sdk
python examples/open_telemetry.py
"""

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from crdtbucket import BucketSpec, Limiter
from crdtbucket.metrics.open_telemetry import instrument, span_event

limiter = Limiter([BucketSpec.parse("api", "3/minute")])
# In a service the reader and the exporter of your choice, such as those of OTLP.
reader, spans = InMemoryMetricReader(), InMemorySpanExporter()
instrument(limiter, MeterProvider([reader]).get_meter("crdtbucket"))
tracers = TracerProvider()
tracers.add_span_processor(SimpleSpanProcessor(spans))

with tracers.get_tracer("example").start_as_current_span("a request"):
    for _ in range(4):
        span_event(limiter.bucket("api").take("tenant-42"))  # says nothing of what is allowed

for span in spans.get_finished_spans():
    for event in span.events:
        print(f"{span.name}: {event.name}", *event.attributes.items(), sep="\n  ")
numbers = reader.get_metrics_data()
for metric in numbers.resource_metrics[0].scope_metrics[0].metrics:
    for point in metric.data.data_points:
        if metric.name == "crdtbucket_decisions_total" and point.value:
            print(metric.name, point.attributes["decision"], point.value)
