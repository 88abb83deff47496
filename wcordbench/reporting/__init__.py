"""Tables from the run store, beside the published numbers. Nothing here imports torch."""
