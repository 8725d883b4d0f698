"""One module a command: plain functions with typer options; what is heavy is imported when a command runs."""
