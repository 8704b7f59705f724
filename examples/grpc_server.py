"""A gRPC server whose denied calls say when to come back, and a client that asks it.

pip install -e '.[grpc]'
python examples/grpc_server.py
"""

import asyncio

import grpc
import grpc.aio

from crdtbucket import BucketSpec, Limiter
from crdtbucket.integrations.grpc import AsyncLimitInterceptor

SERVICE, METHOD = "example.Echo", "Say"
rpc = Limiter([BucketSpec.parse("rpc", "3/minute")]).bucket("rpc")


async def say(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
    """What the service does: it knows nothing of limits."""
    return request.upper()


async def serve() -> tuple[grpc.aio.Server, str]:
    """Each tenant may call so often; health checks as often as they like."""
    limit = AsyncLimitInterceptor(
        rpc,
        key=lambda call: call.metadata["tenant"],
        exempt=lambda call: call.method.startswith("/grpc.health."),
    )
    server = grpc.aio.server(interceptors=[limit])
    methods = {METHOD: grpc.unary_unary_rpc_method_handler(say)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, f"127.0.0.1:{port}"


async def ask(channel: grpc.aio.Channel, tenant: str) -> str:
    """What a client of the service sees."""
    try:
        call = channel.unary_unary(f"/{SERVICE}/{METHOD}")
        return (await call(b"hello", metadata=[("tenant", tenant)])).decode()
    except grpc.aio.AioRpcError as error:
        pushback_ms = int(dict(error.trailing_metadata())["grpc-retry-pushback-ms"])
        return f"{error.code().name}, again in {round(pushback_ms / 1e3)} s"


async def main() -> None:
    """One tenant calls until it is denied; another is not."""
    server, address = await serve()
    async with grpc.aio.insecure_channel(address) as channel:
        for tenant in ("acme", "acme", "acme", "acme", "globex"):
            print(f"{tenant}: {await ask(channel, tenant)}")
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(main())
