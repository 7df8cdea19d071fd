"""Written by `make proto` from proto/tracegrade/gate/v1; not to be edited."""
