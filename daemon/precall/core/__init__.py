"""The decisions of precall: pure functions of values, without I/O, clocks, randomness or third-party imports."""
