"""Running performance tests: selection, counting twice, timing, the gate. Imported on demand."""
