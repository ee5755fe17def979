"""Does what README.md tells a newcomer: runs its first ```sh block in a copy of the tracked files, then uses redis-cli with no
arguments. Fails if the daemon does not come up on port 6379, or never answers a read itself. The block may leave starting
redis-server to the reader: then one is started on the port that the block names."""

import argparse
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from servers import NotStarted, RedisServer, answers_ping, free_of_listeners

ROOT = pathlib.Path(__file__).resolve().parents[2]
DAEMON_PORT = 6379
BUILD_SECONDS_MAX = 900
# The first read may pass, the second fill: how many reads a hit may take.
READS_MAX = 10


class Failed(Exception):
    """What README.md promises and does not hold."""


def first_block(readme):
    found = re.search(r"^```sh\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    if not found:
        raise Failed("README.md has no ```sh block")
    return found.group(1)


def upstream_port(block):
    """The port of the redis-server that the block needs."""
    found = re.search(r"redis://[^\s/]*?:(\d+)", block)
    if not found:
        raise Failed("the first block of README.md names no redis://HOST:PORT")
    return int(found.group(1))


def copy_tracked_files(place):
    """What a fresh clone would hold, uncommitted changes included, with the build's results shared to save time."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, place / name)
    (ROOT / "target").mkdir(exist_ok=True)
    (place / "target").symlink_to(ROOT / "target")


def redis_cli(*arguments):
    done = subprocess.run(["redis-cli", *arguments], capture_output=True, text=True, timeout=30, check=False)
    return done.stdout.strip() or done.stderr.strip()


def expect(what, expected, got):
    if got != expected:
        raise Failed(f"{what}: expected {expected!r}, got {got!r}")
    print(f"good: {what}")


def wait_for_daemon(process):
    deadline = time.monotonic() + BUILD_SECONDS_MAX
    while not answers_ping(DAEMON_PORT):
        # The block may end with the daemon in the foreground or in the background.
        if process.poll() not in (None, 0):
            raise Failed(f"the block ended with status {process.returncode}")
        if time.monotonic() > deadline:
            raise Failed(f"nothing answers on port {DAEMON_PORT} after {BUILD_SECONDS_MAX} s")
        time.sleep(0.2)


def hits():
    found = re.search(r"^l1_hits:(\d+)", redis_cli("INFO", "madcache"), re.MULTILINE)
    if not found:
        raise Failed("INFO madcache has no l1_hits: is this the daemon?")
    return int(found.group(1))


def use_it():
    expect("redis-cli SET", "OK", redis_cli("SET", "greeting", "hello"))
    before = hits()
    for _ in range(READS_MAX):
        expect("redis-cli GET", "hello", redis_cli("GET", "greeting"))
        if hits() > before:
            print("good: a read was answered by the daemon itself")
            return
    raise Failed(f"none of {READS_MAX} reads of one key was a hit in INFO madcache")


def end_group(process):
    """Ends what the block started: its whole process group, which is ours alone."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, kind)
        except ProcessLookupError:
            break
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline and group_lives(process):
            time.sleep(0.05)
    process.wait()


def group_lives(process):
    process.poll()
    try:
        os.killpg(process.pid, 0)
        return True
    except ProcessLookupError:
        return False


def run_block(block, place, logs):
    script = place / "readme-block.sh"
    script.write_text(block)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MADCACHE_", "REDIS_URL", "CARGO_TARGET"))}
    with (logs / "block.log").open("wb") as output:
        process = subprocess.Popen(
            ["bash", "-e", str(script)], cwd=place, env=environment, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        wait_for_daemon(process)
        use_it()
    except (Failed, subprocess.TimeoutExpired):
        print((logs / "block.log").read_text(errors="replace")[-4000:])
        raise
    finally:
        end_group(process)


def end_server_of_block(port):
    """The block's own redis-server may have left its process group; the port was free before, so it is the block's."""
    if answers_ping(port):
        redis_cli("-p", str(port), "SHUTDOWN", "NOSAVE")


def check(logs):
    block = first_block((ROOT / "README.md").read_text(encoding="utf-8"))
    port = upstream_port(block)
    for wanted in (DAEMON_PORT, port):
        if not free_of_listeners(wanted):
            raise Failed(f"port {wanted} must be free for this: end what listens on 127.0.0.1:{wanted}, then try again")
    with tempfile.TemporaryDirectory(prefix="madcache-readme-") as place:
        copy_tracked_files(pathlib.Path(place))
        if re.search(r"^\s*redis-server\b", block, re.MULTILINE):
            try:
                run_block(block, pathlib.Path(place), logs)
            finally:
                end_server_of_block(port)
        else:
            with RedisServer(logs / "redis.log", port):
                run_block(block, pathlib.Path(place), logs)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--logs", type=pathlib.Path, required=True)
    logs = parser.parse_args().logs.resolve()
    logs.mkdir(parents=True, exist_ok=True)
    try:
        check(logs)
    except (Failed, NotStarted, subprocess.TimeoutExpired) as failure:
        print(f"readme: {failure}")
        print("0 passed, 1 failed")
        return 1
    print("1 passed, 0 failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
