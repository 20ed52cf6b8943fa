"""Set-up and the demo: what make calls."""
