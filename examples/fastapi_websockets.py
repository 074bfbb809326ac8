"""Secure sums over WebSockets: FastAPI at the server, four clients, each with a roster and a journal."""

import asyncio
import secrets
import socket
import tempfile
from pathlib import Path

import numpy as np

from secagg import Bounded, Masking, Policy, accept, aio
from transport import journal, load_identity, processes

try:
    import uvicorn
    from fastapi import FastAPI, WebSocket
    from websockets.asyncio.client import connect
except ModuleNotFoundError:
    raise SystemExit("this example needs FastAPI: pip install fastapi uvicorn websockets") from None


async def client(port: int, key: Path) -> None:
    own, once = load_identity(key, key.with_name("roster")), journal.Journal(f"{key}.journal").once
    async with connect(f"ws://127.0.0.1:{port}/{own.u}") as server:
        await server.send(own.key.sign(b"who I am, example:" + await server.recv()))
        scheme = accept(Policy(), await server.recv(), own.roster)  # by default: against an active server
        session = scheme.client(own.u, lambda task: np.full(1000, own.u / 10), identity=own, once=once)
        await aio.take_part(session, server.recv, server.send)


async def main(folder: Path) -> None:
    app, keys = FastAPI(), [own / "client.key" for own in processes.lay_out_keys(folder, 4)[1]]
    roster = load_identity(keys[0], keys[0].with_name("roster")).roster  # the server's is the same
    scheme = Masking.for_cohort(4, Bounded(length=1000, bound=1.0), adversary="active", roster=roster)
    session, heard, lines = scheme.server(range(4), b"round 1", roster=roster), asyncio.Queue(4), {}

    @app.websocket("/{u}")
    async def connected(line: WebSocket, u: int) -> None:
        await line.accept()
        await line.send_bytes(nonce := secrets.token_bytes(32))
        said = b"who I am, example:" + nonce
        if roster.signed_by(u, said, await line.receive_bytes()) and lines.setdefault(u, line) is line:
            await line.send_bytes(scheme.offer())
            async for message in line.iter_bytes():
                await heard.put((u, message))
            await heard.put((u, ConnectionError("it hung up")))

    listening = socket.create_server(("127.0.0.1", 0))
    web, port = uvicorn.Server(uvicorn.Config(app, log_level="error")), listening.getsockname()[1]
    everybody = asyncio.gather(web.serve([listening]), *(client(port, key) for key in keys))
    total = await aio.drive(
        session, heard.get, lambda u, m: lines[u].send_bytes(m), deadlines=lambda round: asyncio.sleep(600)
    )
    web.should_exit = True
    await everybody
    print("mean", total.mean[""][:3].round(4), "of", sorted(total.survivors))


with tempfile.TemporaryDirectory() as folder:
    asyncio.run(main(Path(folder)))
