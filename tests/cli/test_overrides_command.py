"""`crdtbucket overrides`: gives limits of keys to a node, signed where the caller has a key."""

from __future__ import annotations

import json
from pathlib import Path

from crdtbucket import BucketSpec, Limiter, MeshConfig
from crdtbucket.mesh.links.node_key import NodeKey
from tests.cli.fake_node import TOKEN, fake_node, run
from tests.http.serving import API, serving


async def test_limits_are_set_listed_and_removed(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    async with serving(Limiter([API, BucketSpec("premium", 1000, 10)]), admin_token=TOKEN) as node:
        options = ("--url", node.url, "--token-file", str(token))

        async def overrides(*words: str) -> tuple[int, str]:
            done = await run("overrides", *words, *options)
            return done.exit_code, done.output.strip()

        assert await overrides("list") == (0, "no limit is given to any key")
        assert await overrides("set", "api", "a/b", "premium") == (0, "done")
        assert await overrides("set", "api", "a/b", "premium") == (
            0, "nothing changed: the key has this limit already",
        )  # fmt: skip
        assert await overrides("set", "api", "c", "50/s") == (0, "done")
        assert node.limiter.bucket("api").peek("a/b").limit == 1000
        assert await overrides("list") == (0, "api  a/b  premium\napi  c  50/s")
        status, text = await overrides("list", "--json", "--bucket", "api")
        assert [one["key"] for one in json.loads(text)] == ["a/b", "c"]
        assert (status, await overrides("list", "--bucket", "premium")) == (
            0, (0, "no limit is given to any key"),
        )  # fmt: skip
        assert await overrides("remove", "api", "c", "--json") == (0, '{"new": true}')
        assert await overrides("remove", "api", "c") == (
            0, "nothing changed: the key has no limit of its own",
        )  # fmt: skip
        assert node.limiter.bucket("api").peek("c").limit == 100
        done = await run("overrides", "set", "api", "a", "gold", *options)
        assert "neither a bucket nor a rate" in str(done.exception)


async def test_a_page_of_another_shape_lists_what_can_be_read() -> None:
    page = {"overrides": [7, {"bucket": "api", "key": "a", "limit": "50/s"}], "next": None}
    async with fake_node(GET_admin_overrides=page) as node:
        done = await run("overrides", "list", "--url", node.url, CRDTBUCKET_TOKEN=TOKEN)
        assert (done.exit_code, done.output) == (0, "api  a  50/s\n")


async def test_an_operator_s_key_signs_for_a_mesh(tmp_path: Path) -> None:
    operator, file, token = NodeKey.make(), tmp_path / "ops.pem", tmp_path / "token"
    file.write_bytes(operator.pem())
    token.write_text(TOKEN)
    mesh = MeshConfig(
        listen="127.0.0.1:0", secret="a secret of these tests", mesh_name="blue",
        operator_keys=[operator.fingerprint],
    )  # fmt: skip
    async with serving(Limiter([API], node="eu-1", mesh=mesh), admin_token=TOKEN) as node:
        options = ("--url", node.url, "--token-file", str(token))
        done = await run("overrides", "set", "api", "a", "50/s", *options)
        assert "`crdtbucket overrides set BUCKET KEY LIMIT --key FILE` does" in str(done.exception)
        signed = (*options, "--key", str(file), "--mesh-name", "blue")
        done = await run("overrides", "set", "api", "a", "50/s", *signed, "--counter", "5")
        assert done.output == "done\n"
        assert node.limiter.bucket("api").of("a").spec.capacity == 50
        done = await run("overrides", "remove", "api", "a", *signed, "--counter", "4")
        assert "a later order holds" in str(done.exception)
        done = await run("overrides", "remove", "api", "a", *signed)
        assert done.output == "done\n"
        assert node.limiter.bucket("api").of("a").spec.capacity == 100
        done = await run("overrides", "set", "api", "a", "5/s", *options, "--key", f"{file}x")
        assert "cannot be read" in done.output + str(done.exception)
