"""Limits for web frameworks: ASGI, WSGI, aiohttp, FastAPI and Flask."""
