"""The dashboard: a static page, and the exporter that writes its data beside it."""
