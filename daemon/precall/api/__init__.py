"""The HTTP API: access, requests and responses. The engine decides what is answered."""
