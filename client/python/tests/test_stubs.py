"""Do the type stubs say what the module has?"""

import subprocess
import sys


def test_the_stubs_say_what_the_module_has(tmp_path):
    command = [sys.executable, "-m", "mypy.stubtest", "ringway", "--concise"]
    checked = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_typical_program_is_well_typed(tmp_path):
    program = tmp_path / "program.py"
    program.write_text('''
import asyncio
import ringway

async def main() -> None:
    with ringway.Connection() as connection:
        with connection.producer("orders") as producer:
            position: ringway.Position = producer.send(b"one espresso", timeout=1.0)
            producer.send(ringway.Outgoing(b"two teas", key=b"customer 7", attributes={"urgent": True}))
            level: str = await producer.confirmed(position)
        with connection.consumer("orders", "billing") as consumer:
            async for message in consumer:
                print(level, message.key, bytes(message), len(message.payload))
        with connection.queue_consumer("jobs") as worker:
            for delivery in worker:
                with delivery:
                    print(delivery.attempt)

asyncio.run(main())
''')
    checked = subprocess.run([sys.executable, "-m", "mypy", "--strict", str(program)], cwd=tmp_path, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
