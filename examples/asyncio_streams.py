"""A server and five clients over plain TCP, each a process, with asyncio alone; one client is killed.

On loopback a client is whom it says it is. Elsewhere give both ends `ssl=`, and take who a client is from its
certificate: `aio.drive` believes the id that its channel is given.
"""

import asyncio
import sys
from pathlib import Path

import numpy as np

from secagg import Bounded, Masking, Policy, accept, aio

CLIENTS, LONGEST = 5, 2**24  # bytes of a message


async def read(reader: asyncio.StreamReader) -> bytes:
    size = int.from_bytes(await reader.readexactly(4), "big")
    if size > LONGEST:
        raise ConnectionError(f"a message of {size} bytes")
    return await reader.readexactly(size)


async def write(writer: asyncio.StreamWriter, message: bytes) -> None:
    writer.write(len(message).to_bytes(4, "big") + message)
    await writer.drain()


async def client(port: int, u: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await write(writer, u.to_bytes(4, "big"))
    # begin client
    scheme = accept(Policy(adversary="semi-honest"), await read(reader))
    session = scheme.client(u, lambda task: np.full(1000, u / 10))
    await aio.take_part(session, lambda: read(reader), lambda message: write(writer, message))
    # end client
    await reader.read()  # until the server hangs up
    writer.close()


async def serve() -> None:
    scheme = Masking.for_cohort(CLIENTS, Bounded(length=1000, bound=1.0))
    # begin server
    session = scheme.server(range(CLIENTS), task=b"round 1")
    heard: asyncio.Queue[tuple[int, bytes | Exception]] = asyncio.Queue(CLIENTS)
    # end server
    writers: dict[int, asyncio.StreamWriter] = {}

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        u = int.from_bytes(await read(reader), "big")
        if writers.setdefault(u, writer) is not writer:
            return writer.close()  # the first who comes by that name is that client
        try:
            await write(writer, scheme.offer())
            while True:
                # begin server
                await heard.put((u, await read(reader)))
                # end server
        except (OSError, EOFError) as error:
            await heard.put((u, error))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    start = asyncio.create_subprocess_exec
    processes = [await start(sys.executable, Path(__file__), str(port), str(u)) for u in range(CLIENTS)]

    def watch(closed: aio.Closed) -> None:
        print(closed.round, sorted(closed.answered), *(f"lost {u}" for u in closed.lost))
        if closed.round == "share-keys":
            processes[4].kill()

    # begin server
    total = await aio.drive(
        session,
        heard.get,
        lambda u, message: write(writers[u], message),
        deadlines=lambda round: asyncio.sleep(600),
        watch=watch,
    )
    # end server
    print("mean", total.mean[""][:3].round(4), "of", sorted(total.survivors))
    for writer in writers.values():
        writer.close()
    await asyncio.gather(*(process.wait() for process in processes))
    server.close()


if __name__ == "__main__":
    asyncio.run(client(*map(int, sys.argv[1:])) if sys.argv[1:] else serve())
