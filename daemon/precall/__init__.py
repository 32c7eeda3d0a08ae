"""precall: a pre-call health-check daemon with fallback routing."""

__version__ = "0.1.0"
