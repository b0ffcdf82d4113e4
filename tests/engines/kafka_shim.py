"""A forwarder before a Kafka broker, for clients that cannot read its newest ApiVersions answer.

    python tests/engines/kafka_shim.py LISTEN_PORT BROKER_PORT

The librdkafka in Milvus 2.3 asks ApiVersions in version 3 and fails on the answer of `tansu`. A
broker that knows only version 0 would answer error 35 (UNSUPPORTED_VERSION), and librdkafka would
ask again in version 0. So this says for the broker; every other byte passes as it came.
"""

from __future__ import annotations

import asyncio
import struct
import sys

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter
API_VERSIONS, UNSUPPORTED = 18, 35


async def requests(reader: Reader, back: Writer, broker: Writer) -> None:
    """Pass requests on, one length-prefixed frame after the other, but answer ApiVersions > 0."""
    while True:
        size = await reader.readexactly(4)
        frame = await reader.readexactly(*struct.unpack(">i", size))
        key, version, correlation = struct.unpack(">hhi", frame[:8])
        if key == API_VERSIONS and version > 0:
            answer = struct.pack(">ihihhh", correlation, UNSUPPORTED, 1, API_VERSIONS, 0, 0)
            back.write(struct.pack(">i", len(answer)) + answer)
        else:
            broker.write(size + frame)
            await broker.drain()


async def answers(reader: Reader, client: Writer) -> None:
    while data := await reader.read(1 << 16):
        client.write(data)
        await client.drain()


async def connection(reader: Reader, writer: Writer, port: int) -> None:
    from_broker, to_broker = await asyncio.open_connection("127.0.0.1", port)
    ways = [
        asyncio.ensure_future(requests(reader, writer, to_broker)),
        asyncio.ensure_future(answers(from_broker, writer)),
    ]
    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    for way in ways:
        way.cancel()
    await asyncio.gather(*ways, return_exceptions=True)
    writer.close()
    to_broker.close()


async def main(listen: int, broker: int) -> None:
    server = await asyncio.start_server(lambda r, w: connection(r, w, broker), "127.0.0.1", listen)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
