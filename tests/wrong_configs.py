"""Wrong configurations, and what a user is told about each: place, path, fault, fix.

The secrets of the environment are `hunter2` and a longer one; no message may hold them.
"""

from __future__ import annotations

ENV = {"SECRET": "hunter2", "LONG": "hunter2" * 20, "BYTES": "\udcffhunter2"}

GRAMMAR = (
    'write "<tokens>/<interval>" with an optional burst: "100/minute", "10/s burst 20", '
    '"5 per second", "200 per 2 hours" or "100/15m"'
)
REFERENCES = "write ${env:NAME}, ${env:NAME:-default} or ${file:/path}, and $${ for a plain ${"

SHELL = "write ${env:NAME}; a value that begins so may come from there, or from ${file:}"

WRONG: dict[str, tuple[str, list[str]]] = {
    "variables_of_a_shell": (
        (
            "node: $HOST\nservices: {a: {limit: 1/s}}\nmesh:\n  listen: $HOST:7946\n"
            "  peers: [$PEER_1:7946]\n  secret: $MESH_SECRET\n  state_dir: $HOME/limits\n"
        ),
        [
            f"1:7: node: begins with $ and a name, which is not replaced ({SHELL})",
            f"4:11: mesh.listen: begins with $ and a name, which is not replaced ({SHELL})",
            f"5:11: mesh.peers[0]: begins with $ and a name, which is not replaced ({SHELL})",
            f"6:11: mesh.secret: begins with $ and a name, which is not replaced ({SHELL})",
            f"7:14: mesh.state_dir: begins with $ and a name, which is not replaced ({SHELL})",
        ],
    ),
    "a_bucket_without_a_name": (
        "services:\n  '': {limit: 1/s}\n  [a]: {limit: 1/s}\n",
        [
            "2:3: services: this key is empty (write a name)",
            "3:3: services: this key is not text (write a name)",
        ],
    ),
    "unknown_top": (
        "servces: {}\n",
        [
            "1:1: servces: unknown key 'servces' (did you mean 'services'?)",
        ],
    ),
    "unknown_under_openclaw": (
        "openclaw:\n  ratings: {}\n",
        [
            "2:3: openclaw.ratings: unknown key 'ratings' (did you mean 'rating'?)",
        ],
    ),
    "unknown_at_the_top": (
        (
            "redis: {url: redis://a}\nlimits: {}\nstate_dir: /var/lib/limits\non_outage: deny\n"
            "limit: 5/s\nsecret: x\nconsistency: strong\n"
        ),
        [
            (
                "1:1: redis: unknown key 'redis' "
                "(write it as rating: {bucket_backend: {connection: ...}})"
            ),
            "2:1: limits: unknown key 'limits' (write it as services: ...)",
            "3:1: state_dir: unknown key 'state_dir' (write it as mesh: {state_dir: ...})",
            "4:1: on_outage: unknown key 'on_outage' (write it as rating: {on_outage: ...})",
            "5:1: limit: unknown key 'limit' (write it as services: {NAME: {limit: ...}})",
            "6:1: secret: unknown key 'secret' (write it as mesh: {secret: ...})",
            "7:1: consistency: unknown key 'consistency' (write it as rating: {consistency: ...})",
        ],
    ),
    "one_level_too_high": (
        "services:\n  a: {limit: 1/s, capacity: 5, slots: 3}\n",
        [
            (
                "2:19: services.a.capacity: unknown key 'capacity' "
                "(write it as bucket: {capacity: ...})"
            ),
            ("2:32: services.a.slots: unknown key 'slots' (write it as concurrency: {slots: ...})"),
        ],
    ),
    "keys_with_dots": (
        "mesh.tls.ca: ca.pem\nservices:\n  a.b:\n    bucket.capacity: 5\n    limit: 1/s\n",
        [
            "1:1: mesh.tls.ca: unknown key 'mesh.tls.ca' (write it as mesh: {tls: {ca: ...}})",
            (
                "4:5: services.a.b.bucket.capacity: unknown key 'bucket.capacity' "
                "(write it as bucket: {capacity: ...})"
            ),
        ],
    ),
    "a_limit_in_place_of_a_bucket": (
        "services:\n  a:\n    bucket: 1/s\n",
        [
            (
                "3:13: services.a.bucket: must be a mapping (write `limit:` in place of `bucket:`, "
                "on a line of its own that is indented)"
            ),
        ],
    ),
    "no_space_after_a_colon": (
        "services:\n  a:\n    limit:1/s\nmesh:\n  listen:127.0.0.1:7946\n",
        [
            "3:5: services.a: must be a mapping (put a space after the colon)",
            "5:3: mesh: must be a mapping (put a space after the colon)",
        ],
    ),
    "unknown_rating": (
        "rating:\n  enabeld: true\n",
        [
            "2:3: rating.enabeld: unknown key 'enabeld' (did you mean 'enabled'?)",
        ],
    ),
    "unknown_bucket_key": (
        "services:\n  a:\n    bucket:\n      capacity: 5\n      refill-rate: 1\n",
        [
            (
                "5:7: services.a.bucket.refill-rate: unknown key 'refill-rate' (did you mean "
                "'refill_rate'?)"
            ),
        ],
    ),
    "unknown_mesh_key": (
        "mesh:\n  gossip: 1s\n",
        [
            ("2:3: mesh.gossip: unknown key 'gossip' (did you mean 'gossip_interval'?)"),
        ],
    ),
    "unknown_far": (
        "services:\n  a:\n    limit: 1/s\n    zzz: 1\n",
        [
            (
                "4:5: services.a.zzz: unknown key 'zzz' (known here: bucket, calendar, "
                "concurrency, consistency, keys, limit, on_outage, shadow)"
            ),
        ],
    ),
    "missing_capacity": (
        "services:\n  a:\n    bucket:\n      refill_rate: 1\n",
        [
            "3:5: services.a.bucket.capacity: capacity is missing (add capacity: with its value)",
        ],
    ),
    "blank_capacity": (
        "services:\n  a:\n    bucket:\n      capacity:\n      refill_rate: 1\n",
        [
            "4:7: services.a.bucket.capacity: capacity is blank (add capacity: with its value)",
        ],
    ),
    "capacity_zero": (
        "services:\n  a:\n    bucket:\n      capacity: 0\n      refill_rate: 1\n",
        [
            "4:17: services.a.bucket.capacity: capacity is 0 (write a whole number from 1 to 2^53)",
        ],
    ),
    "capacity_float": (
        "services:\n  a:\n    bucket: {capacity: 1e4, refill_rate: 1}\n",
        [
            (
                "3:24: services.a.bucket.capacity: capacity is 10000.0 (write a whole number "
                "from 1 to 2^53)"
            ),
        ],
    ),
    "capacity_bool": (
        "services:\n  a:\n    bucket: {capacity: true, refill_rate: 1}\n",
        [
            (
                "3:24: services.a.bucket.capacity: capacity is True (write a whole number from 1 "
                "to 2^53)"
            ),
        ],
    ),
    "rate_negative": (
        "services:\n  a:\n    bucket: {capacity: 1, refill_rate: -1}\n",
        [
            (
                "3:40: services.a.bucket.refill_rate: refill_rate is -1 (write a whole number "
                "from 1 to 2^53)"
            ),
        ],
    ),
    "rate_too_fast": (
        "services:\n  a:\n    bucket: {capacity: 1, refill_rate: 2, refill_interval: 1ns}\n",
        [
            (
                "3:40: services.a.bucket.refill_rate: refill_rate is 2 in 1 ns (at most "
                "1,000,000,000 tokens a second; lower it or lengthen refill_interval)"
            ),
        ],
    ),
    "rate_too_slow": (
        "services:\n  a:\n    bucket: {capacity: 1, refill_rate: 1, refill_interval: 31d}\n",
        [
            (
                "3:40: services.a.bucket.refill_rate: refill_rate is 1 in 2678400000000000 ns "
                "(at least one token in 30 days; raise it or shorten refill_interval)"
            ),
        ],
    ),
    "span_too_long": (
        "services:\n  a:\n    bucket: {capacity: 9007199254740992, refill_rate: 1}\n",
        [
            (
                "3:24: services.a.bucket.capacity: capacity 9007199254740992 and max_debt "
                "9007199254740992 take over 146 years to refill (lower capacity or max_debt, or "
                "raise refill_rate)"
            ),
        ],
    ),
    "interval_unit": (
        (
            "services:\n"
            "  a:\n"
            "    bucket: {capacity: 1, refill_rate: 1, refill_interval: 1 fortnight}\n"
        ),
        [
            (
                "3:60: services.a.bucket.refill_interval: duration is '1 fortnight' (no unit is "
                '\'fortnight\'; write a number and a unit: "250ms", "1s", "5m", "2h" or "1d")'
            ),
        ],
    ),
    "interval_zero": (
        "services:\n  a:\n    bucket: {capacity: 1, refill_rate: 1, refill_interval: 0}\n",
        [
            (
                "3:60: services.a.bucket.refill_interval: refill_interval is 0 (it must be above "
                "0 and at most 366 days)"
            ),
        ],
    ),
    "table_full": (
        "services:\n  a:\n    bucket: {capacity: 1, refill_rate: 1, on_table_full: alow}\n",
        [
            "3:58: services.a.bucket.on_table_full: 'alow' is no choice (did you mean 'allow'?)",
        ],
    ),
    "limit_grammar": (
        "services:\n  a:\n    limit: fast\n",
        [
            "3:12: services.a.limit: limit is 'fast' (" + GRAMMAR + ")",
        ],
    ),
    "limit_month": (
        "services:\n  a:\n    limit: 10/month\n",
        [
            (
                "3:12: services.a.limit: limit is '10/month' (a month has no fixed length; write "
                'days, such as "1000/30d", or give the bucket a calendar)'
            ),
        ],
    ),
    "rate_below_one": (
        "services:\n  a:\n    bucket: {capacity: 1, refill_rate: 0.5}\n",
        [
            (
                "3:40: services.a.bucket.refill_rate: refill_rate is 0.5 (write a whole number "
                "from 1 to 2^53; half a token a second is a refill_rate of 1 with a "
                'refill_interval of "2s")'
            ),
        ],
    ),
    "both_forms": (
        "services:\n  a:\n    limit: 1/s\n    bucket: {capacity: 1, refill_rate: 1}\n",
        [
            "2:3: services.a: has both bucket and limit (keep one of them)",
        ],
    ),
    "no_form": (
        "services:\n  a:\n",
        [
            '2:3: services.a: has no bucket (add bucket: or limit: "100/minute burst 20")',
        ],
    ),
    "service_list": (
        "services:\n  - a\n",
        [
            (
                "2:3: services: must be a mapping (write keys and values, indented below it, in "
                "place of the list)"
            ),
        ],
    ),
    "bucket_at_the_top": (
        (
            "node: a\napi:\n  limit: 100/hour\n"
            "openclaw:\n  v1.web: {keys: {a*: 1/s}}\n  default: {limit: 1/s}\n"
        ),
        [
            ("2:1: api: unknown key 'api' (if it is a bucket, write it below services:, indented)"),
            (
                "5:3: openclaw.v1.web: unknown key 'v1.web' (if it is a bucket, write it below "
                "services:, indented)"
            ),
            "6:3: openclaw.default: unknown key 'default' (did you mean 'defaults'?)",
        ],
    ),
    "service_text": (
        "services:\n  a: 100/s\n",
        [
            (
                "2:6: services.a: must be a mapping (write `limit:` before it, on a line of its "
                "own that is indented)"
            ),
        ],
    ),
    "same_name": (
        "services:\n  a-b: {limit: 1/s}\n  a‑b: {limit: 2/s}\n",
        [
            (
                "3:3: services.a‑b: is given twice (services.a-b has the same name, as every "
                "kind of hyphen is one; rename one)"
            ),
        ],
    ),
    "name_control": (
        'services:\n  "a\\u0007b": {limit: 1/s}\n',
        [
            "2:3: services.a\\x07b: name is 'a\\x07b' (remove the control character '\\x07')",
        ],
    ),
    "duplicate_key": (
        "services:\n  a: {limit: 1/s}\n  a: {limit: 2/s}\n",
        [
            "3:3: services.a: key 'a' is given twice (it is also in line 2; keep one)",
        ],
    ),
    "consistency": (
        "rating:\n  consistency: stron\n",
        [
            "2:16: rating.consistency: 'stron' is no choice (did you mean 'strong'?)",
        ],
    ),
    "given_twice": (
        "openclaw:\n  rating:\n    consistency: strong\nrating:\n  consistency: eventual\n",
        [
            (
                "3:5: openclaw.rating.consistency: is given twice (it is also in line 5 as "
                "rating.consistency; keep one)"
            ),
        ],
    ),
    "enabled": (
        "rating:\n  enabled: maybe\n",
        [
            "2:12: rating.enabled: must be true or false (write true or false)",
        ],
    ),
    "backend_type": (
        "rating:\n  bucket_backend:\n    type: memcached\n",
        [
            "3:11: rating.bucket_backend.type: 'memcached' is no choice (known here: redis)",
        ],
    ),
    "port": (
        "rating:\n  bucket_backend:\n    type: redis\n    connection:\n      port: 70000\n",
        [
            (
                "5:13: rating.bucket_backend.connection.port: port is 70000 (write a whole "
                "number from 1 to 65535)"
            ),
        ],
    ),
    "password_number": (
        "rating:\n  bucket_backend:\n    connection:\n      password: 0123\n",
        [
            "4:17: rating.bucket_backend.connection.password: must be text (put it in quotes)",
        ],
    ),
    "node_number": (
        "node: 1\n",
        [
            "1:7: node: node is 1 (give a text of 1 to 200 characters)",
        ],
    ),
    "version_text": (
        "version: v2\n",
        ["1:10: version: version is 'v2' (write a whole number from 0 to 2^53)"],
    ),
    "version_negative": (
        "openclaw:\n  version: -1\n",
        ["2:12: openclaw.version: version is -1 (write a whole number from 0 to 2^53)"],
    ),
    "region_list": (
        "region: [eu]\n",
        [
            "1:1: region: region is ['eu'] (give a text of 1 to 200 characters)",
        ],
    ),
    "mesh_open": (
        "mesh:\n  listen: 0.0.0.0:7946\n",
        [
            (
                "2:11: mesh.listen: listen is '0.0.0.0:7946', which other machines can reach, "
                "and nothing authenticates them (set mesh.secret, or tls.cert, tls.key and "
                "tls.ca for mutual TLS, or listen on 127.0.0.1)"
            ),
        ],
    ),
    "mesh_listen": (
        "mesh:\n  listen: localhost\n",
        [
            (
                "2:11: mesh.listen: is 'localhost', which has no port (write \"host:port\", such "
                'as "10.0.0.5:7946")'
            ),
        ],
    ),
    "mesh_listen_url": (
        "mesh:\n  listen: http://127.0.0.1:7946\n",
        [
            (
                "2:11: mesh.listen: is 'http://127.0.0.1:7946', which is a URL (write "
                '"host:port", such as "10.0.0.5:7946")'
            ),
        ],
    ),
    "mesh_forget": (
        "mesh:\n  forget_after: 1s\n",
        [
            (
                "2:17: mesh.forget_after: is 1.0 (write seconds from 2 to 2592000, which is 30 "
                "days: 20 times gossip_interval, or more)"
            ),
        ],
    ),
    "mesh_peer": (
        "mesh:\n  peers:\n    - 10.0.0.1:7946\n    - 10.0.0.2\n",
        [
            (
                "4:7: mesh.peers[1]: is '10.0.0.2', which has no port (write \"host:port\", such "
                'as "10.0.0.5:7946")'
            ),
        ],
    ),
    "mesh_secret": (
        "mesh:\n  secret: [one, 2]\n",
        [
            "2:3: mesh.secret: must be text (put it in quotes)",
        ],
    ),
    "mesh_tls": (
        "mesh:\n  tls: {cert: a.pem}\n",
        [
            "2:3: mesh.tls: tls.key is missing (set tls.cert and tls.key together)",
        ],
    ),
    "mesh_tls_flat": (
        "mesh:\n  tls_ca: ca.pem\n",
        [
            "2:3: mesh.tls_ca: unknown key 'tls_ca' (write it as tls: {ca: ...})",
        ],
    ),
    "mesh_interval": (
        "mesh:\n  gossip_interval: 1m\n",
        [
            "2:20: mesh.gossip_interval: is 60.0 (write seconds from 0.01 to 10)",
        ],
    ),
    "mesh_interval_in_milliseconds": (
        "mesh:\n  gossip_interval: 100\n  forget_after: '900000000'\n",
        [
            (
                "2:20: mesh.gossip_interval: is 100.0 (write seconds from 0.01 to 10, or "
                '"100ms" for milliseconds)'
            ),
            (
                "3:17: mesh.forget_after: is 900000000.0 (write seconds from 1 to 2592000, which "
                'is 30 days, or "900000000ms" for milliseconds)'
            ),
        ],
    ),
    "mesh_peers_map": (
        "mesh:\n  peers: {a: b}\n",
        [
            "2:3: mesh.peers: must be a list (write one entry a line, each after a dash)",
        ],
    ),
    "env_unset": (
        "node: ${env:NODE_NAME}\n",
        [
            (
                "1:7: node: the environment variable NODE_NAME is not set (set it, or write "
                "${env:NODE_NAME:-default})"
            ),
        ],
    ),
    "env_no_scheme": (
        "node: ${NODE_NAME}\n",
        [
            "1:7: node: ${NODE_NAME} has no source (did you mean ${env:NODE_NAME}?)",
        ],
    ),
    "env_unclosed": (
        "node: ${env:NODE_NAME\n",
        [
            "1:7: node: '${env:NODE_NAME' has no closing brace (" + REFERENCES + ")",
        ],
    ),
    "env_scheme": (
        "node: ${vault:x}\n",
        [
            "1:7: node: ${vault:x} is not known (" + REFERENCES + ")",
        ],
    ),
    "file_missing": (
        "mesh:\n  secret: ${file:/nonexistent/secret}\n",
        [
            (
                "2:11: mesh.secret: the file /nonexistent/secret cannot be read: No such file or "
                "directory (check path and rights)"
            ),
        ],
    ),
    "secret_misplaced_long": (
        "services:\n  a:\n    bucket: {capacity: '${env:LONG}', refill_rate: 1}\n",
        [
            (
                "3:24: services.a.bucket.capacity: capacity is ${env:LONG} (write a whole number "
                "from 1 to 2^53)"
            ),
        ],
    ),
    "secret_as_limit": (
        "services:\n  a:\n    limit: ${env:SECRET}\n",
        [
            "3:12: services.a.limit: limit is '${env:SECRET}' (" + GRAMMAR + ")",
        ],
    ),
    "secret_as_choice": (
        "rating:\n  consistency: ${env:SECRET}\n",
        [
            "2:16: rating.consistency: '${env:SECRET}' is no choice (known here: eventual, strong)",
        ],
    ),
    "secret_as_peer": (
        "mesh:\n  peers: ['${env:SECRET}']\n",
        [
            (
                "2:11: mesh.peers[0]: is '${env:SECRET}', which has no port (write \"host:port\", "
                'such as "10.0.0.5:7946")'
            ),
        ],
    ),
    "yaml_syntax": (
        "services:\n  a: [1\nb: 2\n",
        [
            (
                "3:2: not valid YAML: while parsing a flow sequence expected ',' or ']', but got "
                "':' (correct the YAML here or just above)"
            ),
        ],
    ),
    "yaml_tab": (
        "services:\n\ta: 1\n",
        [
            (
                "2:1: not valid YAML: while scanning for the next token found character '\\t' "
                "that cannot start any token (indent with spaces: YAML has no tabs there)"
            ),
        ],
    ),
    "yaml_quotes_open": (
        'node: "eu-1\nservices: {a: {limit: 1/s}}\n',
        [
            (
                "1:7: not valid YAML: while scanning a quoted scalar found unexpected end of "
                "stream (close the quotes that are opened here)"
            ),
        ],
    ),
    "yaml_bracket_open": (
        "node: eu-1\nservices: {a: {limit: 1/s}\n",
        [
            (
                "2:11: not valid YAML: while parsing a flow mapping expected ',' or '}', but got "
                "'<stream end>' (close the bracket that is opened here)"
            ),
        ],
    ),
    "yaml_sign": (
        "mesh:\n  secret: @home and away\n",
        [
            (
                "2:11: not valid YAML: while scanning for the next token found character '@' that "
                "cannot start any token (put the value in quotes)"
            ),
        ],
    ),
    "yaml_colon": (
        "mesh:\n  listen:127.0.0.1:7946\n  peers: []\n",
        [
            (
                "3:8: not valid YAML: mapping values are not allowed here (put a space after each "
                "colon, here and just above; a value with a colon and a space needs quotes)"
            ),
        ],
    ),
    "yaml_two_documents": (
        "node: a\n---\nnode: b\n",
        [
            (
                "2:1: not valid YAML: expected a single document in the stream but found another "
                "document (correct the YAML here or just above)"
            ),
        ],
    ),
    "yaml_tag": (
        "node: !!python/object:os.system x\n",
        [
            (
                "1:1: node: the tag tag:yaml.org,2002:python/object:os.system is not used here "
                "(remove the tag)"
            ),
        ],
    ),
    "surrogate": (
        'mesh:\n  secret: "\\ud800hunter2"\n',
        [
            (
                "2:3: mesh.secret: holds half a surrogate pair (write the character itself, "
                "not as two escapes)"
            ),
        ],
    ),
    "env_bytes": (
        "node: ${env:BYTES}\n",
        [
            "1:7: node: the environment variable BYTES is not UTF-8 (set it to text)",
        ],
    ),
    "yaml_merge": (
        "services:\n  a: {<<: {limit: 1/s}}\n",
        [
            '2:3: services.a: has no bucket (add bucket: or limit: "100/minute burst 20")',
            "2:7: services.a.<<: merge keys are not used (write the keys out)",
        ],
    ),
    "top_list": (
        "- a\n",
        [
            (
                "1:1: must be a mapping (write keys and values, indented below it, in place of the "
                "list)"
            ),
        ],
    ),
    "section_text": (
        "rating: strong\n",
        [
            "1:9: rating: must be a mapping (write keys and values, indented below it)",
        ],
    ),
    "rollout_without_stages": (
        "version: 2\nrollout: {hold: 10m}\n",
        ["2:1: rollout: has no stages (add stages: [{percent: 10}, {percent: 100}])"],
    ),
    "rollout_no_stage": (
        "version: 2\nrollout:\n  stages: []\n",
        ["3:3: rollout.stages: has 0 stages (write 1 to 100, each after a dash)"],
    ),
    "rollout_stage_text": (
        "version: 2\nrollout:\n  stages: eu\n",
        ["3:11: rollout.stages: must be a list (write one entry a line, each after a dash)"],
    ),
    "rollout_stage_number": (
        "version: 2\nrollout:\n  stages: [10]\n",
        ["3:12: rollout.stages[0]: must be a mapping (write keys and values, indented below it)"],
    ),
    "rollout_unknown": (
        "version: 2\nrollout:\n  stages: [{}]\n  holds: 10m\n",
        ["4:3: rollout.holds: unknown key 'holds' (did you mean 'hold'?)"],
    ),
    "rollout_unknown_in_stage": (
        "version: 2\nrollout:\n  stages:\n    - region: eu\n",
        ["4:7: rollout.stages[0].region: unknown key 'region' (did you mean 'regions'?)"],
    ),
    "rollout_percent": (
        "version: 2\nrollout:\n  stages:\n    - percent: 0\n    - percent: 101\n",
        [
            "4:16: rollout.stages[0].percent: percent is 0 (write a whole number from 1 to 100)",
            "5:16: rollout.stages[1].percent: percent is 101 (write a whole number from 1 to 100)",
        ],
    ),
    "envoy_incomplete": (
        "envoy:\n  descriptors:\n    - bucket: a\n    - entries: [x]\n",
        [
            (
                "3:5: envoy.descriptors[0]: has no entries (write {entries: [route=chat, user], "
                "bucket: api})"
            ),
            (
                "3:5: envoy.descriptors[1]: has no bucket (write {entries: [route=chat, user], "
                "bucket: api})"
            ),
        ],
    ),
    "envoy_entries": (
        "envoy: {descriptors: [{bucket: a, entries: [=x]}, {bucket: a, entries: []}]}\n",
        [
            (
                "1:35: envoy.descriptors[0].entries: has '=x', which has no name (write names, "
                "with a value or without, such as [route=chat, user])"
            ),
            (
                "1:63: envoy.descriptors[1].entries: has 0 entries (write names, with a value or "
                "without, such as [route=chat, user]: 1 to 32)"
            ),
        ],
    ),
    "envoy_bucket": (
        (
            "services: {chat: {limit: 5/s}, jobs: {concurrency: {slots: 3}}}\n"
            "envoy: {descriptors: [{bucket: caht, entries: [x]}, {bucket: jobs, entries: [y]}]}\n"
        ),
        [
            "2:32: envoy.descriptors[0].bucket: 'caht' is no service (did you mean 'chat'?)",
            (
                "2:62: envoy.descriptors[1].bucket: 'jobs' is of kind concurrency and has no "
                "tokens (known here: chat)"
            ),
        ],
    ),
    "calendars": (
        (
            "services:\n"
            "  a: {calendar: {limit: 5, per: year}}\n"
            "  b: {calendar: {limit: 5, time_zone: Europe/Berln}}\n"
            "  c: {calendar: {per: day}}\n"
            "  d: {calendar: {limit: 5}, limit: 5/s}\n"
            "  e: {calendar: {limit: 5}, consistency: strong}\n"
            "  f: {calendar: {limit: 5}, keys: {x: 5/s}}\n"
        ),
        [
            ("2:33: services.a.calendar.per: 'year' is no choice (known here: day, month, week)"),
            (
                "3:39: services.b.calendar.time_zone: no time zone is called 'Europe/Berln' (write "
                'a name of the IANA database, such as "Europe/Berlin", or "UTC")'
            ),
            "4:7: services.c.calendar.limit: limit is missing (add limit: with its value)",
            "5:3: services.d: has both calendar and a rate (keep one of them)",
            (
                "6:42: services.e.consistency: a calendar bucket cannot be strong (write eventual: "
                "in Redis levels refill steadily, and a quota of a period does not)"
            ),
            (
                "7:29: services.f.keys: the override for 'x' has another period than its bucket "
                "(give both the same period (BucketSpec.calendar), or neither)"
            ),
        ],
    ),
    "envoy_floor": (
        (
            "rating: {consistency: strong, bucket_backend: {connection: {host: h}}}\n"
            "services: {a: {limit: 5/s}, b: {limit: 5/s, consistency: eventual}}\n"
            "envoy:\n"
            "  descriptors:\n"
            "    - {entries: [x], bucket: a, floor: batch}\n"
            "    - {entries: [y], bucket: b, floor: normal}\n"
        ),
        [
            (
                "5:40: envoy.descriptors[0].floor: 'a' is strong (leave it out: only eventual "
                "buckets of tokens have floors)"
            ),
        ],
    ),
    "envoy_floors": (
        (
            "services: {a: {limit: 5/s}}\n"
            "envoy:\n"
            "  descriptors:\n"
            "    - {entries: [x], bucket: a, floor: urgent}\n"
            "    - {entries: [y], bucket: a, floor: 100%}\n"
            "    - {entries: [z], bucket: a, floor: true}\n"
        ),
        [
            f"{line}:40: envoy.descriptors[{line - 4}].floor: floor is {value} (write a share of "
            "the capacity from 0 up to 1, or one of critical, normal, batch, smooth)"
            for line, value in ((4, "'urgent'"), (5, "1.0"), (6, "True"))
        ],
    ),
    "envoy_covered": (
        "envoy: {descriptors: [{bucket: a, entries: [x]}, {bucket: a, entries: [x=1]}]}\n",
        [
            (
                "1:9: envoy.descriptors: rule 1 takes all that rule 2 is about (put the narrower "
                "one first, or remove it)"
            ),
        ],
    ),
    "rollout_no_region": (
        "version: 2\nrollout:\n  stages:\n    - regions: []\n",
        ["4:7: rollout.stages[0].regions: names no region (name one, or leave it out for all)"],
    ),
    "rollout_region_text": (
        "version: 2\nrollout:\n  stages:\n    - regions: eu\n",
        [
            (
                "4:16: rollout.stages[0].regions: must be a list (write one entry a line, "
                "each after a dash)"
            ),
        ],
    ),
    "rollout_takes_back_keys": (
        "version: 2\nrollout:\n  stages:\n    - percent: 50\n    - percent: 20\n",
        [
            (
                "3:3: rollout.stages: stage 2 (20% of the keys in all regions) takes back "
                "some of stage 1 (50% of the keys in all regions) (let each stage name the "
                "regions of the one before, and no smaller percent)"
            ),
        ],
    ),
    "rollout_takes_back_a_region": (
        "version: 2\nrollout:\n  stages:\n    - regions: [eu]\n    - regions: [us]\n",
        [
            (
                "3:3: rollout.stages: stage 2 (all keys in us) takes back some of stage 1 "
                "(all keys in eu) (let each stage name the regions of the one before, and no "
                "smaller percent)"
            ),
        ],
    ),
    "rollout_twice_the_same": (
        "version: 2\nrollout:\n  stages: [{}, {percent: 100}]\n",
        [
            (
                "3:3: rollout.stages: stages 1 and 2 both reach all keys in all regions "
                "(remove one of them)"
            ),
        ],
    ),
    "rollout_hold": (
        "version: 2\nrollout:\n  stages: [{}]\n  hold: soon\n",
        [
            (
                "4:9: rollout.hold: duration is 'soon' (write a number and a unit: \"250ms\", "
                '"1s", "5m", "2h" or "1d")'
            ),
        ],
    ),
    "rollout_hold_0": (
        "version: 2\nrollout:\n  stages: [{}]\n  hold: 0s\n",
        ["4:9: rollout.hold: is 0 (write how long each stage lasts, such as 10m)"],
    ),
    "rollout_rise": (
        "version: 2\nrollout:\n  stages: [{}]\n  halt_on: {denied_ratio_rise: 2}\n",
        [
            (
                "4:32: rollout.halt_on.denied_ratio_rise: is 2 (write a share above 0 and up "
                'to 1, such as 0.1 or "10%")'
            ),
        ],
    ),
    "rollout_halt_on": (
        "version: 2\nrollout:\n  stages: [{}]\n  halt_on: {denials: 20%}\n",
        ["4:13: rollout.halt_on.denials: unknown key 'denials' (known here: denied_ratio_rise)"],
    ),
    "rollout_without_version": (
        "rollout:\n  stages: [{}]\n",
        [
            (
                "1:1: rollout: needs a version, so that nodes know which is newer (add version: "
                "with a whole number that is higher than the last one)"
            ),
        ],
    ),
    "too_many_buckets": (
        "services:\n" + "".join(f"  b{number}: {{limit: 1/s}}\n" for number in range(1_002)),
        [
            (
                "1002:3: services.b1000: is one of more than 1000 buckets and overrides (at most "
                "1000 buckets and overrides, of which a calendar bucket counts for four; a glob "
                "can stand for a group of keys)"
            ),
        ],
    ),
    "too_many_plans": (
        "services:\n  a:\n    limit: 1/s\n    keys:\n"
        + "".join(f"      k{number}: 2/s\n" for number in range(999))
        + "  b: {limit: 1/s}\n",
        [
            (
                "1004:3: services.b: is one of more than 1000 buckets and overrides (at most "
                "1000 buckets and overrides, of which a calendar bucket counts for four; a glob "
                "can stand for a group of keys)"
            ),
        ],
    ),
}
