"""The console: pages for people, made here and served beside the API."""
