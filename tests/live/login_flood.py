"""Bad logins at a fixed rate, from a process of its own: `python -m tests.live.login_flood PORT PER_SECOND SECONDS`. Prints how
many were answered, by status."""

import asyncio
import base64
import sys
from collections import Counter


async def bad_login(port: int, number: int, answers: Counter[str]) -> None:
    """One guess for a station that exists."""
    guess = base64.b64encode(f"bay-{1 + number % 2}:guess-number-{number:08d}".encode()).decode()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            f"GET /ocpp/bay-{1 + number % 2} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            f"Sec-WebSocket-Protocol: ocpp2.1\r\nAuthorization: Basic {guess}\r\n\r\n".encode()
        )
        answers[(await reader.readline()).decode().split(" ")[1]] += 1
        writer.close()
    except (OSError, IndexError):
        answers["cut off"] += 1


async def flood(port: int, per_s: float, duration_s: float) -> Counter[str]:
    """Open loop: a guess every 1 / `per_s`, whether the former ones were answered or not."""
    answers: Counter[str] = Counter()
    loop = asyncio.get_running_loop()
    began_s, number, under_way = loop.time(), 0, set()
    while (passed_s := loop.time() - began_s) < duration_s:
        while number < passed_s * per_s:
            under_way.add(task := asyncio.ensure_future(bad_login(port, number, answers)))
            task.add_done_callback(under_way.discard)
            number += 1
        await asyncio.sleep(0.005)
    await asyncio.gather(*under_way)
    return answers


if __name__ == "__main__":
    counted = asyncio.run(flood(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])))
    sys.stdout.write(" ".join(f"{status}={count}" for status, count in sorted(counted.items())) + "\n")
