"""What precall decides: pure functions of values. No I/O, no clock, no chance, no third-party import."""
