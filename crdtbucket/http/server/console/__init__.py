"""The console: one page of the sidecar that shows a node and its fleet, live."""
