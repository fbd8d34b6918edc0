"""What every other room stands on: registry, log, ranges, the machine's environment."""
