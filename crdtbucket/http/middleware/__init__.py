"""Limits for web frameworks: ASGI, WSGI, aiohttp and FastAPI."""
