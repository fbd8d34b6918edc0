"""CPU or GPU: device, precision, tuning, fast inference."""
